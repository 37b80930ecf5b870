//! `/v1/locks`.

use api::coordinator::{
    LOCK, LeaseId as WireLeaseId, Lock, LockPlace, LockRequest, LockState, Released,
};
use axum::Router;
use axum::extract::RawQuery;
use axum::routing::post;
use bytes::Bytes;
use chassis::deadline::Deadline;
use chassis::extract::{Body, Json, Path};
use chassis::problem::Problem;

use super::idempotency::Once;
use super::line;
use super::params::{Params, invalid};
use super::wire;
use super::{App, State};
use crate::store::{Enqueue, Record, Store, places};

const MAX_OWNER_BYTES: usize = 1024;

pub(super) fn router() -> Router<App> {
    Router::new().route(LOCK, post(acquire).get(show).delete(release))
}

/// Waits in line for a lock. Whoever hangs up gives its place up.
#[utoipa::path(post, path = "/v1/locks/{name}", tag = "locks", request_body = LockRequest,
    params(("name" = String, Path),
           ("Idempotency-Key" = Option<String>, Header, description = "a repeat gets the same lock, not a second place in line")),
    responses((status = 200, body = Lock), (status = 404, description = "lease-not-found"),
              (status = 409, description = "held: not free in time; holder and fencing_token say by whom"),
              (status = 422, description = "idempotency-mismatch"), (status = 503, description = "unavailable: draining")))]
pub(super) async fn acquire(
    State(app): State<App>,
    Path(name): Path<String>,
    deadline: Option<Deadline>,
    Once(once, request): Once<Option<Json<LockRequest>>>,
) -> Result<Json<Lock>, Problem> {
    let LockRequest { ttl_seconds, wait_seconds, owner, lease } =
        request.map(|Json(request)| request).unwrap_or_default();
    let owner = owner.unwrap_or_default();
    if MAX_OWNER_BYTES < owner.len() {
        return Err(invalid(format!("owner must have at most {MAX_OWNER_BYTES} bytes")));
    }
    let (lease, ttl_seconds) = line::lease(lease, ttl_seconds)?;
    let patience = line::patience(wait_seconds, deadline)?;
    let value = Bytes::from(owner.clone());
    let ask = Enqueue { name: line::name(&name)?, value, lease, ttl_seconds, replace: false };
    let place = app.line().turn(once, ask, patience).await?.place;
    let owner = if owner.is_empty() { place.lease.to_string() } else { owner };
    Ok(Json(Lock { name, lease: WireLeaseId(place.lease.0), fencing_token: place.token.0, owner }))
}

/// Who holds a lock, and who waits for it.
#[utoipa::path(get, path = "/v1/locks/{name}", tag = "locks", params(("name" = String, Path)),
    responses((status = 200, body = LockState)))]
pub(super) async fn show(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<LockState>, Problem> {
    let key = line::name(&name)?;
    let store = app.coordinator().snapshot().await?;
    app.coordinator().may_read(&store, &places(&key))?;
    let now_ms = app.coordinator().now_ms();
    let mut places = store.mvcc.line(&key).into_iter().map(|record| place(&store, &record, now_ms));
    let holder = places.next();
    Ok(Json(LockState { name, revision: store.revision().0, holder, waiters: places.collect() }))
}

fn place(store: &Store, record: &Record, now_ms: u64) -> LockPlace {
    let lease = store.leases.get(record.lease);
    LockPlace {
        owner: line::owner(record),
        lease: WireLeaseId(record.lease.0),
        fencing_token: record.create_revision.0,
        remaining_seconds: lease.map_or(0, |lease| lease.remaining_seconds(now_ms)),
    }
}

/// Gives a lock up, or a place in line for it.
#[utoipa::path(delete, path = "/v1/locks/{name}", tag = "locks",
    params(("name" = String, Path), ("lease" = String, Query),
           ("Idempotency-Key" = Option<String>, Header, description = "a repeat answers the first result")),
    responses((status = 200, body = Released), (status = 404, description = "lock-not-found"),
              (status = 422, description = "idempotency-mismatch")))]
pub(super) async fn release(
    State(app): State<App>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    Once(once, Body(_)): Once<Body>,
) -> Result<Json<Released>, Problem> {
    let lease = Params::parse(query.as_deref(), &["lease"])?.number("lease")?;
    let lease = lease.ok_or_else(|| invalid("name the lease that has the lock: ?lease=ID"))?;
    let lease = wire::lease_id(Some(lease))?;
    let revision = line::release(&app, once, &line::name(&name)?, lease).await?;
    Ok(Json(Released { revision: revision.0 }))
}
