//! The JSON of etcd's gateway: what every era of it sends.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::StatusCode;
use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, Serializer};

use crate::{Error, Outcome};

/// In every reply: who answered, and as of when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Header {
    #[serde(deserialize_with = "unsigned")]
    pub cluster_id: u64,
    #[serde(deserialize_with = "unsigned")]
    pub member_id: u64,
    /// The store's revision when it answered.
    #[serde(deserialize_with = "signed")]
    pub revision: i64,
    #[serde(deserialize_with = "unsigned")]
    pub raft_term: u64,
}

struct Integer<T>(std::marker::PhantomData<T>);

macro_rules! integer {
    ($name:ident, $type:ty) => {
        impl Visitor<'_> for Integer<$type> {
            type Value = $type;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer, as a number or as a decimal string")
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<$type, E> {
                <$type>::try_from(number).map_err(E::custom)
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<$type, E> {
                <$type>::try_from(number).map_err(E::custom)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_unit<E: serde::de::Error>(self) -> Result<$type, E> {
                Ok(0)
            }
        }

        pub(super) fn $name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
            deserializer.deserialize_any(Integer::<$type>(std::marker::PhantomData))
        }
    };
}

integer!(signed, i64);
integer!(unsigned, u64);

/// Bytes as base64.
pub(super) fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    let text = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
    let text = text.unwrap_or_default();
    STANDARD.decode(text.as_bytes()).map(Bytes::from).map_err(D::Error::custom)
}

/// Writes bytes as base64.
pub(super) fn write_bytes<S: Serializer>(
    bytes: &impl AsRef<[u8]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

/// An error: unary `{"error","code","message"}` or `{"code","message"}`, in a stream
/// `{"grpc_code","http_code","message"}` or `{"code","message"}`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    code: u32,
    grpc_code: u32,
    message: String,
    error: String,
}

impl Status {
    pub(super) fn into_error(self) -> Error {
        let code = if self.code == 0 { self.grpc_code } else { self.code };
        let message = if self.message.is_empty() { self.error } else { self.message };
        let mut error = Error::bad_answer(message);
        error.code = format!("etcd-{code}").into_boxed_str();
        error.outcome = outcome(code);
        error
    }
}

/// Of gRPC's codes, these tell that the request was judged and not carried out.
const fn outcome(code: u32) -> Outcome {
    match code {
        3 | 5..=9 | 11 | 12 | 16 => Outcome::NotDone,
        _ => Outcome::Unknown,
    }
}

/// Reads an answer that is no success.
pub(crate) fn error_from_answer(status: StatusCode, body: &[u8]) -> Error {
    let mut error = match serde_json::from_slice::<Status>(body) {
        Ok(read) if read.code != 0 || read.grpc_code != 0 => read.into_error(),
        _ => Error::from_answer(status, body),
    };
    error.status = Some(status);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_come_in_both_forms_and_stay_exact() {
        for text in [
            r#"{"cluster_id":"18446744073709551615","revision":"9007199254740993"}"#,
            r#"{"cluster_id":18446744073709551615,"revision":9007199254740993,"raft_term":null}"#,
        ] {
            let header: Header = serde_json::from_str(text).unwrap();
            assert_eq!(header.cluster_id, u64::MAX);
            assert_eq!(header.revision, 9_007_199_254_740_993);
            assert_eq!(header.raft_term, 0);
        }
    }

    #[test]
    fn errors_of_every_era_are_decided_by_their_code() {
        for (status, body) in [
            (
                404,
                r#"{"error":"etcdserver: requested lease not found","message":"etcdserver: requested lease not found","code":5}"#,
            ),
            (404, r#"{"code":5,"message":"etcdserver: requested lease not found"}"#),
        ] {
            let error = error_from_answer(StatusCode::from_u16(status).unwrap(), body.as_bytes());
            assert_eq!(error.etcd_code(), Some(5));
            assert_eq!(error.outcome, Outcome::NotDone);
            assert_eq!(error.to_string(), "etcdserver: requested lease not found");
        }
        let stream = r#"{"grpc_code":14,"http_code":503,"message":"error reading from server: EOF","http_status":"Service Unavailable"}"#;
        let error = serde_json::from_str::<Status>(stream).unwrap().into_error();
        assert_eq!((error.etcd_code(), error.outcome), (Some(14), Outcome::Unknown));
    }

    #[test]
    fn what_is_no_etcd_error_is_still_an_error() {
        let error = error_from_answer(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!((error.etcd_code(), &*error.code), (None, "bad-gateway"));
    }
}
