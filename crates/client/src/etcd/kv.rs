//! Keys: range, put, delete, transactions.

use bytes::Bytes;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::lease::LeaseId;
use super::wire::{Header, bytes, signed, write_bytes};

/// One key with its value and its place in history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct KeyValue {
    #[serde(deserialize_with = "bytes")]
    pub key: Bytes,
    #[serde(deserialize_with = "bytes")]
    pub value: Bytes,
    #[serde(deserialize_with = "signed")]
    pub create_revision: i64,
    #[serde(deserialize_with = "signed")]
    pub mod_revision: i64,
    #[serde(deserialize_with = "signed")]
    pub version: i64,
    /// Zero: none.
    #[serde(deserialize_with = "super::lease::id")]
    pub lease: LeaseId,
}

/// The end of the range of all keys that begin with `prefix`: the prefix with its last byte that
/// can grow grown by one. A zero byte stands for "to the end of all keys".
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let Some(last) = prefix.iter().rposition(|byte| *byte < 0xff) else { return vec![0] };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end
}

/// Which keys to read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RangeRequest {
    #[serde(serialize_with = "write_bytes")]
    key: Vec<u8>,
    #[serde(serialize_with = "write_bytes", skip_serializing_if = "Vec::is_empty")]
    range_end: Vec<u8>,
    #[serde(skip_serializing_if = "is_zero")]
    limit: i64,
    #[serde(skip_serializing_if = "is_zero")]
    revision: i64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    serializable: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    keys_only: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    count_only: bool,
}

impl RangeRequest {
    /// One key.
    #[must_use]
    pub fn key(key: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), ..Self::default() }
    }

    /// All keys that begin with `prefix`; with an empty one, all keys.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { key: first_key(prefix), range_end: prefix_end(prefix), ..Self::default() }
    }

    /// The keys of a prefix from `start` on, for the pages after the first.
    #[must_use]
    pub fn prefix_from(prefix: &[u8], start: impl Into<Vec<u8>>) -> Self {
        Self { key: start.into(), range_end: prefix_end(prefix), ..Self::default() }
    }

    /// At most so many.
    #[must_use]
    pub const fn limit(mut self, limit: i64) -> Self {
        self.limit = limit;
        self
    }

    /// As of this revision.
    #[must_use]
    pub const fn revision(mut self, revision: i64) -> Self {
        self.revision = revision;
        self
    }

    /// From the asked node's own state, however old.
    #[must_use]
    pub const fn serializable(mut self) -> Self {
        self.serializable = true;
        self
    }

    /// Without values.
    #[must_use]
    pub const fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }

    /// Only how many there are.
    #[must_use]
    pub const fn count_only(mut self) -> Self {
        self.count_only = true;
        self
    }
}

/// The empty key does not exist; etcd writes "from the beginning" as a zero byte.
fn first_key(prefix: &[u8]) -> Vec<u8> {
    if prefix.is_empty() { vec![0] } else { prefix.to_vec() }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// What a range read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RangeResponse {
    pub header: Header,
    /// In key order.
    pub kvs: Vec<KeyValue>,
    /// The limit cut it.
    pub more: bool,
    /// Keys in the whole range.
    #[serde(deserialize_with = "signed")]
    pub count: i64,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PutRequest {
    #[serde(serialize_with = "write_bytes")]
    key: Vec<u8>,
    #[serde(serialize_with = "write_bytes")]
    value: Bytes,
    #[serde(skip_serializing_if = "LeaseId::is_none")]
    lease: LeaseId,
}

impl PutRequest {
    #[must_use]
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: value.into(), lease: LeaseId(0) }
    }

    /// The key goes when this lease ends.
    #[must_use]
    pub const fn lease(mut self, lease: LeaseId) -> Self {
        self.lease = lease;
        self
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PutResponse {
    pub(super) header: Header,
}

/// Which keys to delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeleteRequest {
    #[serde(serialize_with = "write_bytes")]
    key: Vec<u8>,
    #[serde(serialize_with = "write_bytes", skip_serializing_if = "Vec::is_empty")]
    range_end: Vec<u8>,
}

impl DeleteRequest {
    /// One key.
    #[must_use]
    pub fn key(key: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), range_end: Vec::new() }
    }

    /// All keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { key: first_key(prefix), range_end: prefix_end(prefix) }
    }
}

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DeleteResponse {
    pub header: Header,
    #[serde(deserialize_with = "signed")]
    pub deleted: i64,
}

/// How a stored field must relate to the given one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Relation {
    #[default]
    Equal,
    NotEqual,
    Greater,
    Less,
}

/// The field that is compared. A missing key has zeros, and no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    Version(i64),
    CreateRevision(i64),
    ModRevision(i64),
    Value(Bytes),
}

/// One comparison of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    pub key: Vec<u8>,
    pub relation: Relation,
    pub operand: Operand,
}

impl Compare {
    /// The key does not exist.
    #[must_use]
    pub fn absent(key: impl Into<Vec<u8>>) -> Self {
        let operand = Operand::CreateRevision(0);
        Self { key: key.into(), relation: Relation::Equal, operand }
    }

    /// The key has not changed since this revision.
    #[must_use]
    pub fn unchanged(key: impl Into<Vec<u8>>, mod_revision: i64) -> Self {
        let operand = Operand::ModRevision(mod_revision);
        Self { key: key.into(), relation: Relation::Equal, operand }
    }
}

/// Bytes that serialize as base64.
struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write_bytes(&self.0, serializer)
    }
}

impl Serialize for Compare {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("key", &Base64(&self.key))?;
        map.serialize_entry("result", &self.relation)?;
        let (target, field, number) = match &self.operand {
            Operand::Version(number) => ("VERSION", "version", number),
            Operand::CreateRevision(number) => ("CREATE", "create_revision", number),
            Operand::ModRevision(number) => ("MOD", "mod_revision", number),
            Operand::Value(value) => {
                map.serialize_entry("target", "VALUE")?;
                map.serialize_entry("value", &Base64(value))?;
                return map.end();
            }
        };
        map.serialize_entry("target", target)?;
        map.serialize_entry(field, &number.to_string())?;
        map.end()
    }
}

/// One operation of a branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum TxnOp {
    #[serde(rename = "request_range")]
    Range(RangeRequest),
    #[serde(rename = "request_put")]
    Put(PutRequest),
    #[serde(rename = "request_delete_range")]
    Delete(DeleteRequest),
}

/// If all comparisons hold, one branch, else the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TxnRequest {
    pub compare: Vec<Compare>,
    pub success: Vec<TxnOp>,
    pub failure: Vec<TxnOp>,
}

/// What one operation did.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub enum TxnResult {
    #[serde(rename = "response_range")]
    Range(RangeResponse),
    #[serde(rename = "response_put")]
    Put {
        #[serde(default)]
        header: Header,
    },
    #[serde(rename = "response_delete_range")]
    Delete(DeleteResponse),
}

/// Which branch ran, and what it did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TxnResponse {
    pub header: Header,
    pub succeeded: bool,
    /// One for each operation of the branch.
    pub responses: Vec<TxnResult>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        assert_eq!(prefix_end(b"a/"), b"a0");
        assert_eq!(prefix_end(&[b'a', 0xff, 0xff]), b"b");
        assert_eq!(prefix_end(&[0xff]), [0]);
        assert_eq!(prefix_end(b""), [0]);
    }

    #[test]
    fn requests_are_what_etcd_documents() {
        let check = |request: &dyn Fn() -> serde_json::Value, json: &str| {
            assert_eq!(request().to_string(), json);
        };
        let value = |request| serde_json::to_value::<TxnRequest>(request).unwrap();
        check(
            &|| serde_json::to_value(RangeRequest::prefix(b"foo").limit(5)).unwrap(),
            r#"{"key":"Zm9v","limit":5,"range_end":"Zm9w"}"#,
        );
        check(
            &|| serde_json::to_value(PutRequest::new("foo", "bar").lease(LeaseId(7))).unwrap(),
            r#"{"key":"Zm9v","lease":"7","value":"YmFy"}"#,
        );
        let txn = TxnRequest {
            compare: vec![Compare::absent("foo")],
            success: vec![TxnOp::Put(PutRequest::new("foo", "bar"))],
            failure: vec![TxnOp::Range(RangeRequest::key("foo"))],
        };
        check(
            &|| value(txn.clone()),
            r#"{"compare":[{"create_revision":"0","key":"Zm9v","result":"EQUAL","target":"CREATE"}],"failure":[{"request_range":{"key":"Zm9v"}}],"success":[{"request_put":{"key":"Zm9v","value":"YmFy"}}]}"#,
        );
    }

    #[test]
    fn a_missing_field_is_zero() {
        let range: RangeResponse = serde_json::from_str(
            r#"{"header":{"revision":"3"},"kvs":[{"key":"Zm9v","mod_revision":"3"}],"count":"1"}"#,
        )
        .unwrap();
        assert_eq!(range.kvs[0].key, "foo");
        assert_eq!((range.kvs[0].value.len(), range.kvs[0].lease), (0, LeaseId(0)));
        assert_eq!(serde_json::from_str::<RangeResponse>("{}").unwrap(), RangeResponse::default());
        let txn: TxnResponse = serde_json::from_str(
            r#"{"succeeded":true,"responses":[{"response_put":{}},{"response_delete_range":{"deleted":"1"}}]}"#,
        )
        .unwrap();
        assert!(txn.succeeded);
        assert!(matches!(txn.responses[1], TxnResult::Delete(DeleteResponse { deleted: 1, .. })));
    }
}
