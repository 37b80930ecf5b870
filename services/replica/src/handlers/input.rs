//! Parameters and headers of requests, checked once, where they enter.

use std::str::FromStr;

use api::headers;
use api::problem::Code;
use api::replica::{
    AckLevel as WireAck, Consistency, MAX_KEY_BYTES, MAX_NAME_BYTES, MAX_TTL_SECONDS,
    MAX_VALUE_BYTES, Position as WirePosition,
};
use axum::extract::FromRequestParts;
use bytes::Bytes;
use chassis::problem::Problem;
use http::request::Parts;
use http::{HeaderMap, header};
use replication::{AckLevel, Position};
use serde::Deserialize;

use crate::read::Freshness;
use crate::status::from_wire;
use crate::write::Condition;

/// A key: 1 to 1,024 bytes of any value, percent-encoded in the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(pub(super) Bytes);

impl Key {
    pub(super) fn parse(encoded: &str) -> Result<Self, Problem> {
        let key = decode(encoded).ok_or_else(|| {
            invalid(
                "a `%` in a key must be followed by two hex digits; write %25 for the sign itself",
            )
        })?;
        if key.is_empty() {
            return Err(invalid("the key is empty; write it behind /v1/kv/"));
        }
        if MAX_KEY_BYTES < key.len() {
            let detail = format!("the key has {} bytes, the limit is {MAX_KEY_BYTES}", key.len());
            return Err(invalid(&detail).with("max_bytes", MAX_KEY_BYTES));
        }
        Ok(Self(key.into()))
    }
}

impl<S: Sync> FromRequestParts<S> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        // Not axum's path parameter: that is text, and a key is bytes.
        // One slash ends the prefix; a key may begin with more of them.
        let path = parts.uri.path().strip_prefix(api::replica::KEYS).unwrap_or_default();
        Self::parse(path.strip_prefix('/').unwrap_or_default())
    }
}

/// Percent-decodes; nothing if a `%` is not followed by two hex digits.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).expect("two hex digits make a byte")
            }
            plain => plain,
        });
    }
    Some(decoded)
}

/// Percent-encodes what a path segment cannot hold; slashes stay.
pub(super) fn encode(key: &[u8]) -> String {
    let mut encoded = String::with_capacity(key.len());
    for byte in key {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(*byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// The query of a write.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WriteQuery {
    /// What has to be true before the answer. Default: quorum.
    #[serde(default)]
    pub(super) ack: WireAck,
    /// How long the key stays, in seconds.
    pub(super) ttl_seconds: Option<u64>,
}

/// The query of a read.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReadQuery {
    /// How current the answer has to be. Default: session if `x-session` is sent, else eventual.
    pub(super) consistency: Option<Consistency>,
    /// How far behind its primary the node may be. Makes the read `bounded`.
    pub(super) max_lag_ms: Option<u64>,
}

impl ReadQuery {
    /// With what the headers say.
    pub(super) fn freshness(self, headers: &HeaderMap) -> Result<Freshness, Problem> {
        let token = session(headers)?;
        match (self.consistency, self.max_lag_ms, token) {
            (Some(Consistency::Strong), None, _) => Ok(Freshness::Strong),
            (Some(Consistency::Eventual), None, _) | (None, None, None) => Ok(Freshness::Eventual),
            (Some(Consistency::Bounded) | None, Some(max_lag_ms), _) => {
                Ok(Freshness::Bounded { max_lag_ms })
            }
            (Some(Consistency::Session) | None, None, Some(token)) => Ok(Freshness::Session(token)),
            (Some(Consistency::Bounded), None, _) => {
                Err(invalid("consistency=bounded needs max_lag_ms, such as max_lag_ms=500"))
            }
            (Some(Consistency::Session), None, None) => Err(invalid(
                "consistency=session needs the header x-session with the token of an earlier answer",
            )),
            (Some(other), Some(_), _) => Err(invalid(&format!(
                "max_lag_ms belongs to consistency=bounded, not to {}",
                other.as_str()
            ))),
        }
    }
}

/// The token of a session, if one is sent.
pub(super) fn session(headers: &HeaderMap) -> Result<Option<Position>, Problem> {
    let Some(value) = headers.get(headers::SESSION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|text| WirePosition::from_str(text.trim()).ok());
    let token = token.ok_or_else(|| {
        invalid("x-session must be <epoch>:<index> as an earlier answer gave it, such as 7:18342")
    })?;
    Ok(Some(from_wire(token)))
}

/// Conditions of a write from `If-Match` and `If-None-Match`.
pub(super) fn conditions(headers: &HeaderMap) -> Result<Vec<Condition>, Problem> {
    let mut conditions = Vec::new();
    if let Some(tags) = tags(headers, &header::IF_MATCH)? {
        conditions.push(tags.map_or(Condition::Exists, Condition::AnyOf));
    }
    if let Some(tags) = tags(headers, &header::IF_NONE_MATCH)? {
        conditions.push(tags.map_or(Condition::Absent, Condition::NoneOf));
    }
    Ok(conditions)
}

/// The versions in a header of entity tags; `Some(None)` is `*`. Tags that are no version of ours
/// match nothing.
pub(super) fn tags(
    headers: &HeaderMap,
    name: &header::HeaderName,
) -> Result<Option<Option<Vec<Position>>>, Problem> {
    let mut tags = Vec::new();
    let mut found = false;
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| not_a_tag(name))?;
        if text.trim() == "*" {
            return Ok(Some(None));
        }
        for tag in text.split(',').map(str::trim) {
            // People forget the quotes; a version is recognised without them.
            let inner = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            let weak = tag.starts_with("W/\"");
            if inner.is_none() && !weak && WirePosition::from_str(tag).is_err() {
                return Err(not_a_tag(name));
            }
            tags.extend(WirePosition::from_str(inner.unwrap_or(tag)).ok().map(from_wire));
        }
        found = true;
    }
    Ok(found.then_some(Some(tags)))
}

fn not_a_tag(name: &header::HeaderName) -> Problem {
    invalid(&format!("{name} must be `*` or the ETag of an earlier answer, such as \"7:18342\""))
}

/// The `Idempotency-Key`, if one is sent.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<Bytes>, Problem> {
    let Some(value) = headers.get(headers::IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value.as_bytes();
    if key.is_empty() || MAX_NAME_BYTES < key.len() {
        let detail = format!("Idempotency-Key must have 1 to {MAX_NAME_BYTES} bytes");
        return Err(invalid(&detail));
    }
    Ok(Some(Bytes::copy_from_slice(key)))
}

/// The type a value is stored with.
pub(super) fn content_type(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| text.len() <= MAX_NAME_BYTES);
    let text = text.ok_or_else(|| {
        invalid(&format!("content-type must be text of at most {MAX_NAME_BYTES} bytes"))
    })?;
    // What `curl -d` says about everything says nothing.
    Ok((text != "application/x-www-form-urlencoded").then(|| text.to_owned()))
}

/// When a key with this time to live goes, in milliseconds since 1970.
pub(super) fn expires_at_ms(ttl: Option<u64>, now_ms: u64) -> Result<Option<u64>, Problem> {
    match ttl {
        None => Ok(None),
        Some(ttl @ 1..=MAX_TTL_SECONDS) => Ok(Some(now_ms + ttl * 1000)),
        Some(ttl) => Err(invalid(&format!(
            "ttl_seconds is {ttl}, it must be between 1 and {MAX_TTL_SECONDS}; leave it out to keep the key"
        ))),
    }
}

/// Refuses a value beyond the limit.
pub(super) fn check_value(value: &[u8]) -> Result<(), Problem> {
    if value.len() <= MAX_VALUE_BYTES {
        return Ok(());
    }
    let detail = format!(
        "the value has {} bytes, the limit is {MAX_VALUE_BYTES}; split it over several keys",
        value.len()
    );
    Err(Problem::new(Code::TooLarge, detail).with("max_bytes", MAX_VALUE_BYTES))
}

pub(super) const fn level(ack: WireAck) -> AckLevel {
    match ack {
        WireAck::Async => AckLevel::Async,
        WireAck::Semi => AckLevel::Semi,
        WireAck::Quorum => AckLevel::Quorum,
        WireAck::All => AckLevel::All,
    }
}

pub(super) fn invalid(detail: &str) -> Problem {
    Problem::new(Code::InvalidRequest, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_bytes_and_comes_back_as_it_was() {
        for key in [&b"a"[..], b"a/b", b"\xff\x00%", b"//a//", "ключ".as_bytes(), b"a b?#"] {
            assert_eq!(Key::parse(&encode(key)).unwrap().0, key);
        }
        for bad in ["", "%", "%4", "%zz", "a%"] {
            assert!(Key::parse(bad).is_err(), "{bad}");
        }
        assert!(Key::parse(&"k".repeat(MAX_KEY_BYTES)).is_ok());
        assert!(Key::parse(&"k".repeat(MAX_KEY_BYTES + 1)).is_err());
    }

    #[test]
    fn entity_tags_are_versions_or_match_nothing() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_MATCH, value.parse().unwrap());
            conditions(&headers).map(|mut conditions| conditions.remove(0))
        };
        let version = |epoch, index| from_wire(WirePosition { epoch, index });
        assert_eq!(read("*").unwrap(), Condition::Exists);
        assert_eq!(read("\"1:4\"").unwrap(), Condition::AnyOf(vec![version(1, 4)]));
        assert_eq!(read("1:4").unwrap(), Condition::AnyOf(vec![version(1, 4)]));
        let two = Condition::AnyOf(vec![version(1, 4), version(2, 9)]);
        assert_eq!(read("\"1:4\", \"2:9\"").unwrap(), two);
        assert_eq!(read("\"abc\"").unwrap(), Condition::AnyOf(vec![]));
        assert_eq!(read("W/\"1:4\"").unwrap(), Condition::AnyOf(vec![]));
        assert!(read("abc").is_err());
    }

    #[test]
    fn a_read_says_how_current_it_must_be_without_contradiction() {
        let read = |consistency, max_lag_ms, token: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(token) = token {
                headers.insert(headers::SESSION, token.parse().unwrap());
            }
            ReadQuery { consistency, max_lag_ms }.freshness(&headers)
        };
        let token = from_wire(WirePosition { epoch: 1, index: 2 });
        assert_eq!(read(None, None, None).unwrap(), Freshness::Eventual);
        assert_eq!(read(None, None, Some("1:2")).unwrap(), Freshness::Session(token));
        let bounded = Freshness::Bounded { max_lag_ms: 5 };
        assert_eq!(read(None, Some(5), Some("1:2")).unwrap(), bounded);
        assert_eq!(read(Some(Consistency::Strong), None, None).unwrap(), Freshness::Strong);
        assert!(read(Some(Consistency::Bounded), None, None).is_err());
        assert!(read(Some(Consistency::Session), None, None).is_err());
        assert!(read(Some(Consistency::Strong), Some(5), None).is_err());
        assert!(read(None, None, Some("seven")).is_err());
    }
}
