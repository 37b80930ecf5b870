//! A service that does what handlers may do, good and bad.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use chassis::config::Base;
use chassis::extract::{Body, Json, Path, Query};
use chassis::problem::Problem;
use chassis::{Context, Service, ServiceConfig, StartError};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    #[serde(flatten)]
    pub(crate) base: Base,
}

impl Default for Config {
    fn default() -> Self {
        Self { base: Base::new("trial", 3100, 3101) }
    }
}

impl ServiceConfig for Config {
    const SERVICE: &'static str = "trial";

    fn base(&self) -> &Base {
        &self.base
    }
}

#[derive(Deserialize)]
struct Page {
    limit: u32,
}

pub(crate) async fn start(context: Context<Config>) -> Result<Service, StartError> {
    let public = Router::new()
        .route("/echo", post(|Body(body): Body| async { body }))
        .route(
            "/sum",
            post(|Json(terms): Json<Vec<u32>>| async move { Json(terms.iter().sum::<u32>()) }),
        )
        .route("/page", get(|Query(page): Query<Page>| async move { Json(page.limit) }))
        .route("/items/{id}", get(|Path(id): Path<u64>| async move { Json(id) }))
        .route("/panic", get(panics))
        .route("/slow", get(slow).post(slow))
        .route("/poll", get(poll))
        .route("/events", get(events))
        .with_state(context);
    let failed = Box::pin(std::future::pending());
    Ok(Service { public, peer: None, openapi: utoipa::openapi::OpenApi::default(), failed })
}

async fn panics() -> &'static str {
    panic!("the secret is hunter2")
}

async fn slow() -> &'static str {
    std::future::pending().await
}

async fn poll(State(context): State<Context<Config>>) -> Result<Json<Option<u32>>, Problem> {
    let never = std::future::pending::<u32>();
    let minute = Duration::from_secs(60);
    Ok(Json(chassis::long_poll::wait(never, minute, None, &context.draining).await))
}

async fn events(State(context): State<Context<Config>>) -> axum::response::Response {
    chassis::sse::response(futures_util::stream::pending(), &context.draining)
}
