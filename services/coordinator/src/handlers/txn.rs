//! `/v1/txn` and `/v1/compact`.

use api::coordinator::{CompactReply, CompactRequest, REVISION_HEADER, TxnReply, TxnRequest};
use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use chassis::extract::Json;
use chassis::problem::Problem;

use super::idempotency::Once;
use super::params::invalid;
use super::refusal::{Refusal as _, refused};
use super::wire;
use super::{App, State};
use crate::store::Revision;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route(api::coordinator::TXN, post(txn))
        .route(api::coordinator::COMPACT, post(compact))
}

/// Compares, then runs one of two lists of operations: all of it at once or nothing.
#[utoipa::path(post, path = "/v1/txn", tag = "kv", request_body = TxnRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "a repeat answers the first result")),
    responses((status = 200, body = TxnReply), (status = 400, description = "invalid-request"),
              (status = 413, description = "too-large"),
              (status = 404, description = "lease-not-found"),
              (status = 409, description = "conflict: carried out before, with an answer too large to be kept"),
              (status = 422, description = "idempotency-mismatch"), (status = 429, description = "limit-reached")))]
pub(super) async fn txn(
    State(app): State<App>,
    Once(name, Json(request)): Once<Json<TxnRequest>>,
) -> Result<Response, Problem> {
    if request == TxnRequest::default() {
        return Err(invalid("the transaction is empty; give it `if`, `then` or `else`"));
    }
    let txn = wire::txn(request)?;
    app.check_len(txn.payload_bytes())?;
    txn.check(app.max_txn_ops()).map_err(|error| error.problem())?;
    let result = app.coordinator().once(name).txn(txn).await.map_err(refused)?;
    let now = [(REVISION_HEADER, result.revision.to_string())];
    Ok((now, Json(wire::txn_reply(&result))).into_response())
}

/// Drops history before a revision.
#[utoipa::path(post, path = "/v1/compact", tag = "kv", request_body = CompactRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "a repeat answers the first result")),
    responses((status = 200, body = CompactReply), (status = 410, description = "compacted already"),
              (status = 416, description = "the revision does not exist yet")))]
pub(super) async fn compact(
    State(app): State<App>,
    Once(name, Json(request)): Once<Json<CompactRequest>>,
) -> Result<Json<CompactReply>, Problem> {
    let at = Revision(request.revision);
    let done = app.coordinator().once(name).compact(at).await.map_err(refused)?;
    Ok(Json(CompactReply { revision: done.revision.0, compact_revision: done.compacted.0 }))
}
