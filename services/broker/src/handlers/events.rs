//! CloudEvents as requests bring them: one in headers, one as a document, or a batch of documents.

use std::collections::BTreeMap;

use api::problem::Code;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use chassis::problem::Problem;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::is_json;
use super::settings::invalid;
use crate::event::{self, REQUIRED, VERSION};
use crate::message::NewMessage;

const PREFIX: &str = api::headers::CLOUD_EVENT_PREFIX;

/// How a request carries events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// One, its attributes in headers; or no event at all.
    Binary,
    /// One JSON document.
    Structured,
    /// A JSON list of documents.
    Batch,
}

/// By content type, as the HTTP binding has it.
pub(super) fn mode(content_type: &str) -> Result<Mode, Problem> {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match &*essence {
        event::STRUCTURED => Ok(Mode::Structured),
        "application/cloudevents-batch+json" => Ok(Mode::Batch),
        other if other.starts_with("application/cloudevents") => {
            let detail = format!("`{other}` is not understood; send CloudEvents as JSON");
            Err(invalid(detail))
        }
        _ => Ok(Mode::Binary),
    }
}

/// Attributes that came as `ce-*` headers: those of an event if they say of which version, else the
/// sender's own.
pub(super) fn check_headers(attributes: &[(String, String)]) -> Result<(), Problem> {
    let own = attributes
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?.to_owned(), value.clone())));
    let own: BTreeMap<String, String> = own.collect();
    if !own.contains_key("specversion") {
        return Ok(());
    }
    if own.contains_key("datacontenttype") {
        return Err(invalid("leave ce-datacontenttype out: the Content-Type says it"));
    }
    check(&own)
}

/// One event as a document.
pub(super) fn structured(document: &[u8], defaults: &NewMessage) -> Result<NewMessage, Problem> {
    let fields = serde_json::from_slice(document).map_err(|error| unreadable(&error))?;
    read(fields, defaults)
}

/// A list of events; an error names its place in it.
pub(super) fn batch(
    document: &[u8],
    defaults: &NewMessage,
    max: usize,
) -> Result<Vec<NewMessage>, Problem> {
    let events: Vec<BTreeMap<String, Box<RawValue>>> =
        serde_json::from_slice(document).map_err(|error| unreadable(&error))?;
    if events.is_empty() {
        return Err(invalid("the batch is empty; send a list of at least one event"));
    }
    if max < events.len() {
        let detail = format!("a batch holds at most {max} messages; split it");
        return Err(Problem::new(Code::TooLarge, detail).with("max_messages", max));
    }
    let read = (1_u64..).zip(events).map(|(number, fields)| {
        read(fields, defaults).map_err(|problem| {
            let detail =
                format!("event {number}: {}; nothing was stored", problem.details().detail);
            Problem::new(problem.code(), detail).with("event", number)
        })
    });
    read.collect()
}

fn read(
    mut fields: BTreeMap<String, Box<RawValue>>,
    defaults: &NewMessage,
) -> Result<NewMessage, Problem> {
    // A member that is null is one that is not there; `data` may be null.
    let data = fields.remove("data");
    let data_base64 = fields.remove("data_base64");
    let mut own: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in fields {
        if let Some(value) = text(&name, &value)? {
            own.insert(name, value);
        }
    }
    check(&own)?;
    let content_type = own.remove("datacontenttype");
    let (body, content_type) = payload(data, data_base64, content_type)?;
    let key = defaults.key.clone().or_else(|| own.get("partitionkey").cloned());
    let is_own = |name: &str| name.strip_prefix(PREFIX).is_some_and(|name| own.contains_key(name));
    let rest = defaults.attributes.iter().filter(|(name, _)| !is_own(name)).cloned();
    let mut attributes: Vec<_> = rest.collect();
    attributes.extend(own.into_iter().map(|(name, value)| (format!("{PREFIX}{name}"), value)));
    Ok(NewMessage { key, content_type, attributes, body })
}

/// An attribute's value as text: strings, numbers and booleans are all there are.
fn text(name: &str, value: &RawValue) -> Result<Option<String>, Problem> {
    match value.get().as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'"') => serde_json::from_str(value.get()).map(Some).map_err(|e| unreadable(&e)),
        Some(b'{' | b'[') => Err(invalid(format!(
            "the attribute `{name}` is a list or object; attributes are strings, numbers or \
             booleans, and everything else belongs into `data`"
        ))),
        _ => Ok(Some(value.get().to_owned())),
    }
}

fn payload(
    data: Option<Box<RawValue>>,
    data_base64: Option<Box<RawValue>>,
    content_type: Option<String>,
) -> Result<(Bytes, String), Problem> {
    let json = || "application/json".to_owned();
    match (data, data_base64) {
        (Some(_), Some(_)) => Err(invalid("give at most one of `data` and `data_base64`")),
        (None, None) => Ok((Bytes::new(), content_type.unwrap_or_else(json))),
        (Some(data), None) => {
            let content_type = content_type.unwrap_or_else(json);
            // Text of another type is in a string; what is no string is JSON whatever is said.
            let text =
                (!is_json(&content_type)).then(|| serde_json::from_str::<String>(data.get()));
            let body = match text {
                Some(Ok(text)) => text,
                _ => String::from(Box::<str>::from(data)),
            };
            Ok((Bytes::from(body), content_type))
        }
        (None, Some(text)) => {
            let text = serde_json::from_str::<String>(text.get()).ok();
            let bytes = text.and_then(|text| BASE64.decode(text).ok());
            let wrong = || invalid("`data_base64` is not a string of standard base64 with padding");
            let bytes = bytes.ok_or_else(wrong)?;
            let content_type =
                content_type.unwrap_or_else(|| "application/octet-stream".to_owned());
            Ok((Bytes::from(bytes), content_type))
        }
    }
}

/// What makes attributes those of an event.
fn check(own: &BTreeMap<String, String>) -> Result<(), Problem> {
    for name in REQUIRED {
        if own.get(name).is_none_or(String::is_empty) {
            let all = "specversion, id, source and type";
            return Err(invalid(format!("the CloudEvent has no `{name}`; it needs {all}")));
        }
    }
    if own["specversion"] != VERSION {
        let found = &own["specversion"];
        return Err(invalid(format!("specversion is `{found}`; this broker takes `{VERSION}`")));
    }
    if let Some(name) = own.keys().find(|name| !event::is_name(name)) {
        let detail = format!("the attribute `{name}`: names are lower-case letters and digits");
        return Err(invalid(detail));
    }
    match own.get("time") {
        Some(time) if OffsetDateTime::parse(time, &Rfc3339).is_err() => {
            Err(invalid(format!("time `{time}` is not RFC 3339, like 2026-01-31T12:00:00Z")))
        }
        _ => Ok(()),
    }
}

fn unreadable(error: &serde_json::Error) -> Problem {
    let cause: String = error.to_string().chars().take(200).collect();
    Problem::new(Code::InvalidJson, cause)
}
