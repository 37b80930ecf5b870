//! The gateway's own paths, and behind all of them the way to the upstreams.

mod methods;
mod routes;
mod rpc;
mod upstreams;

use std::sync::Arc;

use api::gateway::{MethodSpec, Name, RouteSpec};
use api::problem::Code;
use axum::Router;
use axum::extract::FromRef;
use chassis::clock::Clock;
use chassis::problem::Problem;
use client::etcd::Services;
use http::StatusCode;
use tokio::sync::watch;
use utoipa::OpenApi;

use crate::edge::Edge;
use crate::gateway::Gateway;
use crate::later::Later;
use crate::registry::{Document, Registry, RegistryError, Written};
use crate::rpc::Rpc;

/// What the handlers share.
#[derive(Clone, FromRef)]
pub(crate) struct State {
    pub(crate) gateway: Gateway,
    pub(crate) rpc: Rpc,
    pub(crate) later: Later,
    pub(crate) methods: Registry<MethodSpec>,
    pub(crate) routes: Registry<RouteSpec>,
    pub(crate) services: Registered,
    pub(crate) clock: Clock,
}

/// What the coordinator knows, if there is one.
#[derive(Clone)]
pub(crate) struct Registered(pub(crate) Option<watch::Receiver<Arc<Services>>>);

/// Everything that is served.
pub(crate) fn router(state: State) -> Router {
    let edge = Edge::new(state.gateway.clone());
    let own = Router::new()
        .merge(rpc::router())
        .merge(methods::router())
        .merge(routes::router())
        .merge(upstreams::router())
        .with_state(state);
    let passed = [
        "/coordinator",
        "/coordinator/{*path}",
        "/broker",
        "/broker/{*path}",
        "/replica",
        "/replica/{*path}",
        // User routes, and what nothing takes.
        "/",
        "/{*path}",
    ];
    passed.into_iter().fold(own, |router, path| router.route_service(path, edge.clone()))
}

/// The answer to a PUT.
impl From<Written> for StatusCode {
    fn from(written: Written) -> Self {
        match written {
            Written::Created => Self::CREATED,
            Written::Replaced => Self::OK,
        }
    }
}

/// The document of this name.
async fn stored<T: Document>(
    registry: &Registry<T>,
    name: &Name,
    missing: fn(&Name) -> Problem,
) -> Result<T, Problem> {
    let known = registry.known().await?;
    known.entries.get(name.as_str()).cloned().ok_or_else(|| missing(name))
}

/// Deletes the document of this name, if there is one.
async fn remove<T: Document>(
    registry: &Registry<T>,
    name: &Name,
    missing: fn(&Name) -> Problem,
) -> Result<StatusCode, Problem> {
    match registry.delete(name.as_str()).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(missing(name)),
    }
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        let code = match &error {
            RegistryError::NoCoordinator
            | RegistryError::Unreachable(_)
            | RegistryError::NotYetKnown => Code::Unavailable,
            RegistryError::Indeterminate(_) => Code::Indeterminate,
            RegistryError::TooMany => Code::LimitReached,
        };
        Self::from_error(code, &error)
    }
}

/// The API's description.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "quartet-gateway",
        description = "One entry point to all services. Besides the paths listed here, \
                       /coordinator/…, /broker/… and /replica/… pass requests on to a healthy \
                       endpoint of that service, with the prefix removed, and user routes to \
                       wherever they say. Bodies stream in both directions."
    ),
    paths(
        rpc::call,
        rpc::answer,
        methods::list,
        methods::get_one,
        methods::put,
        methods::delete,
        routes::list,
        routes::get_one,
        routes::put,
        routes::delete,
        upstreams::upstreams,
        upstreams::services,
    )
)]
pub(crate) struct Description;
