//! `POST /v1/txn`: if all comparisons hold then one list of operations, else the other.
//!
//! ```json
//! {"if":   [{"key": "leader", "exists": false}],
//!  "then": [{"put": {"key": "leader", "value": "a", "lease": "17"}}],
//!  "else": [{"get": {"key": "leader"}}]}
//! ```
//!
//! All writes of one transaction share one revision, and nobody sees half of it.

use serde::{Deserialize, Serialize};

use super::{KeyValue, LeaseId, Text};

/// At most 128 comparisons, and 128 operations in each branch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TxnRequest {
    /// All must hold for `then` to run. Empty holds.
    #[serde(default, rename = "if", skip_serializing_if = "Vec::is_empty")]
    pub compares: Vec<Compare>,
    #[serde(default, rename = "then", skip_serializing_if = "Vec::is_empty")]
    #[schema(no_recursion)]
    pub success: Vec<Op>,
    #[serde(default, rename = "else", skip_serializing_if = "Vec::is_empty")]
    #[schema(no_recursion)]
    pub failure: Vec<Op>,
}

/// One comparison: `key` (or every key of `prefix`) and exactly one of `exists`, `value`,
/// `version`, `create_revision`, `mod_revision`, `lease`. A missing key has 0 for each number
/// and no value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Compare {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Text>,
    /// How the stored value must relate to the given one. Not with `exists`.
    #[serde(default)]
    pub op: CompareOp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exists: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_revision: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mod_revision: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CompareOp {
    #[default]
    #[serde(alias = "=")]
    Equal,
    #[serde(alias = "!=")]
    NotEqual,
    #[serde(alias = ">")]
    Greater,
    #[serde(alias = "<")]
    Less,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    Put(PutOp),
    Get(GetOp),
    Delete(RangeOp),
    /// A transaction inside this one. Its comparisons see the state before the whole transaction.
    #[schema(no_recursion)]
    Txn(TxnRequest),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutOp {
    pub key: Text,
    pub value: Text,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
}

/// `key` or `prefix`, not both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RangeOp {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Text>,
}

/// `key` or `prefix`, not both. Sees the writes before it in the same transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GetOp {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Text>,
    /// At most this many keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    #[serde(default)]
    pub keys_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TxnReply {
    /// Whether `then` ran.
    pub succeeded: bool,
    /// The store's revision after the transaction.
    pub revision: u64,
    /// One result per operation of the branch that ran.
    #[schema(no_recursion)]
    pub results: Vec<OpResult>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OpResult {
    Put(PutResult),
    Get(GetResult),
    Delete(DeleteResult),
    #[schema(no_recursion)]
    Txn(TxnReply),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PutResult {
    pub revision: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GetResult {
    pub kvs: Vec<KeyValue>,
    /// Keys in the range, whatever `limit` cut.
    pub count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeleteResult {
    pub deleted: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_example_parses() {
        let request: TxnRequest = serde_json::from_str(
            r#"{"if":   [{"key": "leader", "exists": false}],
                "then": [{"put": {"key": "leader", "value": "a", "lease": "17"}}],
                "else": [{"get": {"key": "leader"}}]}"#,
        )
        .unwrap();
        assert_eq!(request.compares[0].exists, Some(false));
        assert!(matches!(&request.success[0], Op::Put(put) if put.lease == Some(LeaseId(17))));
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let error = serde_json::from_str::<TxnRequest>(r#"{"than":[]}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `than`"), "{error}");
    }
}
