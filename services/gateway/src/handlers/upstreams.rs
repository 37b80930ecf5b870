//! `/v1/upstreams` and `/v1/services`: what the gateway knows of others.

use api::gateway::{InstanceView, ServiceList, ServiceView, UpstreamList};
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use chassis::extract::Json;
use client::etcd::{Instance, Services};

use super::Registered;
use crate::gateway::Gateway;

pub(super) fn router() -> Router<super::State> {
    Router::new()
        .route(api::gateway::UPSTREAMS, get(upstreams))
        .route(api::gateway::SERVICES, get(services))
}

/// Shows every endpoint and what this gateway thinks of it.
#[utoipa::path(
    get,
    path = "/v1/upstreams",
    tag = "upstreams",
    responses((status = 200, body = UpstreamList))
)]
pub(super) async fn upstreams(State(gateway): State<Gateway>) -> Json<UpstreamList> {
    let upstreams = gateway.upstreams().all().iter().map(|upstream| upstream.view()).collect();
    Json(UpstreamList { upstreams })
}

/// Shows what is registered in the coordinator.
///
/// Without a coordinator the list is empty and `connected` is false.
#[utoipa::path(
    get,
    path = "/v1/services",
    tag = "upstreams",
    responses((status = 200, body = ServiceList))
)]
pub(super) async fn services(
    State(Registered(registered)): State<Registered>,
) -> Json<ServiceList> {
    let known = registered.map(|watch| watch.borrow().clone()).unwrap_or_default();
    Json(list(&known))
}

fn list(known: &Services) -> ServiceList {
    let services = known.services.iter().map(|(service, instances)| ServiceView {
        service: service.clone(),
        instances: instances.iter().map(|(name, instance)| view(name, instance)).collect(),
    });
    ServiceList { connected: known.connected, services: services.collect() }
}

fn view(name: &str, instance: &Instance) -> InstanceView {
    InstanceView {
        instance: name.to_owned(),
        address: instance.value.address.clone(),
        port: instance.value.port,
        tags: instance.value.tags.clone(),
        meta: instance.value.meta.clone(),
    }
}
