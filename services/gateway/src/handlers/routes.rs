//! `/v1/routes`.

use api::gateway::{Name, RouteList, RouteSpec, RouteView};
use api::problem::Code;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use chassis::extract::{Json, Path};
use chassis::problem::Problem;
use http::StatusCode;

use super::{remove, stored};
use crate::registry::Registry;
use crate::routes::check;

pub(super) fn router() -> Router<super::State> {
    Router::new()
        .route(api::gateway::ROUTES, get(list))
        .route(api::gateway::ROUTE, get(get_one).put(put).delete(delete))
}

/// Lists the user routes.
#[utoipa::path(get, path = "/v1/routes", tag = "routes", responses((status = 200, body = RouteList)))]
pub(super) async fn list(
    State(routes): State<Registry<RouteSpec>>,
) -> Result<Json<RouteList>, Problem> {
    let known = routes.known().await?;
    let view =
        |(name, spec): (&String, &RouteSpec)| RouteView { name: name.clone(), spec: spec.clone() };
    Ok(Json(RouteList { routes: known.entries.iter().map(view).collect() }))
}

/// Shows one route.
#[utoipa::path(
    get,
    path = "/v1/routes/{name}",
    tag = "routes",
    params(("name" = String, Path)),
    responses((status = 200, body = RouteView), (status = 404, description = "route-not-found"))
)]
pub(super) async fn get_one(
    State(routes): State<Registry<RouteSpec>>,
    Path(name): Path<Name>,
) -> Result<Json<RouteView>, Problem> {
    let spec = stored(&routes, &name, not_found).await?;
    Ok(Json(RouteView { name: name.into(), spec }))
}

/// Adds a route, or replaces it. It takes effect without a restart and without cutting a request.
#[utoipa::path(
    put,
    path = "/v1/routes/{name}",
    tag = "routes",
    params(("name" = String, Path)),
    request_body = RouteSpec,
    responses(
        (status = 201, description = "added", body = RouteView),
        (status = 200, description = "replaced", body = RouteView),
        (status = 503, description = "no coordinator is configured or reachable"),
    )
)]
pub(super) async fn put(
    State(routes): State<Registry<RouteSpec>>,
    Path(name): Path<Name>,
    Json(spec): Json<RouteSpec>,
) -> Result<(StatusCode, Json<RouteView>), Problem> {
    check(&spec).map_err(|error| Problem::new(Code::InvalidRequest, error))?;
    let status = routes.put(&name, &spec).await?.into();
    Ok((status, Json(RouteView { name: name.into(), spec })))
}

/// Removes a route.
#[utoipa::path(
    delete,
    path = "/v1/routes/{name}",
    tag = "routes",
    params(("name" = String, Path)),
    responses(
        (status = 204, description = "removed"),
        (status = 404, description = "route-not-found"),
    )
)]
pub(super) async fn delete(
    State(routes): State<Registry<RouteSpec>>,
    Path(name): Path<Name>,
) -> Result<StatusCode, Problem> {
    remove(&routes, &name, not_found).await
}

fn not_found(name: &Name) -> Problem {
    let detail = format!("route `{name}` does not exist; GET /v1/routes lists them");
    Problem::new(Code::RouteNotFound, detail)
}
