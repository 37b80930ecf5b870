//! HTTP: a request becomes a call of the broker in its first lines, and an answer in its last.

mod incoming;
pub(crate) mod outgoing;
mod places;
mod position;
mod problems;
mod settings;

mod cluster;
mod consume;
mod events;
mod messages;
pub(crate) mod peers;
mod push;
mod queues;
mod redrives;
mod requests;
mod sqs;
mod streams;
mod subjects;
mod subscriptions;
mod topics;

pub(crate) use incoming::is_json;
pub(crate) use outgoing::rfc3339;

use std::sync::Arc;

use axum::Router;
use http::{HeaderName, HeaderValue, StatusCode};
use messaging::catalog::{Changed, Placement};
use messaging::ids::Millis;
use telemetry::trace::TraceContext;
use tower::layer::layer_fn;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;

use crate::broker::Broker;

/// Every path that users reach.
pub(crate) fn router(broker: Broker) -> Router {
    Router::new()
        .merge(topics::router())
        .merge(messages::router())
        .merge(subjects::router())
        .merge(subscriptions::router())
        .merge(push::router())
        .merge(queues::router())
        .merge(redrives::router())
        .merge(requests::router())
        .merge(consume::router())
        .merge(sqs::router())
        .merge(streams::router(&broker))
        .merge(cluster::router())
        .layer(layer_fn(peers::name_who_answered))
        .with_state(broker)
}

/// Describes them.
pub(crate) fn openapi() -> OpenApi {
    let mut document = topics::Api::openapi();
    document.merge(messages::Api::openapi());
    document.merge(subjects::Api::openapi());
    document.merge(subscriptions::Api::openapi());
    document.merge(push::Api::openapi());
    document.merge(queues::Api::openapi());
    document.merge(redrives::Api::openapi());
    document.merge(requests::Api::openapi());
    document.merge(consume::Api::openapi());
    document.merge(sqs::Api::openapi());
    document.merge(streams::Api::openapi());
    document.merge(cluster::Api::openapi());
    document.info.title = "Quartet broker".to_owned();
    document
}

/// How problems look to clients of other protocols: by which header or path they are known.
pub(crate) fn faces(faces: &chassis::faces::Faces) {
    faces.set_header(sqs::TARGET, sqs::render);
    faces.set([(streams::ROOT, streams::render as chassis::faces::Render)]);
}

/// How many there are now.
fn copies(placement: Option<Arc<Placement>>) -> u32 {
    placement.map_or(1, |placement| u32::try_from(placement.replicas.len()).unwrap_or(u32::MAX))
}

const fn created(changed: Changed) -> StatusCode {
    match changed {
        Changed::Created => StatusCode::CREATED,
        Changed::Updated | Changed::Unchanged | Changed::Deleted => StatusCode::OK,
    }
}

/// The creation context of what was published, for who wants to link to it.
fn traceparent(context: TraceContext) -> [(HeaderName, HeaderValue); 1] {
    let name = HeaderName::from_static(api::headers::TRACEPARENT);
    let value = HeaderValue::try_from(context.to_string());
    [(name, value.expect("a traceparent is hexadecimal and dashes"))]
}

fn age_seconds(broker: &Broker, since: Option<Millis>) -> Option<f64> {
    since.map(|since| broker.now_ms().saturating_sub(since) as f64 / 1_000.0)
}
