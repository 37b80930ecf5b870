//! CloudEvents 1.0.2 over HTTP: how a message is one, and how attributes travel in headers.
//!
//! An event is kept as any other message: its data is the body, `datacontenttype` the content type,
//! and its other attributes are attributes that begin with `ce-`. So whatever mode it came in, it
//! leaves in the mode that is asked for.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use messaging::frame::Envelope;
use serde_json::value::{RawValue, to_raw_value};

use crate::handlers::{is_json, rfc3339};

/// The content type of one event as a JSON document.
pub(crate) const STRUCTURED: &str = "application/cloudevents+json";
/// What every event has.
pub(crate) const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];
/// The only version there is.
pub(crate) const VERSION: &str = "1.0";

const PREFIX: &str = api::headers::CLOUD_EVENT_PREFIX;

/// The attributes of an event, without its data and what type that has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event(BTreeMap<String, String>);

impl Event {
    /// A message as an event. One that is none is given what an event must have: `id`, the topic as
    /// its source, and a type.
    pub(crate) fn of(envelope: &Envelope, (topic, id, at_ms): (&str, &str, u64)) -> Self {
        let attributes = envelope.attributes.iter();
        let own = attributes.clone().filter_map(|(name, value)| {
            Some((name.strip_prefix(PREFIX)?.to_owned(), value.clone()))
        });
        let mut event: BTreeMap<String, String> = own.collect();
        if !event.contains_key("specversion") {
            let made = [
                ("specversion", VERSION.to_owned()),
                ("id", id.to_owned()),
                ("source", format!("/v1/topics/{topic}")),
                ("type", "quartet.message".to_owned()),
                ("time", rfc3339(at_ms)),
            ];
            event.extend(made.map(|(name, value)| (name.to_owned(), value)));
        }
        // Its other attributes are extensions, where they can have that name.
        for (name, value) in attributes {
            if is_name(name) && !["data", "datacontenttype"].contains(&&**name) {
                event.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        if let Some(key) = &envelope.key {
            event.entry("partitionkey".to_owned()).or_insert_with(|| key.clone());
        }
        Self(event)
    }

    /// In binary mode.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (String, String)> {
        self.0.iter().map(|(name, value)| (format!("{PREFIX}{name}"), encode(value)))
    }

    /// In structured mode.
    pub(crate) fn document(&self, content_type: &str, body: &[u8]) -> Bytes {
        let text = |text: &str| to_raw_value(text).expect("a string is JSON");
        let mut document: BTreeMap<&str, Box<RawValue>> = BTreeMap::new();
        for (name, value) in &self.0 {
            document.insert(name, text(value));
        }
        document.insert("datacontenttype", text(content_type));
        match std::str::from_utf8(body) {
            Ok("") => (),
            Ok(data) => {
                let json = || RawValue::from_string(data.to_owned()).ok();
                let json = is_json(content_type).then(json);
                match json {
                    Some(Some(json)) => document.insert("data", json),
                    // Says JSON and is none: as bytes, or it would be taken for JSON text.
                    Some(None) => document.insert("data_base64", text(&BASE64.encode(body))),
                    None => document.insert("data", text(data)),
                };
            }
            Err(_) => {
                document.insert("data_base64", text(&BASE64.encode(body)));
            }
        }
        serde_json::to_vec(&document).expect("a map of JSON is JSON").into()
    }
}

/// Whether an attribute of an event may be called this.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

/// A value as a header carries it: what is not printable ASCII, and space, quote and percent, as
/// percent-encoded UTF-8.
pub(crate) fn encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'"' | b'%' => write!(encoded, "%{byte:02X}").expect("a string takes everything"),
            b'!'..=b'~' => encoded.push(char::from(byte)),
            _ => write!(encoded, "%{byte:02X}").expect("a string takes everything"),
        }
    }
    encoded
}

/// The same back: quotes are taken off, then what is percent-encoded is decoded, once. `None` if
/// that is not UTF-8.
pub(crate) fn decode(value: &str) -> Option<String> {
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let unquoted = inner.map(|inner| {
        let mut text = String::with_capacity(inner.len());
        let mut chars = inner.chars();
        while let Some(char) = chars.next() {
            text.extend(if char == '\\' { chars.next() } else { Some(char) });
        }
        text
    });
    let bytes = unquoted.as_deref().unwrap_or(value).as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(content_type: &str, attributes: &[(&str, &str)]) -> Envelope {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Envelope {
            key: Some("k".to_owned()),
            content_type: content_type.to_owned(),
            attributes: attributes.iter().map(owned).collect(),
            dead_letter: None,
        }
    }

    #[test]
    fn values_survive_headers() {
        // The example of the HTTP binding.
        assert_eq!(encode("Euro € 😀"), "Euro%20%E2%82%AC%20%F0%9F%98%80");
        for value in ["Euro € 😀", "100%", "%41", "a\"b\\c", " ", "plain"] {
            assert_eq!(decode(&encode(value)).as_deref(), Some(value), "{value}");
        }
        assert_eq!(decode("%e2%82%ac").as_deref(), Some("€"));
        assert_eq!(decode(r#""a \"b\" %20""#).as_deref(), Some("a \"b\"  "));
        assert_eq!(decode("100%").as_deref(), Some("100%"));
        assert_eq!(decode("%2541").as_deref(), Some("%41"), "decoded once");
        assert_eq!(decode("%ff"), None);
    }

    #[test]
    fn a_message_that_is_no_event_becomes_one() {
        let envelope = envelope("text/plain", &[("kind", "x"), ("not-a-name", "y")]);
        let event = Event::of(&envelope, ("t", "msg_7_1", 0));
        let document: serde_json::Value =
            serde_json::from_slice(&event.document("text/plain", b"hello")).unwrap();
        let expected = serde_json::json!({
            "specversion": "1.0", "id": "msg_7_1", "source": "/v1/topics/t",
            "type": "quartet.message", "time": "1970-01-01T00:00:00.000Z", "kind": "x",
            "partitionkey": "k", "datacontenttype": "text/plain", "data": "hello",
        });
        assert_eq!(document, expected);
    }

    #[test]
    fn an_event_stays_what_it_was() {
        let own =
            [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "é")];
        let event = Event::of(&envelope("application/json", &own), ("t", "msg_7_1", 0));
        let headers: BTreeMap<_, _> = event.headers().collect();
        assert_eq!(headers["ce-id"], "1");
        assert_eq!(headers["ce-type"], "%C3%A9");
        assert!(!headers.contains_key("ce-time"));
        let text = |body: &[u8]| event.document("application/json", body);
        let exact = String::from_utf8(text(b"{\"a\": 1.0}").to_vec()).unwrap();
        assert!(exact.contains(r#""data":{"a": 1.0}"#), "{exact}");
        let broken = String::from_utf8(text(b"{").to_vec()).unwrap();
        assert!(broken.contains(r#""data_base64":"ew==""#), "{broken}");
    }
}
