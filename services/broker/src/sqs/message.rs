//! Message attributes: as they come, as they are kept, as they are answered.
//!
//! An attribute is kept as an attribute of ours, `sqs.<name>` = `<type>:<value>`, binary values in
//! base64, so that consumers on our own face see it. The other way round, attributes of messages
//! that came over our own face are strings here.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use messaging::frame::Envelope;
use serde::{Deserialize, Serialize};

use super::error::{Code, Fault};

/// Most attributes of one message.
const MAX_ATTRIBUTES: usize = 10;
/// Longest name or type.
const MAX_NAME: usize = 256;
/// Attributes of this face begin so. Those that a user names never have a second dot there.
pub(super) const PREFIX: &str = "sqs.";

/// An attribute of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MessageAttribute {
    /// `String`, `Number` or `Binary`, with a label of the user's behind a dot or without.
    pub(crate) data_type: String,
    pub(crate) value: Value,
}

/// Its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Binary(Vec<u8>),
}

/// An attribute in JSON.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Wire {
    data_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    string_value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary_value: Option<String>,
}

impl MessageAttribute {
    /// A text.
    pub(super) fn text(text: &str) -> Self {
        Self { data_type: "String".to_owned(), value: Value::Text(text.to_owned()) }
    }

    /// Checks an attribute of this name.
    pub(crate) fn read(name: &str, wire: Wire) -> Result<Self, Fault> {
        let Wire { data_type, string_value, binary_value } = wire;
        let invalid = |why: String| Fault::new(Code::InvalidParameterValue, why);
        let data_type = data_type.filter(|data_type| !data_type.is_empty()).ok_or_else(|| {
            invalid(format!("The message attribute '{name}' must contain a data type."))
        })?;
        let base = base_type(&data_type).ok_or_else(|| {
            invalid(format!(
                "The message attribute '{name}' has an invalid message attribute type, the set of \
                 supported type prefixes is Binary, Number, and String."
            ))
        })?;
        let value = match base {
            "Binary" => binary_value
                .map(|text| BASE64.decode(text))
                .transpose()
                .map_err(|_| invalid(format!("The binary value of '{name}' is not base64.")))?
                .filter(|bytes| !bytes.is_empty())
                .map(Value::Binary),
            _ => string_value.filter(|text| !text.is_empty()).map(Value::Text),
        };
        let value = value.ok_or_else(|| {
            invalid(format!(
                "The message attribute '{name}' must contain a non-empty message attribute value \
                 of type '{base}'."
            ))
        })?;
        if let Value::Text(text) = &value {
            if base == "Number" && !is_number(text) {
                return Err(invalid(format!(
                    "Can't cast the value of message attribute '{name}' to a number."
                )));
            }
            super::text::check_body(text)?;
        }
        Ok(Self { data_type, value })
    }

    /// In JSON.
    pub(crate) fn wire(&self) -> Wire {
        let data_type = Some(self.data_type.clone());
        match &self.value {
            Value::Text(text) => {
                Wire { data_type, string_value: Some(text.clone()), binary_value: None }
            }
            Value::Binary(bytes) => {
                Wire { data_type, string_value: None, binary_value: Some(BASE64.encode(bytes)) }
            }
        }
    }

    /// What it counts of a message's size, without its name.
    pub(super) fn len(&self) -> usize {
        let value = match &self.value {
            Value::Text(text) => text.len(),
            Value::Binary(bytes) => bytes.len(),
        };
        self.data_type.len() + value
    }

    pub(super) fn stored(&self) -> String {
        match &self.value {
            Value::Text(text) => format!("{}:{text}", self.data_type),
            Value::Binary(bytes) => format!("{}:{}", self.data_type, BASE64.encode(bytes)),
        }
    }

    fn from_stored(stored: &str) -> Option<Self> {
        let (data_type, value) = stored.split_once(':')?;
        let value = match base_type(data_type)? {
            "Binary" => Value::Binary(BASE64.decode(value).ok()?),
            _ => Value::Text(value.to_owned()),
        };
        Some(Self { data_type: data_type.to_owned(), value })
    }
}

/// Says that a body is base64, and of bytes that are no text: name and attribute.
pub(crate) fn base64_encoding() -> (String, MessageAttribute) {
    ("Quartet-Encoding".to_owned(), MessageAttribute::text("base64"))
}

/// All attributes of a message that is sent.
pub(super) fn read_all(
    wire: BTreeMap<String, Wire>,
) -> Result<BTreeMap<String, MessageAttribute>, Fault> {
    if MAX_ATTRIBUTES < wire.len() {
        let message = format!(
            "Number of message attributes [{}] exceeds the allowed maximum [{MAX_ATTRIBUTES}].",
            wire.len()
        );
        return Err(Fault::new(Code::InvalidParameterValue, message));
    }
    let read = |(name, wire): (String, Wire)| {
        if !is_name(&name) {
            let message = format!(
                "The message attribute name '{}' is invalid: 1 to 256 of A-Z, a-z, 0-9, underscore, \
                 hyphen and period; it cannot begin or end with a period, have two in a row, or \
                 begin with AWS. or Amazon.",
                name.chars().take(100).collect::<String>()
            );
            return Err(Fault::new(Code::InvalidParameterValue, message));
        }
        let attribute = MessageAttribute::read(&name, wire)?;
        Ok((name, attribute))
    };
    wire.into_iter().map(read).collect()
}

fn is_name(name: &str) -> bool {
    let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.');
    let lower = name.to_ascii_lowercase();
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(fits)
        && !name.starts_with('.')
        && !name.ends_with('.')
        && !name.contains("..")
        && !lower.starts_with("aws.")
        && !lower.starts_with("amazon.")
}

/// The type without its label.
fn base_type(data_type: &str) -> Option<&str> {
    let (base, label) = data_type.split_once('.').map_or((data_type, None), |(b, l)| (b, Some(l)));
    let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.');
    let is_good = data_type.len() <= MAX_NAME
        && label.is_none_or(|label| !label.is_empty() && label.bytes().all(fits));
    (is_good && matches!(base, "String" | "Number" | "Binary")).then_some(base)
}

fn is_number(text: &str) -> bool {
    let fits = |c: u8| c.is_ascii_digit() || matches!(c, b'+' | b'-' | b'.' | b'e' | b'E');
    text.bytes().all(fits) && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Which attributes a consumer asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    all: bool,
    names: Vec<String>,
    prefixes: Vec<String>,
}

impl Wanted {
    /// Names, `All`, `.*`, or what names begin with and `.*`.
    pub(crate) fn new(asked: Vec<String>) -> Self {
        let mut wanted = Self::default();
        for name in asked {
            match name.strip_suffix(".*") {
                Some("") => wanted.all = true,
                Some(prefix) => wanted.prefixes.push(prefix.to_owned()),
                None if name == "All" => wanted.all = true,
                None => wanted.names.push(name),
            }
        }
        wanted
    }

    fn has(&self, name: &str, is_trace: bool) -> bool {
        let named = || self.names.iter().any(|wanted| wanted == name);
        let begins = || self.prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()));
        // The broker puts a trace into every message: only who knows of that asks for it by name.
        named() || (!is_trace && (self.all || begins()))
    }

    /// Those of a message that are asked for.
    pub(crate) fn of(&self, envelope: &Envelope) -> BTreeMap<String, MessageAttribute> {
        if *self == Self::default() {
            return BTreeMap::new();
        }
        let mut found = BTreeMap::new();
        for (key, value) in &envelope.attributes {
            let own = key.strip_prefix(PREFIX);
            let (name, attribute) = match own {
                Some(name) => (name, MessageAttribute::from_stored(value)),
                None => (key.as_str(), Some(MessageAttribute::text(value))),
            };
            let is_trace = own.is_none()
                && matches!(name, api::headers::TRACEPARENT | api::headers::TRACESTATE);
            let is_told = is_name(name) && !value.is_empty() && self.has(name, is_trace);
            if let Some(attribute) = attribute.filter(|_| is_told) {
                match own {
                    Some(_) => drop(found.insert(name.to_owned(), attribute)),
                    None => drop(found.entry(name.to_owned()).or_insert(attribute)),
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wire(value: serde_json::Value) -> Wire {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_attribute_comes_back_as_it_came() {
        for value in [
            json!({ "DataType": "String", "StringValue": "a:b" }),
            json!({ "DataType": "Number.int", "StringValue": "-1.5e3" }),
            json!({ "DataType": "Binary.png", "BinaryValue": "AAEC/w==" }),
        ] {
            let attribute = MessageAttribute::read("a", wire(value.clone())).unwrap();
            let kept = MessageAttribute::from_stored(&attribute.stored()).unwrap();
            assert_eq!(serde_json::to_value(kept.wire()).unwrap(), value);
        }
    }

    #[test]
    fn what_is_no_attribute_is_refused() {
        for value in [
            json!({}),
            json!({ "DataType": "String" }),
            json!({ "DataType": "String", "StringValue": "" }),
            json!({ "DataType": "String", "BinaryValue": "AA==" }),
            json!({ "DataType": "Number", "StringValue": "ten" }),
            json!({ "DataType": "Number", "StringValue": "NaN" }),
            json!({ "DataType": "Binary", "BinaryValue": "%" }),
            json!({ "DataType": "Strings", "StringValue": "a" }),
            json!({ "DataType": "String.", "StringValue": "a" }),
            json!({ "DataType": "String.a:b", "StringValue": "a" }),
        ] {
            let fault = MessageAttribute::read("a", wire(value.clone())).unwrap_err();
            assert_eq!(fault.code, Code::InvalidParameterValue, "{value}");
        }
        let attribute = json!({ "DataType": "String", "StringValue": "a" });
        for bad in ["", ".a", "a.", "a..b", "aws.x", "AMAZON.x", "a b", &"a".repeat(257)] {
            let one = BTreeMap::from([(bad.to_owned(), wire(attribute.clone()))]);
            assert!(read_all(one).is_err(), "{bad}");
        }
        let many = (0..11).map(|n| (format!("a{n}"), wire(attribute.clone())));
        assert!(read_all(many.collect()).is_err());
    }

    #[test]
    fn a_consumer_gets_the_attributes_it_asks_for() {
        let attributes = [
            ("sqs.a", "String:1"),
            ("sqs.bar.x", "String:2"),
            ("sqs..AWSTraceHeader", "Root=1"),
            ("colour", "red"),
            ("traceparent", "00-1-2-01"),
        ];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let envelope = Envelope { attributes: attributes.into(), ..Envelope::default() };
        let names = |asked: &[&str]| {
            let asked = asked.iter().map(|name| (*name).to_owned()).collect();
            let found = Wanted::new(asked).of(&envelope).into_keys();
            found.collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), [""; 0]);
        assert_eq!(names(&["All"]), ["a", "bar.x", "colour"]);
        assert_eq!(names(&[".*"]), ["a", "bar.x", "colour"]);
        assert_eq!(names(&["bar.*"]), ["bar.x"]);
        assert_eq!(names(&["a", "traceparent", "none"]), ["a", "traceparent"]);
    }
}
