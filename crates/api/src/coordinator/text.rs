//! Bytes in JSON: a string where they are UTF-8, else base64.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Bytes as JSON: `"plain"`, or `{"base64": "AAE="}` for what is not UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "a string, or {\"base64\": \"…\"} for bytes that are not UTF-8")]
pub enum Text {
    Plain(String),
    Encoded(Base64),
}

/// The second form of [`Text`]. The content is checked by [`Text::decode`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Base64 {
    /// Standard base64 with padding.
    pub base64: String,
}

/// A `base64` value that is none.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not standard base64 with padding")]
pub struct InvalidBase64 {
    text: String,
}

impl Text {
    /// The shortest honest form of some bytes.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Plain(text.to_owned()),
            Err(_) => Self::Encoded(Base64 { base64: encode(bytes) }),
        }
    }

    /// The bytes that were meant.
    pub fn decode(&self) -> Result<Bytes, InvalidBase64> {
        match self {
            Self::Plain(text) => Ok(Bytes::copy_from_slice(text.as_bytes())),
            Self::Encoded(Base64 { base64 }) => decode(base64)
                .map(Bytes::from)
                .ok_or_else(|| InvalidBase64 { text: base64.clone() }),
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::Plain(text.to_owned())
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .enumerate()
            .fold(0u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

fn decode(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in digits.as_bytes().chunks(4) {
        let mut bits = 0u32;
        for (at, digit) in chunk.iter().enumerate() {
            let value = ALPHABET.iter().position(|known| known == digit)?;
            bits |= u32::try_from(value).ok()? << (18 - 6 * at);
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..chunk.len()]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text_and_other_bytes_become_base64() {
        assert_eq!(
            serde_json::to_string(&Text::from_bytes("grün".as_bytes())).unwrap(),
            "\"grün\""
        );
        let binary = Text::from_bytes(&[0xff, 0xfe, 0x00]);
        assert_eq!(serde_json::to_string(&binary).unwrap(), r#"{"base64":"//4A"}"#);
    }

    #[test]
    fn every_length_survives_the_round_trip() {
        for len in 0..40u8 {
            let bytes: Vec<u8> = (0..len).map(|at| 255 - at * 3).collect();
            let text = Text::Encoded(Base64 { base64: encode(&bytes) });
            assert_eq!(text.decode().unwrap(), bytes);
        }
    }

    #[test]
    fn bad_base64_is_refused() {
        for bad in ["A", "AAA", "AA=A", "A===", "!!!!", "AAAA="] {
            let text: Text = serde_json::from_str(&format!(r#"{{"base64":"{bad}"}}"#)).unwrap();
            assert!(text.decode().is_err(), "{bad}");
        }
    }
}
