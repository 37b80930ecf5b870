//! `/v1/services`.

use api::coordinator::{
    Check, DeleteReply, Instance, InstanceStatus, InstanceValue, MAX_NAME_BYTES, RegisterRequest,
    Registered, ServiceInstances, ServiceList, ServiceSummary,
};
use api::problem::Code;
use axum::Router;
use axum::extract::RawQuery;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, put};
use chassis::extract::{Body, Json, Path};
use chassis::problem::Problem;
use chassis::sse::Event;

use super::idempotency::Once;
use super::params::{Params, invalid};
use super::watch::{self, Told};
use super::{App, State};
use crate::checks;
use crate::registry::{self, InstanceName};
use crate::runs::{Encoding, Form};
use crate::store::{self, KeyRange, LeaseId, WatchFilter};

pub(super) fn router() -> Router<App> {
    Router::new()
        .route(api::coordinator::SERVICES, get(list))
        .route(api::coordinator::SERVICE, get(show))
        .route(api::coordinator::SERVICE_WATCH, get(watch))
        .route(api::coordinator::INSTANCE, put(register).get(one).delete(deregister))
        .route(api::coordinator::INSTANCE_HEARTBEAT, put(heartbeat).post(heartbeat))
}

/// Every service with the number of its instances.
#[utoipa::path(get, path = "/v1/services", tag = "services", responses((status = 200, body = ServiceList)))]
pub(super) async fn list(State(app): State<App>) -> Result<Json<ServiceList>, Problem> {
    let store = app.coordinator().snapshot().await?;
    app.coordinator().may_read(&store, &registry::keys_of(None))?;
    let mut services: Vec<ServiceSummary> = Vec::new();
    for instance in registry::instances(&store, None) {
        let healthy = u64::from(instance.status == InstanceStatus::Passing);
        match services.last_mut().filter(|last| last.service == instance.service) {
            Some(last) => {
                last.instances += 1;
                last.healthy += healthy;
            }
            None => {
                let service = instance.service;
                services.push(ServiceSummary { service, instances: 1, healthy });
            }
        }
    }
    Ok(Json(ServiceList { revision: store.revision().0, services }))
}

/// The instances of a service. Empty if there are none.
#[utoipa::path(get, path = "/v1/services/{service}", tag = "services",
    params(("service" = String, Path), ("healthy" = Option<bool>, Query)),
    responses((status = 200, body = ServiceInstances)))]
pub(super) async fn show(
    State(app): State<App>,
    Path(service): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<ServiceInstances>, Problem> {
    let healthy = Params::parse(query.as_deref(), &["healthy"])?.flag("healthy")?;
    let service = name("service", service)?;
    let store = app.coordinator().snapshot().await?;
    app.coordinator().may_read(&store, &registry::keys_of(Some(&service)))?;
    let mut instances = registry::instances(&store, Some(&service));
    instances.retain(|instance| !healthy || instance.status == InstanceStatus::Passing);
    Ok(Json(ServiceInstances { service, revision: store.revision().0, instances }))
}

/// One instance.
#[utoipa::path(get, path = "/v1/services/{service}/{instance}", tag = "services",
    params(("service" = String, Path), ("instance" = String, Path)),
    responses((status = 200, body = Instance), (status = 404, description = "service-not-found")))]
pub(super) async fn one(
    State(app): State<App>,
    Path(path): Path<(String, String)>,
) -> Result<Json<Instance>, Problem> {
    let key = instance_name(path)?.key();
    let store = app.coordinator().snapshot().await?;
    app.coordinator().may_read(&store, &KeyRange::One(key.clone()))?;
    let found = store.mvcc.get(&key).and_then(|record| registry::instance(record));
    found.map(Json).ok_or_else(|| {
        Problem::new(Code::ServiceNotFound, "no such instance is registered; PUT registers it")
    })
}

/// Registers an instance, or changes its registration.
#[utoipa::path(put, path = "/v1/services/{service}/{instance}", tag = "services", request_body = RegisterRequest,
    params(("service" = String, Path), ("instance" = String, Path),
           ("Idempotency-Key" = Option<String>, Header, description = "a repeat answers the first result")),
    responses((status = 200, body = Registered), (status = 400, description = "invalid-request"),
              (status = 413, description = "too-large"), (status = 422, description = "idempotency-mismatch")))]
pub(super) async fn register(
    State(app): State<App>,
    Path(path): Path<(String, String)>,
    Once(request, Json(body)): Once<Json<RegisterRequest>>,
) -> Result<Json<Registered>, Problem> {
    let name = instance_name(path)?;
    let value = instance_value(body)?;
    let texts = value.tags.iter().chain(value.meta.keys()).chain(value.meta.values());
    app.check_len(texts.map(String::len).sum())?;
    let entry = registry::register(app.coordinator().once(request), &name, &value).await?;
    let ttl_seconds = value.check.and_then(|check| check.ttl_seconds);
    Ok(Json(registered(name, entry, ttl_seconds)))
}

/// Says that an instance with a TTL check is still there.
#[utoipa::path(put, path = "/v1/services/{service}/{instance}/heartbeat", tag = "services",
    params(("service" = String, Path), ("instance" = String, Path)),
    responses((status = 200, body = Registered), (status = 404, description = "service-not-found: register again"),
              (status = 409, description = "conflict: it has no TTL check")))]
pub(super) async fn heartbeat(
    State(app): State<App>,
    Path(path): Path<(String, String)>,
) -> Result<Json<Registered>, Problem> {
    let name = instance_name(path)?;
    let (entry, ttl_seconds) = registry::heartbeat(app.coordinator(), &name).await?;
    Ok(Json(registered(name, entry, Some(ttl_seconds))))
}

/// Removes an instance.
#[utoipa::path(delete, path = "/v1/services/{service}/{instance}", tag = "services",
    params(("service" = String, Path), ("instance" = String, Path),
           ("Idempotency-Key" = Option<String>, Header, description = "a repeat answers the first result")),
    responses((status = 200, body = DeleteReply), (status = 404, description = "service-not-found"),
              (status = 422, description = "idempotency-mismatch")))]
pub(super) async fn deregister(
    State(app): State<App>,
    Path(path): Path<(String, String)>,
    Once(request, Body(_)): Once<Body>,
) -> Result<Json<DeleteReply>, Problem> {
    let name = instance_name(path)?;
    let revision = registry::deregister(app.coordinator().once(request), &name).await?;
    Ok(Json(DeleteReply { revision: revision.0, deleted: 1 }))
}

/// What is registered, then every change: events put (an Instance) and delete (its names).
#[utoipa::path(get, path = "/v1/services/{service}/watch", tag = "services", params(("service" = String, Path)),
    responses((status = 200, content_type = "text/event-stream", body = Instance),
              (status = 410, description = "compacted")))]
pub(super) async fn watch(
    State(app): State<App>,
    Path(service): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let params = Params::parse(query.as_deref(), &["from_revision"])?;
    let range = registry::keys_of(Some(&name("service", service)?));
    let filter = WatchFilter { range, puts: true, deletes: true, previous: false };
    let told = Told { form: Form { filter, encoding: Encoding::Instance }, encode: change };
    match watch::start(&params, &headers)? {
        Some(from) => told.open(&app, Some(from)).await,
        None => told.open_with_state(&app).await,
    }
}

fn change(event: &store::Event) -> Option<Event> {
    let record = &event.record;
    if !record.is_delete() {
        return registry::instance(record).map(|instance| watch::json(&instance).named("put"));
    }
    let key = str::from_utf8(&record.key).ok()?;
    let path = key.strip_prefix(api::coordinator::SERVICE_PREFIX)?;
    let (service, instance) = path.split_once('/')?;
    let names = serde_json::json!({
        "service": service, "instance": instance, "revision": record.mod_revision.0
    });
    Some(watch::json(&names).named("delete"))
}

fn registered(
    name: InstanceName,
    entry: store::Registered,
    ttl_seconds: Option<u64>,
) -> Registered {
    let lease = (entry.lease != LeaseId::NONE).then_some(api::coordinator::LeaseId(entry.lease.0));
    let InstanceName { service, instance } = name;
    Registered { service, instance, revision: entry.revision.0, ttl_seconds, lease }
}

fn instance_name((service, instance): (String, String)) -> Result<InstanceName, Problem> {
    Ok(InstanceName { service: name("service", service)?, instance: name("instance", instance)? })
}

fn name(what: &str, name: String) -> Result<String, Problem> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"._-:@".contains(&c);
    if (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(name);
    }
    let detail = format!(
        "the {what} name must be 1 to {MAX_NAME_BYTES} letters, digits or . _ - : @, without slashes"
    );
    Err(invalid(detail))
}

fn instance_value(request: RegisterRequest) -> Result<InstanceValue, Problem> {
    let RegisterRequest { address, port, tags, meta, check } = request;
    let usable = |c: char| !c.is_control() && !c.is_whitespace() && c != '/';
    if !(1..=255).contains(&address.len()) || !address.chars().all(usable) {
        return Err(invalid("address must be a host name or an IP address"));
    }
    if port == 0 {
        return Err(invalid("port must be between 1 and 65535"));
    }
    if let Some(check) = &check {
        check_check(check, &address, port)?;
    }
    // Nobody has asked yet.
    let has_http = check.as_ref().is_some_and(|check| check.http.is_some());
    let status = has_http.then_some(InstanceStatus::Unknown);
    Ok(InstanceValue { address, port, tags, meta, check, status })
}

fn check_check(check: &Check, address: &str, port: u16) -> Result<(), Problem> {
    match (check.ttl_seconds, &check.http) {
        (Some(1..=86_400), None) if check.interval_seconds.is_none() => Ok(()),
        (Some(1..=86_400), None) => Err(invalid("interval_seconds belongs to an http check")),
        (Some(_), None) => Err(invalid("check.ttl_seconds must be between 1 and 86400")),
        (None, Some(http)) => {
            checks::url(address, port, http)
                .map_err(|why| invalid(format!("check.http: {why}")))?;
            match check.interval_seconds {
                None | Some(1..=3600) => Ok(()),
                Some(_) => Err(invalid("check.interval_seconds must be between 1 and 3600")),
            }
        }
        _ => Err(invalid("a check has either `ttl_seconds` or `http`; there are no other kinds")),
    }
}
