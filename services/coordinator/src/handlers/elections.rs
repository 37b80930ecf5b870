//! `/v1/elections`.

use api::coordinator::{
    CAMPAIGN, CampaignRequest, Candidate, ELECTION, Election, LeaseId as WireLeaseId, OBSERVE,
    RESIGN, Released, ResignRequest, Text, VacantEvent,
};
use axum::Router;
use axum::response::Response;
use axum::routing::{get, post};
use chassis::deadline::Deadline;
use chassis::extract::{Json, Path};
use chassis::problem::Problem;
use chassis::sse;

use super::idempotency::Once;
use super::line;
use super::params::invalid;
use super::watch::json;
use super::wire;
use super::{App, State};
use crate::line::TurnError;
use crate::observe::{Observation, Observer};
use crate::store::{Enqueue, Record, places};

pub(super) fn router() -> Router<App> {
    Router::new()
        .route(ELECTION, get(show))
        .route(CAMPAIGN, post(campaign))
        .route(OBSERVE, get(observe))
        .route(RESIGN, post(resign))
}

/// Waits in line to lead. Whoever hangs up gives its place up.
#[utoipa::path(post, path = "/v1/elections/{name}/campaign", tag = "elections", request_body = CampaignRequest,
    params(("name" = String, Path),
           ("Idempotency-Key" = Option<String>, Header, description = "a repeat gets the same candidacy, not a second one")),
    responses((status = 200, body = Candidate, description = "the caller leads"), (status = 404, description = "lease-not-found"),
              (status = 409, description = "held: somebody else led for all that time"),
              (status = 422, description = "idempotency-mismatch"), (status = 503, description = "unavailable: draining")))]
pub(super) async fn campaign(
    State(app): State<App>,
    Path(name): Path<String>,
    deadline: Option<Deadline>,
    Once(once, request): Once<Option<Json<CampaignRequest>>>,
) -> Result<Json<Candidate>, Problem> {
    let CampaignRequest { value, ttl_seconds, wait_seconds, lease } =
        request.map(|Json(request)| request).unwrap_or_default();
    let (lease, ttl_seconds) = line::lease(lease, ttl_seconds)?;
    let patience = line::patience(wait_seconds, deadline)?;
    let said = value.map(|value| value.decode()).transpose().map_err(invalid)?.unwrap_or_default();
    app.check_len(said.len())?;
    let ask = Enqueue { name: line::name(&name)?, value: said, lease, ttl_seconds, replace: true };
    let place = app.line().turn(once, ask, patience).await?.place;
    let key = place.key.clone();
    // This node has answered for the place, so it has the place: nothing can fail any more.
    let record = app.coordinator().recent().await.mvcc.get(&key).cloned();
    let record = record.filter(|record| record.create_revision == place.token);
    let record = record.ok_or(TurnError::Ended(place.lease))?;
    Ok(Json(candidate(&name, &record)))
}

/// Who leads, and who waits to.
#[utoipa::path(get, path = "/v1/elections/{name}", tag = "elections", params(("name" = String, Path)),
    responses((status = 200, body = Election)))]
pub(super) async fn show(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Election>, Problem> {
    let key = line::name(&name)?;
    let store = app.coordinator().snapshot().await?;
    app.coordinator().may_read(&store, &places(&key))?;
    let line = store.mvcc.line(&key);
    let mut candidates = line.iter().map(|record| candidate(&name, record));
    let leader = candidates.next();
    let candidates = candidates.collect();
    Ok(Json(Election { revision: store.revision().0, leader, candidates, name }))
}

fn candidate(name: &str, record: &Record) -> Candidate {
    Candidate {
        name: name.to_owned(),
        value: Text::from_bytes(&record.value),
        lease: WireLeaseId(record.lease.0),
        fencing_token: record.create_revision.0,
        revision: record.mod_revision.0,
    }
}

/// Who leads now, then every change: events leader (a Candidate) and vacant.
#[utoipa::path(get, path = "/v1/elections/{name}/observe", tag = "elections", params(("name" = String, Path)),
    responses((status = 200, content_type = "text/event-stream", body = Candidate,
               description = "events leader, and vacant while nobody leads")))]
pub(super) async fn observe(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let observer = Observer::open(app.coordinator(), line::name(&name)?).await?;
    let events = futures_util::stream::unfold((observer, name), async |(mut observer, name)| {
        let Observation { leader, revision } = observer.next().await?;
        let event = match leader {
            Some(record) => json(&candidate(&name, &record)).named("leader"),
            None => {
                let vacant = VacantEvent { name: name.clone(), revision: revision.0 };
                json(&vacant).named("vacant")
            }
        };
        Some((event.id(revision), (observer, name)))
    });
    Ok(sse::response(events, app.draining()))
}

/// Gives leadership up, or a candidacy.
#[utoipa::path(post, path = "/v1/elections/{name}/resign", tag = "elections", request_body = ResignRequest,
    params(("name" = String, Path),
           ("Idempotency-Key" = Option<String>, Header, description = "a repeat answers the first result")),
    responses((status = 200, body = Released), (status = 404, description = "lock-not-found"),
              (status = 422, description = "idempotency-mismatch")))]
pub(super) async fn resign(
    State(app): State<App>,
    Path(name): Path<String>,
    Once(once, Json(request)): Once<Json<ResignRequest>>,
) -> Result<Json<Released>, Problem> {
    let lease = wire::lease_id(Some(request.lease.0))?;
    let revision = line::release(&app, once, &line::name(&name)?, lease).await?;
    Ok(Json(Released { revision: revision.0 }))
}
