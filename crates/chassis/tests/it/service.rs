//! A service that does what handlers may do, good and bad.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use chassis::config::Base;
use chassis::extract::{Body, Json, JsonBytes, Path, Query};
use chassis::problem::Problem;
use chassis::{Context, Service, ServiceConfig, StartError};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

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
    let broken = Arc::new(Notify::new());
    let public = Router::new()
        .route("/echo", post(|Body(body): Body| async { body }))
        .route("/sum", post(sum))
        .route("/page", get(|Query(page): Query<Page>| async move { Json(page.limit) }))
        .route("/items/{id}", get(|Path(id): Path<u64>| async move { Json(id) }))
        .route("/panic", get(panics))
        .route("/slow", get(slow).post(slow))
        .route("/poll", get(poll))
        .route("/events", get(events))
        .route("/quiet", get(quiet))
        .route("/fail", post(fail))
        .route("/headers", get(headers))
        .route("/hop", get(hop))
        .with_state(Trial { context, broken: Arc::clone(&broken) });
    let failed = Box::pin(async move {
        broken.notified().await;
        "the log cannot be written: no space left".to_owned()
    });
    Ok(Service { public, peer: None, openapi: utoipa::openapi::OpenApi::default(), failed })
}

#[derive(Clone)]
struct Trial {
    context: Context<Config>,
    broken: Arc<Notify>,
}

async fn fail(State(trial): State<Trial>) {
    trial.broken.notify_one();
}

/// What of the request travels from hop to hop.
async fn headers(headers: HeaderMap) -> Json<BTreeMap<String, String>> {
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.to_string(), value.to_str().unwrap_or_default().to_owned())
    };
    Json(headers.iter().map(text).collect())
}

/// Calls `/headers` of this very server, as a service calls another one.
async fn hop(State(trial): State<Trial>) -> Result<JsonBytes, Problem> {
    let url = format!("http://{}", trial.context.listen);
    let url = client::Url::parse(&url).map_err(|error| Problem::internal(&error))?;
    let peer = client::http::Client::new(client::http::Config::default(), [url])?;
    Ok(JsonBytes(peer.call(http::Method::GET, "/headers").send().await?.body))
}

#[derive(Deserialize)]
struct Sum {
    terms: Vec<u32>,
}

async fn sum(Json(sum): Json<Sum>) -> Json<u32> {
    Json(sum.terms.iter().sum())
}

async fn panics() -> &'static str {
    panic!("the secret is hunter2")
}

async fn slow() -> &'static str {
    std::future::pending().await
}

async fn poll(State(Trial { context, .. }): State<Trial>) -> Result<Json<Option<u32>>, Problem> {
    let never = std::future::pending::<u32>();
    let minute = Duration::from_secs(60);
    Ok(Json(chassis::long_poll::wait(never, minute, None, &context.draining).await))
}

async fn events(State(Trial { context, .. }): State<Trial>) -> axum::response::Response {
    chassis::sse::response(
        futures_util::stream::pending::<chassis::sse::Event>(),
        &context.draining,
    )
}

/// Says something, nothing for a long time, and then the rest.
async fn quiet() -> axum::body::Body {
    let pieces = futures_util::stream::unfold(0, async |at| {
        if at == 1 {
            tokio::time::sleep(Duration::from_secs(4)).await;
        }
        let piece = ["first,", "last"].get(at).copied()?;
        Some((Ok::<_, std::convert::Infallible>(piece), at + 1))
    });
    axum::body::Body::from_stream(pieces)
}
