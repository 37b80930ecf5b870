//! Between the types of `api` and those of the store.

use api::coordinator::{self as wire, KeyValue, Text};
use bytes::Bytes;
use chassis::problem::Problem;

use super::params::{check_key, invalid};
use crate::store::{
    Compare, Delete, KeyRange, Lease, LeaseId, Op, OpResult, Operand, Put, RangeQuery, Record,
    Relation, Txn, TxnResult,
};

pub(super) fn key_value(record: &Record, keys_only: bool) -> KeyValue {
    KeyValue {
        key: Text::from_bytes(&record.key),
        value: (!keys_only).then(|| Text::from_bytes(&record.value)),
        create_revision: record.create_revision.0,
        mod_revision: record.mod_revision.0,
        version: record.version,
        lease: attached(record.lease),
    }
}

pub(super) fn attached(lease: LeaseId) -> Option<wire::LeaseId> {
    (lease != LeaseId::NONE).then_some(wire::LeaseId(lease.0))
}

/// The lease a key shall have; none when not given. 0 would be none as well, so it is refused.
pub(super) fn lease_id(id: Option<i64>) -> Result<LeaseId, Problem> {
    match id {
        Some(0) => Err(invalid("there is no lease 0; leave it out for a key without a lease")),
        id => Ok(id.map_or(LeaseId::NONE, LeaseId)),
    }
}

pub(super) fn lease(lease: &Lease, now_ms: u64, with_keys: bool) -> wire::Lease {
    wire::Lease {
        id: wire::LeaseId(lease.id.0),
        ttl_seconds: lease.ttl_seconds,
        remaining_seconds: lease.remaining_seconds(now_ms),
        keys: with_keys.then(|| lease.keys.iter().map(|key| Text::from_bytes(key)).collect()),
    }
}

/// A lease that has just begun anew.
pub(super) fn renewed(lease: &Lease) -> wire::Lease {
    wire::Lease {
        id: wire::LeaseId(lease.id.0),
        ttl_seconds: lease.ttl_seconds,
        remaining_seconds: lease.ttl_seconds,
        keys: None,
    }
}

pub(super) fn txn(request: wire::TxnRequest) -> Result<Txn, Problem> {
    Ok(Txn {
        compares: all(request.compares, compare)?,
        success: all(request.success, op)?,
        failure: all(request.failure, op)?,
    })
}

fn all<T, U>(list: Vec<T>, convert: fn(T) -> Result<U, Problem>) -> Result<Vec<U>, Problem> {
    list.into_iter().map(convert).collect()
}

fn bytes(text: &Text) -> Result<Bytes, Problem> {
    text.decode().map_err(invalid)
}

fn key(text: &Text) -> Result<Bytes, Problem> {
    check_key(bytes(text)?)
}

fn range(one: Option<&Text>, prefix: Option<&Text>) -> Result<KeyRange, Problem> {
    match (one, prefix) {
        (Some(one), None) => key(one).map(KeyRange::One),
        (None, Some(prefix)) => bytes(prefix).map(KeyRange::prefix),
        _ => Err(invalid("an operation or comparison needs either `key` or `prefix`")),
    }
}

fn compare(request: wire::Compare) -> Result<Compare, Problem> {
    let range = range(request.key.as_ref(), request.prefix.as_ref())?;
    let number = |number: u64| {
        i64::try_from(number).map_err(|_| invalid("a number in a comparison is too large"))
    };
    let mut operands = Vec::new();
    if let Some(value) = &request.value {
        operands.push(Operand::Value(bytes(value)?));
    }
    if let Some(version) = request.version {
        operands.push(Operand::Version(number(version)?));
    }
    if let Some(revision) = request.create_revision {
        operands.push(Operand::Create(number(revision)?));
    }
    if let Some(revision) = request.mod_revision {
        operands.push(Operand::Mod(number(revision)?));
    }
    if let Some(lease) = request.lease {
        operands.push(Operand::Lease(LeaseId(lease.0)));
    }
    let relation = match (request.op, request.exists) {
        (wire::CompareOp::Equal, Some(exists)) => {
            operands.push(Operand::Version(0));
            if exists { Relation::NotEqual } else { Relation::Equal }
        }
        (_, Some(_)) => return Err(invalid("`exists` is true or false; leave out `op`")),
        (wire::CompareOp::Equal, None) => Relation::Equal,
        (wire::CompareOp::NotEqual, None) => Relation::NotEqual,
        (wire::CompareOp::Greater, None) => Relation::Greater,
        (wire::CompareOp::Less, None) => Relation::Less,
    };
    let operand = operands.pop().filter(|_| operands.is_empty());
    let operand = operand.ok_or_else(|| {
        invalid(
            "a comparison needs exactly one of `exists`, `value`, `version`, `create_revision`, \
             `mod_revision`, `lease`",
        )
    })?;
    Ok(Compare { range, relation, operand })
}

fn op(request: wire::Op) -> Result<Op, Problem> {
    Ok(match request {
        wire::Op::Put(put) => Op::Put(Put {
            key: key(&put.key)?,
            value: Some(bytes(&put.value)?),
            lease: Some(lease_id(put.lease.map(|lease| lease.0))?),
            previous: false,
        }),
        wire::Op::Get(get) => Op::Range(RangeQuery {
            limit: get.limit.unwrap_or(0).into(),
            keys_only: get.keys_only,
            ..RangeQuery::of(range(get.key.as_ref(), get.prefix.as_ref())?)
        }),
        wire::Op::Delete(delete) => Op::Delete(Delete {
            range: range(delete.key.as_ref(), delete.prefix.as_ref())?,
            previous: false,
        }),
        wire::Op::Txn(nested) => Op::Txn(txn(nested)?),
    })
}

pub(super) fn txn_reply(result: &TxnResult) -> wire::TxnReply {
    wire::TxnReply {
        succeeded: result.succeeded,
        revision: result.revision.0,
        results: result.results.iter().map(op_result).collect(),
    }
}

fn op_result(result: &OpResult) -> wire::OpResult {
    match result {
        OpResult::Put { revision, .. } => {
            wire::OpResult::Put(wire::PutResult { revision: revision.0 })
        }
        OpResult::Range(range) => {
            let kvs = range.records.iter().map(|record| key_value(record, range.keys_only));
            wire::OpResult::Get(wire::GetResult { kvs: kvs.collect(), count: range.count })
        }
        OpResult::Delete { deleted, .. } => {
            wire::OpResult::Delete(wire::DeleteResult { deleted: *deleted })
        }
        OpResult::Txn(result) => wire::OpResult::Txn(txn_reply(result)),
    }
}
