//! `/v3/kv/txn`.

use serde::{Deserialize, Serialize};

use super::super::error::{self, EtcdError};
use super::codec::{Blob, Enum, Int, Named, nullable, zero};
use super::kv::{int, required_range};
use super::{
    DeleteRangeRequest, DeleteRangeResponse, Header, KeyValue, PutRequest, PutResponse,
    RangeRequest, RangeResponse,
};
use crate::store::{Compare, LeaseId, Op, OpResult, Operand, Relation, Revision, Txn, TxnResult};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TxnRequest {
    #[serde(deserialize_with = "nullable")]
    compare: Vec<CompareRequest>,
    #[serde(deserialize_with = "nullable")]
    success: Vec<OpRequest>,
    #[serde(deserialize_with = "nullable")]
    failure: Vec<OpRequest>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct CompareRequest {
    result: Enum<Relation>,
    target: Enum<Target>,
    key: Blob,
    #[serde(alias = "rangeEnd")]
    range_end: Blob,
    version: Int,
    #[serde(alias = "createRevision")]
    create_revision: Int,
    #[serde(alias = "modRevision")]
    mod_revision: Int,
    value: Blob,
    lease: Int,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Target {
    #[default]
    Version,
    Create,
    Mod,
    Value,
    Lease,
}

impl Named for Target {
    const VALUES: &[(&'static str, Self)] = &[
        ("VERSION", Self::Version),
        ("CREATE", Self::Create),
        ("MOD", Self::Mod),
        ("VALUE", Self::Value),
        ("LEASE", Self::Lease),
    ];
}

impl Named for Relation {
    const VALUES: &[(&'static str, Self)] = &[
        ("EQUAL", Self::Equal),
        ("GREATER", Self::Greater),
        ("LESS", Self::Less),
        ("NOT_EQUAL", Self::NotEqual),
    ];
}

/// One of these. The first that is given counts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct OpRequest {
    #[serde(alias = "requestRange")]
    request_range: Option<RangeRequest>,
    #[serde(alias = "requestPut")]
    request_put: Option<PutRequest>,
    #[serde(alias = "requestDeleteRange")]
    request_delete_range: Option<DeleteRangeRequest>,
    #[serde(alias = "requestTxn")]
    request_txn: Option<TxnRequest>,
}

impl TxnRequest {
    /// True if every read in it may be answered by any node from what it has.
    pub(crate) fn is_serializable(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| {
            op.request_range.as_ref().is_none_or(|range| range.serializable)
                && op.request_txn.as_ref().is_none_or(Self::is_serializable)
        })
    }

    pub(crate) fn txn(self) -> Result<Txn, EtcdError> {
        Ok(Txn {
            compares: all(self.compare, CompareRequest::compare)?,
            success: all(self.success, OpRequest::op)?,
            failure: all(self.failure, OpRequest::op)?,
        })
    }
}

fn all<T, U>(
    list: Vec<T>,
    convert: impl Fn(T) -> Result<U, EtcdError>,
) -> Result<Vec<U>, EtcdError> {
    list.into_iter().map(convert).collect()
}

impl CompareRequest {
    fn compare(self) -> Result<Compare, EtcdError> {
        let operand = match self.target.0 {
            Target::Version => Operand::Version(self.version.0),
            Target::Create => Operand::Create(self.create_revision.0),
            Target::Mod => Operand::Mod(self.mod_revision.0),
            Target::Value => Operand::Value(self.value.0),
            Target::Lease => Operand::Lease(LeaseId(self.lease.0)),
        };
        let range = required_range(self.key, self.range_end)?;
        Ok(Compare { range, relation: self.result.0, operand })
    }
}

impl OpRequest {
    fn op(self) -> Result<Op, EtcdError> {
        if let Some(range) = self.request_range {
            return range.query().map(Op::Range);
        }
        if let Some(put) = self.request_put {
            return put.put().map(Op::Put);
        }
        if let Some(delete) = self.request_delete_range {
            return delete.delete().map(Op::Delete);
        }
        match self.request_txn {
            Some(txn) => txn.txn().map(Op::Txn),
            None => Err(error::KEY_NOT_FOUND),
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct TxnResponse {
    header: Header,
    #[serde(skip_serializing_if = "zero")]
    succeeded: bool,
    #[serde(skip_serializing_if = "zero")]
    responses: Vec<OpResponse>,
}

/// Written even when empty: clients look for the name.
#[derive(Clone, Debug, Serialize)]
enum OpResponse {
    #[serde(rename = "response_range")]
    Range(RangeResponse),
    #[serde(rename = "response_put")]
    Put(PutResponse),
    #[serde(rename = "response_delete_range")]
    DeleteRange(DeleteRangeResponse),
    #[serde(rename = "response_txn")]
    Txn(TxnResponse),
}

impl TxnResponse {
    pub(crate) fn new(header: Header, result: &TxnResult) -> Self {
        let responses = result.results.iter().map(OpResponse::from).collect();
        Self { header, succeeded: result.succeeded, responses }
    }
}

impl From<&OpResult> for OpResponse {
    fn from(result: &OpResult) -> Self {
        let nested = |revision: &Revision| Header { revision: int(*revision), ..Header::default() };
        match result {
            OpResult::Range(result) => {
                Self::Range(RangeResponse::new(nested(&result.revision), result))
            }
            OpResult::Put { revision, previous, .. } => Self::Put(PutResponse {
                header: nested(revision),
                prev_kv: previous.as_deref().map(KeyValue::from),
            }),
            OpResult::Delete { revision, deleted, previous } => {
                Self::DeleteRange(DeleteRangeResponse {
                    header: nested(revision),
                    deleted: Int(deleted.cast_signed()),
                    prev_kvs: previous.iter().map(|record| KeyValue::from(&**record)).collect(),
                })
            }
            OpResult::Txn(result) => Self::Txn(TxnResponse::new(Header::default(), result)),
        }
    }
}
