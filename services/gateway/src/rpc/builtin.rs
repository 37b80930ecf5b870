//! The methods that every gateway has.

use std::collections::BTreeMap;

use api::headers::{NDJSON, SESSION};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::request::{Built, JSON};
use super::template::encode;

/// A built-in method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Builtin {
    Echo,
    KvGet,
    KvPut,
    QueueSend,
    TopicPublish,
}

impl Builtin {
    pub(crate) const ALL: [Self; 5] =
        [Self::Echo, Self::KvGet, Self::KvPut, Self::QueueSend, Self::TopicPublish];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::KvGet => "kv.get",
            Self::KvPut => "kv.put",
            Self::QueueSend => "queue.send",
            Self::TopicPublish => "topic.publish",
        }
    }

    pub(crate) const fn summary(self) -> &'static str {
        match self {
            Self::Echo => "answers its data",
            Self::KvGet => {
                "reads from the replicated store: {key, consistency?, max_lag_ms?, session?}"
            }
            Self::KvPut => {
                "writes to the replicated store: {key, value | value_base64, content_type?, ack?, \
                 ttl_seconds?, if_match?, if_none_match?}"
            }
            Self::QueueSend => {
                "sends to a queue: {queue, data | data_base64, priority?, delay_ms?, ttl_ms?, \
                 dedup_id?, group?, attributes?}"
            }
            Self::TopicPublish => {
                "publishes to a topic: {topic, data | data_base64, key?, attributes?}"
            }
        }
    }

    pub(crate) fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|builtin| builtin.name() == name)
    }

    /// Which service carries it out; `None`: the gateway itself.
    pub(crate) const fn service(self) -> Option<&'static str> {
        match self {
            Self::Echo => None,
            Self::KvGet | Self::KvPut => Some("replica"),
            Self::QueueSend | Self::TopicPublish => Some("broker"),
        }
    }
}

/// Why `data` does not fit a built-in method.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataError {
    #[error("data is missing; send {}", .0.summary())]
    Missing(Builtin),
    #[error("data does not fit, {cause}; {}", .method.summary())]
    Unfit { method: Builtin, cause: String },
    #[error("data needs exactly one of `value` and `value_base64`")]
    OneValue,
    #[error("`{0}` is not a header value; use printable ASCII")]
    NotAHeader(&'static str),
    #[error("`value_base64` is not standard base64")]
    NotBase64,
}

/// A request with the header fields that it needs beside its content type.
pub(crate) struct BuiltinRequest {
    pub built: Built,
    pub headers: HeaderMap,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Get {
    key: String,
    consistency: Option<String>,
    max_lag_ms: Option<u64>,
    session: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Put {
    key: String,
    value: Option<Box<RawValue>>,
    value_base64: Option<String>,
    content_type: Option<String>,
    ack: Option<String>,
    ttl_seconds: Option<u64>,
    if_match: Option<String>,
    if_none_match: Option<String>,
}

/// Builds the request of a call.
pub(crate) fn build(method: Builtin, data: Option<&RawValue>) -> Result<BuiltinRequest, DataError> {
    let data = data.ok_or(DataError::Missing(method))?;
    match method {
        Builtin::Echo => unreachable!("the gateway answers it itself"),
        Builtin::KvGet => get(read(method, data)?),
        Builtin::KvPut => put(read(method, data)?),
        Builtin::QueueSend => line(method, data, ("queue", "/v1/queues/")),
        Builtin::TopicPublish => line(method, data, ("topic", "/v1/topics/")),
    }
}

fn read<'a, T: Deserialize<'a>>(method: Builtin, data: &'a RawValue) -> Result<T, DataError> {
    serde_json::from_str(data.get()).map_err(|error| unfit(method, &error.to_string()))
}

fn unfit(method: Builtin, cause: &str) -> DataError {
    DataError::Unfit { method, cause: cause.chars().take(200).collect() }
}

fn get(get: Get) -> Result<BuiltinRequest, DataError> {
    let mut query = Query::new(format!("/v1/kv/{}", encode(&get.key)));
    query.add("consistency", get.consistency);
    query.add("max_lag_ms", get.max_lag_ms);
    let mut headers = HeaderMap::new();
    if let Some(session) = get.session {
        headers.insert(HeaderName::from_static(SESSION), header("session", &session)?);
    }
    let built =
        Built { method: Method::GET, uri: query.finish()?, content_type: None, body: Bytes::new() };
    Ok(BuiltinRequest { built, headers })
}

fn put(put: Put) -> Result<BuiltinRequest, DataError> {
    let mut query = Query::new(format!("/v1/kv/{}", encode(&put.key)));
    query.add("ack", put.ack);
    query.add("ttl_seconds", put.ttl_seconds);
    let (body, natural) = match (put.value, put.value_base64) {
        (Some(value), None) => payload(&value),
        (None, Some(text)) => {
            let bytes = STANDARD.decode(text).map_err(|_| DataError::NotBase64)?;
            (Bytes::from(bytes), HeaderValue::from_static("application/octet-stream"))
        }
        (None, None) | (Some(_), Some(_)) => return Err(DataError::OneValue),
    };
    let content_type = match put.content_type {
        Some(named) => header("content_type", &named)?,
        None => natural,
    };
    let mut headers = HeaderMap::new();
    if let Some(if_match) = put.if_match {
        headers.insert(http::header::IF_MATCH, header("if_match", &if_match)?);
    }
    if let Some(if_none_match) = put.if_none_match {
        headers.insert(http::header::IF_NONE_MATCH, header("if_none_match", &if_none_match)?);
    }
    let (uri, content_type) = (query.finish()?, Some(content_type));
    Ok(BuiltinRequest { built: Built { method: Method::PUT, uri, content_type, body }, headers })
}

/// Text is stored as text, everything else as the JSON it is.
fn payload(value: &RawValue) -> (Bytes, HeaderValue) {
    match serde_json::from_str::<String>(value.get()) {
        Ok(text) => (text.into(), HeaderValue::from_static("text/plain; charset=utf-8")),
        Err(_) => (value.get().to_owned().into(), JSON),
    }
}

/// A message is one line of a batch without the name of its topic or queue: the broker judges
/// the rest.
fn line(
    method: Builtin,
    data: &RawValue,
    (field, prefix): (&str, &str),
) -> Result<BuiltinRequest, DataError> {
    let mut fields: BTreeMap<&str, &RawValue> = read(method, data)?;
    let name = fields.remove(field).ok_or_else(|| unfit(method, "a name is missing"))?;
    let name: String = serde_json::from_str(name.get())
        .map_err(|_| unfit(method, &format!("`{field}` must be a string")))?;
    let text = serde_json::to_string(&fields).map_err(|error| unfit(method, &error.to_string()))?;
    // JSON has line breaks only between tokens, where a space is as good.
    let text = text.replace(['\n', '\r'], " ");
    let uri = format!("{prefix}{}/messages", encode(&name)).parse();
    let built = Built {
        method: Method::POST,
        uri: uri.map_err(|_| unfit(method, "the name is too long"))?,
        content_type: Some(HeaderValue::from_static(NDJSON)),
        body: text.into(),
    };
    Ok(BuiltinRequest { built, headers: HeaderMap::new() })
}

fn header(field: &'static str, value: &str) -> Result<HeaderValue, DataError> {
    HeaderValue::from_str(value).map_err(|_| DataError::NotAHeader(field))
}

/// A path with a growing query.
struct Query {
    target: String,
    separator: char,
}

impl Query {
    fn new(path: String) -> Self {
        Self { target: path, separator: '?' }
    }

    fn add(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            let value = encode(&value.to_string());
            self.target.push_str(&format!("{}{name}={value}", self.separator));
            self.separator = '&';
        }
    }

    fn finish(self) -> Result<http::Uri, DataError> {
        let long = |_| unfit(Builtin::KvGet, "the key is too long");
        self.target.parse().map_err(long)
    }
}

/// What a read answers.
#[derive(Serialize)]
struct Read<'a> {
    key: &'a str,
    #[serde(flatten)]
    value: Value<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
}

#[derive(Serialize)]
enum Value<'a> {
    #[serde(rename = "value")]
    Json(&'a RawValue),
    #[serde(rename = "value")]
    Text(&'a str),
    #[serde(rename = "value_base64")]
    Bytes(String),
}

/// What `kv.get` answers, from the service's response.
pub(crate) fn read_value(data: &RawValue, headers: &HeaderMap, body: &Bytes) -> Box<RawValue> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let content_type = text(CONTENT_TYPE);
    let json = content_type.is_some_and(is_json);
    let utf8 = std::str::from_utf8(body).ok();
    let raw = utf8.filter(|_| json).and_then(|text| serde_json::from_str(text).ok());
    let value = match (raw, utf8) {
        (Some(raw), _) => Value::Json(raw),
        (None, Some(text)) => Value::Text(text),
        (None, None) => Value::Bytes(STANDARD.encode(body)),
    };
    let asked: Get = serde_json::from_str(data.get()).expect("it was read before");
    let read = Read {
        key: &asked.key,
        value,
        content_type,
        etag: text(ETAG),
        session: text(HeaderName::from_static(SESSION)),
    };
    to_raw_value(&read).expect("texts and JSON always encode")
}

/// What `kv.put` answers.
pub(crate) fn written(data: &RawValue, headers: &HeaderMap) -> Box<RawValue> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let asked: Put = serde_json::from_str(data.get()).expect("it was read before");
    let acked_by = text(HeaderName::from_static(api::headers::ACKED_BY));
    let written = serde_json::json!({
        "key": asked.key,
        "etag": text(ETAG),
        "session": text(HeaderName::from_static(SESSION)),
        "acked_by": acked_by.and_then(|count| count.parse::<u64>().ok()),
    });
    to_raw_value(&written).expect("texts and numbers always encode")
}

/// Whether a content type is JSON.
pub(crate) fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    fn built(method: Builtin, json: &str) -> Result<Built, DataError> {
        build(method, Some(&raw(json))).map(|request| request.built)
    }

    #[test]
    fn a_message_is_a_line_without_its_queue() {
        let json = "{\"queue\":\"a b\",\n \"data\":{\"n\":\n1.0},\"priority\":3}";
        let built = built(Builtin::QueueSend, json).unwrap();
        assert_eq!(built.uri, "/v1/queues/a%20b/messages");
        assert_eq!(built.body, "{\"data\":{\"n\": 1.0},\"priority\":3}");
        assert_eq!(built.content_type.unwrap(), NDJSON);
    }

    #[test]
    fn text_is_stored_as_text_and_json_as_json() {
        let text = built(Builtin::KvPut, r#"{"key":"k/1","value":"blue \"x\"","ack":"all"}"#);
        let text = text.unwrap();
        assert_eq!(text.uri, "/v1/kv/k%2F1?ack=all");
        assert_eq!(text.body, "blue \"x\"");
        let json = built(Builtin::KvPut, r#"{"key":"k","value":{"a": 1}}"#).unwrap();
        assert_eq!((&json.body[..], json.content_type), (&br#"{"a": 1}"#[..], Some(JSON)));
        let bytes = built(Builtin::KvPut, r#"{"key":"k","value_base64":"AP8="}"#).unwrap();
        assert_eq!(&bytes.body[..], [0, 255]);
    }

    #[test]
    fn a_value_comes_back_as_it_was() {
        let read = |content_type: &'static str, body: &'static [u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            let body = Bytes::from_static(body);
            read_value(&raw(r#"{"key":"k"}"#), &headers, &body).get().to_owned()
        };
        let json = read("application/json", br#"{"n": 1.0}"#);
        assert_eq!(json, r#"{"key":"k","value":{"n": 1.0},"content_type":"application/json"}"#);
        assert!(read("text/plain", b"1").contains(r#""value":"1""#));
        assert!(read("application/json", b"not").contains(r#""value":"not""#));
        assert!(read("x/y", b"\xff").contains(r#""value_base64":"/w==""#));
    }

    #[test]
    fn wrong_data_is_refused_with_what_fits() {
        for (method, json) in [
            (Builtin::KvGet, "{}"),
            (Builtin::KvGet, r#"{"key":1}"#),
            (Builtin::KvGet, r#"{"key":"a","kye":"b"}"#),
            (Builtin::KvPut, r#"{"key":"a"}"#),
            (Builtin::KvPut, r#"{"key":"a","value":1,"value_base64":"AA=="}"#),
            (Builtin::KvPut, r#"{"key":"a","value_base64":"%"}"#),
            (Builtin::KvPut, r#"{"key":"a","value":1,"if_match":"a\nb"}"#),
            (Builtin::QueueSend, r#"{"data":1}"#),
            (Builtin::QueueSend, r#"{"queue":7,"data":1}"#),
            (Builtin::TopicPublish, "[]"),
            (Builtin::TopicPublish, "7"),
        ] {
            assert!(built(method, json).is_err(), "{method:?} {json}");
        }
        assert!(build(Builtin::KvGet, None).is_err());
    }
}
