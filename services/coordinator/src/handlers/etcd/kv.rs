//! `/v3/kv/*`.

use super::super::caller::Unguarded;
use super::EtcdError;
use super::answer::{Message, Reply};
use super::message::codec::Int;
use super::message::{
    CompactionRequest, DeleteRangeRequest, DeleteRangeResponse, HeaderOnly, KeyValue, PutRequest,
    PutResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};
use crate::store::{Op, OpResult, Txn};

pub(super) async fn range(
    Unguarded(app): Unguarded,
    Message(request): Message<RangeRequest>,
) -> Result<Reply<RangeResponse>, EtcdError> {
    let serializable = request.serializable;
    let query = request.query()?;
    let store = app.read(serializable).await?;
    app.coordinator().may_read(&store, &query.range)?;
    app.coordinator().metrics().ranges.inc();
    let result = store.mvcc.range(&query)?;
    Ok(Reply(RangeResponse::new(app.header(result.revision), &result)))
}

pub(super) async fn put(
    Unguarded(app): Unguarded,
    Message(request): Message<PutRequest>,
) -> Result<Reply<PutResponse>, EtcdError> {
    let result = app.coordinator().txn(Txn::always(Op::Put(request.put()?))).await?;
    let header = app.header(result.revision);
    let prev_kv = result.results.first().and_then(|result| match result {
        OpResult::Put { previous, .. } => previous.as_deref().map(KeyValue::from),
        OpResult::Range(_) | OpResult::Delete { .. } | OpResult::Txn(_) => None,
    });
    Ok(Reply(PutResponse { header, prev_kv }))
}

pub(super) async fn delete_range(
    Unguarded(app): Unguarded,
    Message(request): Message<DeleteRangeRequest>,
) -> Result<Reply<DeleteRangeResponse>, EtcdError> {
    let result = app.coordinator().txn(Txn::always(Op::Delete(request.delete()?))).await?;
    let header = app.header(result.revision);
    let mut response = DeleteRangeResponse { header, deleted: Int(0), prev_kvs: Vec::new() };
    if let Some(OpResult::Delete { deleted, previous, .. }) = result.results.first() {
        response.deleted = Int(deleted.cast_signed());
        response.prev_kvs = previous.iter().map(|record| KeyValue::from(&**record)).collect();
    }
    Ok(Reply(response))
}

pub(super) async fn txn(
    Unguarded(app): Unguarded,
    Message(request): Message<TxnRequest>,
) -> Result<Reply<TxnResponse>, EtcdError> {
    let serializable = request.is_serializable();
    let txn = request.txn()?;
    txn.check(app.max_txn_ops())?;
    let result = if serializable && txn.is_read_only() {
        let store = app.read(serializable).await?;
        app.coordinator().check_txn(&store, &txn)?;
        store.read(&txn)?
    } else {
        app.coordinator().txn(txn).await?
    };
    Ok(Reply(TxnResponse::new(app.header(result.revision), &result)))
}

pub(super) async fn compaction(
    Unguarded(app): Unguarded,
    Message(request): Message<CompactionRequest>,
) -> Result<Reply<HeaderOnly>, EtcdError> {
    app.coordinator().compact(request.revision()).await?;
    Ok(Reply(HeaderOnly { header: app.header_now().await }))
}
