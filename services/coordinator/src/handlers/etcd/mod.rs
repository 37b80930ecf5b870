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

/// Whole paths rather than nested ones: nesting takes every request apart and puts it together
/// again.
pub(crate) fn router() -> Router<App> {
    let health = get(health::health).options(preflight).fallback(health::only_get);
    let router = Router::new().route("/health", health);
    ["/v3", "/v3beta"].into_iter().fold(router, |router, prefix| {
        calls()
            .into_iter()
            .fold(router, |router, (path, call)| router.route(&format!("{prefix}{path}"), call))
    })
}

fn calls() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![
        ("/kv/range", call(kv::range)),
        ("/kv/put", call(kv::put)),
        ("/kv/deleterange", call(kv::delete_range)),
        ("/kv/txn", call(kv::txn)),
        ("/kv/compaction", call(kv::compaction)),
        ("/watch", call(watch::watch)),
        ("/lease/grant", call(lease::grant)),
        ("/lease/keepalive", call(lease::keep_alive)),
        ("/cluster/member/list", call(cluster::member_list)),
        ("/cluster/member/add", call(cluster::member_add)),
        ("/cluster/member/remove", call(cluster::member_remove)),
        ("/cluster/member/update", call(cluster::member_update)),
        ("/cluster/member/promote", call(cluster::member_promote)),
        ("/maintenance/status", call(maintenance::status)),
        ("/maintenance/alarm", call(maintenance::alarm)),
        ("/maintenance/defragment", call(maintenance::defragment)),
        ("/maintenance/hash", call(maintenance::hash)),
        ("/lock/lock", call(lock::lock)),
        ("/lock/unlock", call(lock::unlock)),
        ("/election/campaign", call(election::campaign)),
        ("/election/proclaim", call(election::proclaim)),
        ("/election/leader", call(election::leader)),
        ("/election/observe", call(election::observe)),
        ("/election/resign", call(election::resign)),
        ("/maintenance/hashkv", call(maintenance::hash_kv)),
        ("/maintenance/snapshot", call(maintenance::snapshot)),
        ("/maintenance/transfer-leadership", call(maintenance::transfer_leadership)),
        ("/maintenance/downgrade", call(maintenance::downgrade)),
        ("/auth/enable", call(auth::enable)),
        ("/auth/disable", call(auth::disable)),
        ("/auth/status", call(auth::status)),
        ("/auth/authenticate", call(auth::authenticate)),
        ("/auth/user/add", call(auth::user_add)),
        ("/auth/user/get", call(auth::user_get)),
        ("/auth/user/list", call(auth::user_list)),
        ("/auth/user/delete", call(auth::user_delete)),
        ("/auth/user/changepw", call(auth::user_change_password)),
        ("/auth/user/grant", call(auth::user_grant)),
        ("/auth/user/revoke", call(auth::user_revoke)),
        ("/auth/role/add", call(auth::role_add)),
        ("/auth/role/get", call(auth::role_get)),
        ("/auth/role/list", call(auth::role_list)),
        ("/auth/role/delete", call(auth::role_delete)),
        ("/auth/role/grant", call(auth::role_grant)),
        ("/auth/role/revoke", call(auth::role_revoke)),
        ("/lease/revoke", call(lease::revoke)),
        ("/lease/timetolive", call(lease::time_to_live)),
        ("/lease/leases", call(lease::leases)),
        ("/kv/lease/revoke", call(lease::revoke)),
        ("/kv/lease/timetolive", call(lease::time_to_live)),
        ("/kv/lease/leases", call(lease::leases)),
    ]
}

/// Only POST; browsers may ask first.
fn call<H, T>(handler: H) -> MethodRouter<App>
where
    H: Handler<T, App>,
    T: 'static,
{
    post(handler).options(preflight)
}

/// A browser asks first whether a page may.
pub(super) async fn preflight() -> Response {
    cors::open(StatusCode::OK.into_response())
}
