//! Keys in paths and parameters in queries: percent-encoded bytes, which need not be UTF-8.

use std::collections::BTreeMap;
use std::str::FromStr;

use api::coordinator::MAX_KEY_BYTES;
use api::problem::Code;
use axum::http::Uri;
use bytes::Bytes;
use chassis::problem::Problem;

/// The key in `/v1/kv/{key}`: everything behind the prefix, slashes included.
pub(super) fn key(uri: &Uri) -> Result<Bytes, Problem> {
    check_key(decode(uri.path().strip_prefix("/v1/kv/").unwrap_or_default(), false)?)
}

/// Refuses what cannot be a key of the native face.
pub(super) fn check_key(key: Bytes) -> Result<Bytes, Problem> {
    match key.len() {
        0 => Err(invalid("the key is empty; put it behind /v1/kv/")),
        1..=MAX_KEY_BYTES => Ok(key),
        len => Err(invalid(format!("the key is {len} bytes, the limit is {MAX_KEY_BYTES}"))),
    }
}

/// The parameters of a query. Unknown and repeated ones are refused.
pub(super) struct Params(BTreeMap<String, Bytes>);

impl Params {
    pub(super) fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let mut params = BTreeMap::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !known.contains(&name) {
                let shown: String = name.chars().take(60).collect();
                let detail = format!("there is no parameter `{shown}`; {}", list(known));
                return Err(invalid(detail));
            }
            if params.insert(name.to_owned(), decode(value, true)?).is_some() {
                return Err(invalid(format!("the parameter `{name}` is given twice")));
            }
        }
        Ok(Self(params))
    }

    pub(super) fn bytes(&self, name: &str) -> Option<Bytes> {
        self.0.get(name).cloned()
    }

    /// `true`, `false`, or just the name for `true`.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.0.get(name).map(|value| &value[..]) {
            None | Some(b"false" | b"0") => Ok(false),
            Some(b"" | b"true" | b"1") => Ok(true),
            Some(_) => Err(invalid(format!("the parameter `{name}` must be true or false"))),
        }
    }

    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Problem> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let number = str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        number.map(Some).ok_or_else(|| {
            invalid(format!("the parameter `{name}` must be a whole number in its range"))
        })
    }

    /// One of `choices`; the first when absent.
    pub(super) fn choice<'a>(&self, name: &str, choices: &[&'a str]) -> Result<&'a str, Problem> {
        let Some(value) = self.0.get(name) else { return Ok(choices[0]) };
        choices.iter().find(|choice| choice.as_bytes() == value).copied().ok_or_else(|| {
            invalid(format!("the parameter `{name}` must be one of {}", choices.join(", ")))
        })
    }
}

fn list(known: &[&str]) -> String {
    if known.is_empty() {
        "this path has none".into()
    } else {
        format!("known: {}", known.join(", "))
    }
}

pub(super) fn invalid(detail: impl std::fmt::Display) -> Problem {
    Problem::new(Code::InvalidRequest, detail)
}

/// `form`: a plus is a blank, as in queries.
fn decode(text: &str, form: bool) -> Result<Bytes, Problem> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'+' if form => bytes.push(b' '),
            b'%' => {
                let digits =
                    tail.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
                let digits = digits.and_then(|digits| str::from_utf8(digits).ok());
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                let Some(byte) = byte else {
                    return Err(invalid(
                        "a `%` must be followed by two hexadecimal digits; write %25",
                    ));
                };
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => bytes.push(byte),
        }
    }
    Ok(bytes.into())
}

/// The inverse, for `next`: safe in a query and in a path.
pub(super) fn encode(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~/:@".contains(byte) {
            text.push(char::from(*byte));
        } else {
            let _infallible = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_the_round_trip() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all), true).unwrap(), all);
        assert_eq!(decode(&encode(&all), false).unwrap(), all);
    }

    #[test]
    fn a_broken_escape_is_refused() {
        for bad in ["%", "%4", "%zz", "a%+1", "%é"] {
            assert!(decode(bad, false).is_err(), "{bad}");
        }
    }

    #[test]
    fn unknown_and_repeated_parameters_are_refused_by_name() {
        let known = ["limit", "prefix"];
        let error = Params::parse(Some("limt=5"), &known).err().unwrap();
        assert!(error.details().detail.contains("known: limit, prefix"), "{error}");
        assert!(Params::parse(Some("limit=5&limit=6"), &known).is_err());
        let params = Params::parse(Some("limit=5&prefix=a+b%2Fc"), &known).unwrap();
        assert_eq!(params.number("limit").unwrap(), Some(5_u64));
        assert_eq!(params.bytes("prefix").unwrap(), "a b/c");
    }
}
