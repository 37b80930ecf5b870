//! The path of a method: literal text with `{field}`s that a call's `data` fills in.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

/// A checked path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(String),
}

/// A path that cannot be a method's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidTemplate {
    #[error("the path must begin with `/`")]
    NoSlash,
    #[error("the path must be at most {} bytes", api::gateway::MAX_PATH_BYTES)]
    TooLong,
    #[error("the path must not have `.` or `..` segments")]
    DotSegment,
    #[error(
        "the path has `{0}`, which a path cannot have; percent-encode it, and leave out `?` and `#`"
    )]
    Character(char),
    #[error("a `{{` in the path must begin a field such as `{{sku}}`")]
    Brace,
}

/// Why a path cannot be filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FillError {
    #[error("data has no field `{0}`, which the method's path needs")]
    Missing(String),
    #[error("the field `{0}` of data must be a string that is not empty, or a number")]
    NotPlain(String),
    #[error("the field `{0}` of data cannot be `.` or `..`")]
    DotSegment(String),
}

impl Template {
    /// Checks a path.
    pub(crate) fn parse(path: &str) -> Result<Self, InvalidTemplate> {
        if !path.starts_with('/') {
            return Err(InvalidTemplate::NoSlash);
        }
        if path.len() > api::gateway::MAX_PATH_BYTES {
            return Err(InvalidTemplate::TooLong);
        }
        let mut pieces = Vec::new();
        let mut rest = path;
        while let Some(at) = rest.find('{') {
            let (text, tail) = rest.split_at(at);
            let (field, tail) = tail[1..].split_once('}').ok_or(InvalidTemplate::Brace)?;
            if field.is_empty() || !field.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_') {
                return Err(InvalidTemplate::Brace);
            }
            pieces.push(Piece::Text(plain(text)?));
            pieces.push(Piece::Field(field.to_owned()));
            rest = tail;
        }
        pieces.push(Piece::Text(plain(rest)?));
        let dots = |segment: &str| matches!(segment, "." | "..");
        if path.replace("%2e", ".").replace("%2E", ".").split('/').any(dots) {
            return Err(InvalidTemplate::DotSegment);
        }
        Ok(Self { pieces })
    }

    /// The fields that a call must have.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Field(field) => Some(field.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The path of one call.
    pub(crate) fn fill(&self, data: &BTreeMap<String, Value>) -> Result<String, FillError> {
        let mut path = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => path.push_str(text),
                Piece::Field(field) => {
                    let value = data.get(field).ok_or_else(|| FillError::Missing(field.clone()))?;
                    let text = plain_value(value).filter(|text| !text.is_empty());
                    let text = text.ok_or_else(|| FillError::NotPlain(field.clone()))?;
                    if matches!(text.as_str(), "." | "..") {
                        return Err(FillError::DotSegment(field.clone()));
                    }
                    path.push_str(&encode(&text));
                }
            }
        }
        Ok(path)
    }
}

fn plain(text: &str) -> Result<String, InvalidTemplate> {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/%".contains(*c);
    match text.chars().find(|c| !allowed(c)) {
        Some('}') => Err(InvalidTemplate::Brace),
        Some(other) => Err(InvalidTemplate::Character(other)),
        None => Ok(text.to_owned()),
    }
}

/// Text, a number or a boolean as it stands in a path or query.
pub(crate) fn plain_value(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Percent-encodes everything that is not unreserved (RFC 3986 §2.3).
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(json: &str) -> BTreeMap<String, Value> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn fields_are_filled_in_and_encoded() {
        let template = Template::parse("/v1/price/{sku}/{n}.json").unwrap();
        assert_eq!(template.fields().collect::<Vec<_>>(), ["sku", "n"]);
        let path = template.fill(&data(r#"{"sku":"a/b ü?","n":7}"#)).unwrap();
        assert_eq!(path, "/v1/price/a%2Fb%20%C3%BC%3F/7.json");
    }

    #[test]
    fn a_call_must_have_every_field_in_plain_form() {
        let template = Template::parse("/p/{sku}").unwrap();
        let fill = |json| template.fill(&data(json));
        assert_eq!(fill("{}"), Err(FillError::Missing("sku".into())));
        for bad in [r#"{"sku":null}"#, r#"{"sku":[1]}"#, r#"{"sku":{}}"#, r#"{"sku":""}"#] {
            assert_eq!(fill(bad), Err(FillError::NotPlain("sku".into())), "{bad}");
        }
        assert_eq!(fill(r#"{"sku":".."}"#), Err(FillError::DotSegment("sku".into())));
    }

    #[test]
    fn paths_are_checked_when_they_are_registered() {
        for good in ["/", "/a/b", "/a%20b", "/{x}", "/{x}{y}"] {
            assert!(Template::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "/a b",
            "/a?q=1",
            "/a#f",
            "/{",
            "/{}",
            "/}",
            "/{a b}",
            "/..",
            "/%2e%2E/x",
            "/ä",
        ] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
        assert!(Template::parse(&"/x".repeat(2000)).is_err());
    }
}
