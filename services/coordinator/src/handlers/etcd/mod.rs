//! The face of an etcd: its v3 JSON gateway under `/v3` (and `/v3beta`), and `/health`.
//!
//! Byte-compatible with what clients look at: no field that is zero, 64-bit integers as strings,
//! errors with the codes and texts of etcd, streams of one JSON document per chunk. Requests are
//! never refused for their content type.
//!
//! Stricter than etcd: a transaction in which one nested transaction puts a key and a later one
//! deletes it is refused as a duplicate key, for a key changes once per revision. A password that
//! is hashed already (`hashedPassword`) is refused, for nobody could log in with it here.
//!
//! **Invariant:** no answer in here is a problem document.

mod answer;
mod auth;
mod cluster;
pub(super) mod cors;
mod documents;
mod election;
mod error;
mod health;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod message;
mod refusal;
mod watch;
mod watcher;

use axum::Router;
use axum::handler::Handler;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use chassis::bounds::Own;

use super::App;
pub(crate) use error::EtcdError;
pub(crate) use refusal::faces;

/// Streams of requests, each of which is bounded, and waits that end with the caller, its lease or
/// the drain.
pub(crate) const BOUNDS: &[(&str, Own)] = &[
    ("/v3/watch", Own::Length),
    ("/v3beta/watch", Own::Length),
    ("/v3/lease/keepalive", Own::Length),
    ("/v3beta/lease/keepalive", Own::Length),
    ("/v3/lock/lock", Own::Time),
    ("/v3beta/lock/lock", Own::Time),
    ("/v3/election/campaign", Own::Time),
    ("/v3beta/election/campaign", Own::Time),
];

pub(crate) fn router() -> Router<App> {
    ["/v3", "/v3beta"]
        .into_iter()
        .fold(Router::new(), |router, prefix| router.nest(prefix, face()))
        .route("/health", get(health::health).options(preflight).fallback(health::only_get))
}

fn face() -> Router<App> {
    let mut face = Router::new()
        .route("/kv/range", call(kv::range))
        .route("/kv/put", call(kv::put))
        .route("/kv/deleterange", call(kv::delete_range))
        .route("/kv/txn", call(kv::txn))
        .route("/kv/compaction", call(kv::compaction))
        .route("/watch", call(watch::watch))
        .route("/lease/grant", call(lease::grant))
        .route("/lease/keepalive", call(lease::keep_alive))
        .route("/cluster/member/list", call(cluster::member_list))
        .route("/cluster/member/add", call(cluster::member_add))
        .route("/cluster/member/remove", call(cluster::member_remove))
        .route("/cluster/member/update", call(cluster::member_update))
        .route("/cluster/member/promote", call(cluster::member_promote))
        .route("/maintenance/status", call(maintenance::status))
        .route("/maintenance/alarm", call(maintenance::alarm))
        .route("/maintenance/defragment", call(maintenance::defragment))
        .route("/maintenance/hash", call(maintenance::hash))
        .route("/lock/lock", call(lock::lock))
        .route("/lock/unlock", call(lock::unlock))
        .route("/election/campaign", call(election::campaign))
        .route("/election/proclaim", call(election::proclaim))
        .route("/election/leader", call(election::leader))
        .route("/election/observe", call(election::observe))
        .route("/election/resign", call(election::resign))
        .route("/maintenance/hashkv", call(maintenance::hash_kv))
        .route("/maintenance/snapshot", call(maintenance::snapshot))
        .route("/maintenance/transfer-leadership", call(maintenance::transfer_leadership))
        .route("/maintenance/downgrade", call(maintenance::downgrade))
        .route("/auth/enable", call(auth::enable))
        .route("/auth/disable", call(auth::disable))
        .route("/auth/status", call(auth::status))
        .route("/auth/authenticate", call(auth::authenticate))
        .route("/auth/user/add", call(auth::user_add))
        .route("/auth/user/get", call(auth::user_get))
        .route("/auth/user/list", call(auth::user_list))
        .route("/auth/user/delete", call(auth::user_delete))
        .route("/auth/user/changepw", call(auth::user_change_password))
        .route("/auth/user/grant", call(auth::user_grant))
        .route("/auth/user/revoke", call(auth::user_revoke))
        .route("/auth/role/add", call(auth::role_add))
        .route("/auth/role/get", call(auth::role_get))
        .route("/auth/role/list", call(auth::role_list))
        .route("/auth/role/delete", call(auth::role_delete))
        .route("/auth/role/grant", call(auth::role_grant))
        .route("/auth/role/revoke", call(auth::role_revoke));
    for prefix in ["/lease", "/kv/lease"] {
        face = face
            .route(&format!("{prefix}/revoke"), call(lease::revoke))
            .route(&format!("{prefix}/timetolive"), call(lease::time_to_live))
            .route(&format!("{prefix}/leases"), call(lease::leases));
    }
    face.fallback(unknown)
}

/// Only POST, in the words of the gateway; browsers may ask first.
fn call<H, T>(handler: H) -> MethodRouter<App>
where
    H: Handler<T, App>,
    T: 'static,
{
    post(handler).options(preflight).fallback(method_not_allowed)
}

/// A browser asks first whether a page may.
pub(super) async fn preflight() -> Response {
    cors::open(StatusCode::OK.into_response())
}

async fn method_not_allowed() -> Response {
    answer::text(StatusCode::METHOD_NOT_ALLOWED, answer::METHOD_NOT_ALLOWED)
}

async fn unknown() -> Response {
    answer::text(StatusCode::NOT_FOUND, answer::NOT_FOUND)
}
