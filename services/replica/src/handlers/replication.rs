//! `GET /v1/replication`.

use api::replica::{REPLICATION, ReplicationStatus};
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use chassis::extract::Json;

use crate::replica::ReplicaHandle;

pub(super) fn router() -> Router<ReplicaHandle> {
    Router::new().route(REPLICATION, get(replication))
}

/// Role, position and lag of the node that answers. What is not known is null.
#[utoipa::path(
    get, path = "/v1/replication", tag = "replication",
    responses((status = 200, body = ReplicationStatus))
)]
pub(super) async fn replication(State(replica): State<ReplicaHandle>) -> Json<ReplicationStatus> {
    Json(replica.status())
}
