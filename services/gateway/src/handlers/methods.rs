//! `/v1/methods`.

use api::gateway::{MAX_TIMEOUT_MS, MethodList, MethodSpec, MethodView, Name};
use api::problem::Code;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use chassis::extract::{Json, Path};
use chassis::problem::Problem;
use http::StatusCode;

use super::{remove, stored};
use crate::registry::Registry;
use crate::rpc::builtin::Builtin;
use crate::rpc::template::Template;

pub(super) fn router() -> Router<super::State> {
    Router::new()
        .route(api::gateway::METHODS, get(list))
        .route(api::gateway::METHOD, get(get_one).put(put).delete(delete))
}

/// Lists all methods, built-in ones first.
#[utoipa::path(get, path = "/v1/methods", tag = "rpc", responses((status = 200, body = MethodList)))]
pub(super) async fn list(
    State(methods): State<Registry<MethodSpec>>,
) -> Result<Json<MethodList>, Problem> {
    let known = methods.known().await?;
    let registered =
        known.entries.iter().map(|(name, spec)| registered(name.clone(), spec.clone()));
    let methods = Builtin::ALL.into_iter().map(built_in).chain(registered).collect();
    Ok(Json(MethodList { methods }))
}

/// Shows one method.
#[utoipa::path(
    get,
    path = "/v1/methods/{name}",
    tag = "rpc",
    params(("name" = String, Path)),
    responses((status = 200, body = MethodView), (status = 404, description = "method-not-found"))
)]
pub(super) async fn get_one(
    State(methods): State<Registry<MethodSpec>>,
    Path(name): Path<Name>,
) -> Result<Json<MethodView>, Problem> {
    if let Some(builtin) = Builtin::find(name.as_str()) {
        return Ok(Json(built_in(builtin)));
    }
    let spec = stored(&methods, &name, not_found).await?;
    Ok(Json(registered(name.into(), spec)))
}

/// Registers a method, or replaces it. It is stored in the coordinator when this answers, and
/// every gateway of that coordinator takes it up.
#[utoipa::path(
    put,
    path = "/v1/methods/{name}",
    tag = "rpc",
    params(("name" = String, Path)),
    request_body = MethodSpec,
    responses(
        (status = 201, description = "registered", body = MethodView),
        (status = 200, description = "replaced", body = MethodView),
        (status = 409, description = "the name belongs to a built-in method"),
        (status = 503, description = "no coordinator is configured or reachable"),
    )
)]
pub(super) async fn put(
    State(methods): State<Registry<MethodSpec>>,
    Path(name): Path<Name>,
    Json(spec): Json<MethodSpec>,
) -> Result<(StatusCode, Json<MethodView>), Problem> {
    refuse_built_in(&name)?;
    check(&spec)?;
    let status = methods.put(&name, &spec).await?.into();
    Ok((status, Json(registered(name.into(), spec))))
}

/// Removes a registered method.
#[utoipa::path(
    delete,
    path = "/v1/methods/{name}",
    tag = "rpc",
    params(("name" = String, Path)),
    responses(
        (status = 204, description = "removed"),
        (status = 404, description = "method-not-found"),
    )
)]
pub(super) async fn delete(
    State(methods): State<Registry<MethodSpec>>,
    Path(name): Path<Name>,
) -> Result<StatusCode, Problem> {
    refuse_built_in(&name)?;
    remove(&methods, &name, not_found).await
}

fn check(spec: &MethodSpec) -> Result<(), Problem> {
    Template::parse(&spec.path).map_err(|error| Problem::new(Code::InvalidRequest, error))?;
    if (1..=MAX_TIMEOUT_MS).contains(&spec.timeout_ms) {
        return Ok(());
    }
    let detail = format!("timeout_ms must be 1 to {MAX_TIMEOUT_MS}");
    Err(Problem::new(Code::InvalidRequest, detail))
}

fn refuse_built_in(name: &Name) -> Result<(), Problem> {
    if Builtin::find(name.as_str()).is_none() {
        return Ok(());
    }
    let detail = format!("`{name}` is built in and cannot be changed; choose another name");
    Err(Problem::new(Code::Conflict, detail))
}

fn not_found(name: &Name) -> Problem {
    let detail = format!("method {name} not found; GET /v1/methods lists them");
    Problem::new(Code::MethodNotFound, detail)
}

fn built_in(builtin: Builtin) -> MethodView {
    MethodView {
        name: builtin.name().to_owned(),
        built_in: true,
        summary: Some(builtin.summary().to_owned()),
        spec: None,
    }
}

fn registered(name: String, spec: MethodSpec) -> MethodView {
    MethodView { name, built_in: false, summary: None, spec: Some(spec) }
}
