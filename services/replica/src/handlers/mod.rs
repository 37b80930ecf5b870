//! HTTP in and out. The only place of this service that names axum.

mod batch;
mod changes;
mod digest;
mod input;
mod kv;
mod passing;
mod peer;
mod problem;
mod replication;
mod snapshot;

use axum::Router;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;

use crate::peer::serve::Server;
use crate::replica::ReplicaHandle;

/// What users reach.
pub(crate) fn public(replica: ReplicaHandle, draining: CancellationToken) -> Router {
    Router::new()
        .merge(kv::router())
        .merge(batch::router())
        .merge(replication::router())
        .merge(digest::router())
        .merge(snapshot::router())
        .with_state(replica.clone())
        .merge(changes::router().with_state((replica, draining)))
}

/// What peers reach.
pub(crate) fn peer(server: Server, tasks: tokio_util::task::TaskTracker) -> Router {
    peer::router(server, tasks)
}

/// Describes the public API.
pub(crate) fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Quartet replica",
        description = "Primary-replica key-value store. Every error is application/problem+json."
    ),
    paths(
        kv::put,
        kv::get,
        kv::delete,
        kv::list,
        batch::batch,
        changes::changes,
        replication::replication,
        digest::digest,
        snapshot::snapshot
    )
)]
struct Document;
