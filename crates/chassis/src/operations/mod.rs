//! The paths that every server has: health, metrics, version, the API's description.

mod docs;
mod health;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::{HeaderMap, header};
use serde_json::json;
use telemetry::metrics::{Format, Registry};
use utoipa::openapi::OpenApi;

use crate::extract::JsonBytes;
use crate::health::Health;

/// What the shared paths show.
#[derive(Clone, Debug)]
pub(crate) struct Operations {
    pub(crate) service: &'static str,
    pub(crate) node: Arc<str>,
    pub(crate) health: Health,
    pub(crate) metrics: Registry,
}

impl Operations {
    /// The shared paths, except those that `openapi` says the service has itself (the coordinator
    /// answers `/version` as etcd does).
    pub(crate) fn router(self, openapi: &OpenApi) -> Router {
        let taken: BTreeSet<&str> = openapi.paths.paths.keys().map(String::as_str).collect();
        let document = describe(self.service, openapi);
        let page: Arc<str> = docs::page(self.service, &document).into();
        let text = serde_json::to_vec(&document).expect("an OpenAPI document is JSON").into();
        let document = JsonBytes(text);
        let routes: [(&str, MethodRouter<Self>); 8] = [
            ("/livez", get(health::livez)),
            ("/healthz", get(health::livez)),
            ("/readyz", get(health::readyz)),
            ("/readyz/{check}", get(health::readyz_check)),
            ("/metrics", get(metrics)),
            ("/version", get(version)),
            ("/openapi.json", get(move || async move { document })),
            ("/docs", get(move || async move { Html(page.to_string()) })),
        ];
        let free = routes.into_iter().filter(|(path, _)| !taken.contains(path));
        free.fold(Router::new(), |router, (path, route)| router.route(path, route)).with_state(self)
    }
}

async fn metrics(State(operations): State<Operations>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let format = Format::for_accept(accept.unwrap_or_default());
    let text = operations.metrics.encode(format);
    ([(header::CONTENT_TYPE, format.content_type())], text).into_response()
}

async fn version(State(operations): State<Operations>) -> JsonBytes {
    let service = format!("quartet-{}", operations.service);
    let version =
        json!({ "service": service, "version": crate::VERSION, "node": &*operations.node });
    JsonBytes(version.to_string().into())
}

/// The service's document, with our version and the shared paths in it.
fn describe(service: &str, openapi: &OpenApi) -> serde_json::Value {
    let mut document = serde_json::to_value(openapi).unwrap_or_default();
    if document["info"]["title"].as_str().is_none_or(str::is_empty) {
        document["info"]["title"] = format!("quartet-{service}").into();
    }
    document["info"]["version"] = crate::VERSION.into();
    let Some(paths) = document["paths"].as_object_mut() else { return document };
    for (path, summary) in SHARED {
        paths.entry(*path).or_insert_with(|| {
            json!({ "get": { "tags": ["operations"], "summary": summary,
                             "responses": { "200": { "description": "as described" } } } })
        });
    }
    document
}

/// The shared paths and what they are for.
const SHARED: &[(&str, &str)] = &[
    ("/livez", "Whether this process answers; depends on nothing else"),
    ("/readyz", "Whether it can serve: 503 names what is missing; ?verbose lists every check"),
    ("/metrics", "Metrics for Prometheus, with exemplars in the OpenMetrics format"),
    ("/version", "What runs here"),
    ("/openapi.json", "This API, for programs"),
    ("/docs", "This API, for people"),
];
