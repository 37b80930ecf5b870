//! `/v1/txn` and `/v1/compact`.

use api::coordinator::{CompactReply, CompactRequest, REVISION_HEADER, TxnReply, TxnRequest};
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use chassis::extract::Json;
use chassis::problem::Problem;

use super::App;
use super::params::invalid;
use super::refusal::{Refusal as _, refused};
use super::wire;
use crate::store::Revision;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route(api::coordinator::TXN, post(txn))
        .route(api::coordinator::COMPACT, post(compact))
}

/// Compares, then runs one of two lists of operations: all of it at once or nothing.
#[utoipa::path(post, path = "/v1/txn", tag = "kv", request_body = TxnRequest,
    responses((status = 200, body = TxnReply), (status = 400, description = "invalid-request"),
              (status = 404, description = "lease-not-found"), (status = 429, description = "limit-reached")))]
pub(super) async fn txn(
    State(app): State<App>,
    Json(request): Json<TxnRequest>,
) -> Result<Response, Problem> {
    if request == TxnRequest::default() {
        return Err(invalid("the transaction is empty; give it `if`, `then` or `else`"));
    }
    let txn = wire::txn(request)?;
    txn.check().map_err(|error| error.problem())?;
    let result = app.coordinator().txn(txn).await.map_err(refused)?;
    let now = [(REVISION_HEADER, result.revision.to_string())];
    Ok((now, Json(wire::txn_reply(&result))).into_response())
}

/// Drops history before a revision.
#[utoipa::path(post, path = "/v1/compact", tag = "kv", request_body = CompactRequest,
    responses((status = 200, body = CompactReply), (status = 410, description = "compacted already"),
              (status = 416, description = "the revision does not exist yet")))]
pub(super) async fn compact(
    State(app): State<App>,
    Json(request): Json<CompactRequest>,
) -> Result<Json<CompactReply>, Problem> {
    app.coordinator().compact(Revision(request.revision)).await.map_err(refused)?;
    let (revision, compacted) =
        app.coordinator().query(|store| (store.revision(), store.mvcc.compacted())).await?;
    Ok(Json(CompactReply { revision: revision.0, compact_revision: compacted.0 }))
}
