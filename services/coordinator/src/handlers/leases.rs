//! `/v1/leases`.

use api::coordinator::{Lease, LeaseGrantRequest, LeaseId as WireLeaseId, LeaseList, LeaseRevoked};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use chassis::extract::{Body, Json, Path};
use chassis::problem::Problem;

use super::idempotency::Once;
use super::params::invalid;
use super::refusal::{Refusal as _, refused};
use super::wire;
use super::{App, State};
use crate::store::{LeaseId, LeaseNotFound, MAX_TTL_SECONDS};

pub(super) fn router() -> Router<App> {
    Router::new()
        .route(api::coordinator::LEASES, post(grant).get(list))
        .route(api::coordinator::LEASE, get(show).delete(revoke))
        .route(api::coordinator::LEASE_KEEPALIVE, put(keep_alive).post(keep_alive))
}

/// Grants a lease.
#[utoipa::path(post, path = "/v1/leases", tag = "leases", request_body = LeaseGrantRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "a repeat answers the first result")),
    responses((status = 201, body = Lease), (status = 409, description = "already-exists"),
              (status = 422, description = "idempotency-mismatch")))]
pub(super) async fn grant(
    State(app): State<App>,
    Once(name, Json(request)): Once<Json<LeaseGrantRequest>>,
) -> Result<(StatusCode, Json<Lease>), Problem> {
    if !(1..=MAX_TTL_SECONDS).contains(&request.ttl_seconds) {
        return Err(invalid(format!("ttl_seconds must be between 1 and {MAX_TTL_SECONDS}")));
    }
    let id = wire::lease_id(request.id.map(|id| id.0))?;
    let grant = app.coordinator().once(name).grant(id, request.ttl_seconds);
    let lease = grant.await.map_err(refused)?;
    Ok((StatusCode::CREATED, Json(wire::renewed(&lease))))
}

/// Every lease, the one that ends first first.
#[utoipa::path(get, path = "/v1/leases", tag = "leases", responses((status = 200, body = LeaseList)))]
pub(super) async fn list(State(app): State<App>) -> Result<Json<LeaseList>, Problem> {
    let store = app.coordinator().snapshot().await?;
    let now_ms = app.coordinator().now_ms();
    let leases = store.leases.by_deadline().map(|lease| wire::lease(lease, now_ms, false));
    Ok(Json(LeaseList { leases: leases.collect() }))
}

/// A lease with its keys and what is left of it.
#[utoipa::path(get, path = "/v1/leases/{id}", tag = "leases", params(("id" = String, Path)),
    responses((status = 200, body = Lease), (status = 404, description = "lease-not-found")))]
pub(super) async fn show(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Lease>, Problem> {
    let id = parse(&id)?;
    let store = app.coordinator().snapshot().await?;
    let lease = store.leases.get(id).ok_or_else(|| LeaseNotFound(id).problem())?;
    app.may_see_keys(&store, lease)?;
    Ok(Json(wire::lease(lease, app.coordinator().now_ms(), true)))
}

/// Renews a lease for its full TTL.
#[utoipa::path(put, path = "/v1/leases/{id}/keepalive", tag = "leases", params(("id" = String, Path)),
    responses((status = 200, body = Lease), (status = 404, description = "lease-not-found")))]
pub(super) async fn keep_alive(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Lease>, Problem> {
    let lease = app.coordinator().keep_alive(parse(&id)?).await.map_err(refused)?;
    Ok(Json(wire::renewed(&lease)))
}

/// Ends a lease now and deletes its keys.
#[utoipa::path(delete, path = "/v1/leases/{id}", tag = "leases",
    params(("id" = String, Path),
           ("Idempotency-Key" = Option<String>, Header, description = "a repeat answers the first result")),
    responses((status = 200, body = LeaseRevoked), (status = 404, description = "lease-not-found"),
              (status = 422, description = "idempotency-mismatch")))]
pub(super) async fn revoke(
    State(app): State<App>,
    Path(id): Path<String>,
    Once(name, Body(_)): Once<Body>,
) -> Result<Json<LeaseRevoked>, Problem> {
    let id = parse(&id)?;
    let revoked = app.coordinator().once(name).revoke(id).await.map_err(refused)?;
    Ok(Json(LeaseRevoked { revision: revoked.revision.0, deleted: revoked.deleted }))
}

fn parse(id: &str) -> Result<LeaseId, Problem> {
    let parsed = id.parse::<WireLeaseId>();
    parsed.map(|id| LeaseId(id.0)).map_err(|_| invalid("a lease id is a decimal number"))
}
