//! `GET /version`: ours, and what clients of an etcd look for.

use axum::response::{IntoResponse as _, Response};
use chassis::extract::Json;
use serde::Serialize;

use super::etcd::cors;
use super::{App, ETCD_CLUSTER_VERSION, ETCD_VERSION, State};

#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Version {
    /// The etcd whose behaviour `/v3` shows.
    etcdserver: &'static str,
    etcdcluster: &'static str,
    service: &'static str,
    version: &'static str,
    node: String,
}

/// What runs here, and which etcd its `/v3` behaves like.
#[utoipa::path(get, path = "/version", tag = "operations", responses((status = 200, body = Version)))]
pub(super) async fn version(State(app): State<App>) -> Response {
    let version = Version {
        etcdserver: ETCD_VERSION,
        etcdcluster: ETCD_CLUSTER_VERSION,
        service: "quartet-coordinator",
        version: chassis::VERSION,
        node: app.identity().name.clone(),
    };
    cors::open(Json(version).into_response())
}
