//! Topics: create, change, look, delete.

use api::broker::{PartitionView, TOPIC, TOPICS, TopicList, TopicSpec, TopicView};
use axum::Router;
use axum::extract::State;
use axum::routing::{get, put as put_method};
use chassis::extract::{Json, Path};
use chassis::problem::Problem;
use http::StatusCode;
use messaging::ids::Name;

use super::outgoing::rfc3339;
use super::places::places;
use super::{copies, created, settings};
use crate::broker::Broker;
use crate::directory::TopicHandle;

pub(super) fn router() -> Router<Broker> {
    Router::new().route(TOPICS, get(list)).route(TOPIC, put_method(put).get(show).delete(delete))
}

/// Creates a topic or changes its settings.
#[utoipa::path(put, path = "/v1/topics/{topic}", tag = "topics", request_body = TopicSpec,
    params(("topic" = String, Path)),
    responses((status = 201, body = TopicView), (status = 200, body = TopicView)))]
async fn put(
    State(broker): State<Broker>,
    Path(topic): Path<Name>,
    spec: Option<Json<TopicSpec>>,
) -> Result<(StatusCode, Json<TopicView>), Problem> {
    settings::plain(&topic)?;
    let Json(spec) = spec.unwrap_or_default();
    let replicas = settings::replicas(spec.replicas)?;
    let retention = settings::retention(spec.retention)?;
    let changed = broker.put_topic(topic.clone(), spec.partitions, retention, replicas).await?;
    Ok((created(changed), Json(view(&broker, &topic).await?)))
}

/// A topic: its settings, partitions and subscriptions, and where they live.
#[utoipa::path(get, path = "/v1/topics/{topic}", tag = "topics",
    params(("topic" = String, Path)), responses((status = 200, body = TopicView)))]
async fn show(
    State(broker): State<Broker>,
    Path(topic): Path<Name>,
) -> Result<Json<TopicView>, Problem> {
    view(&broker, &topic).await.map(Json)
}

/// All topics, by name.
#[utoipa::path(get, path = "/v1/topics", tag = "topics",
    responses((status = 200, body = TopicList),
        (status = 503, description = "unavailable: this broker does not have all of the catalog yet")))]
async fn list(State(broker): State<Broker>) -> Result<Json<TopicList>, Problem> {
    let mut topics = Vec::new();
    for topic in broker.listed()?.topics.values() {
        topics.push(describe(&broker, topic).await?);
    }
    Ok(Json(TopicList { topics }))
}

/// Deletes a topic with its messages and subscriptions.
#[utoipa::path(delete, path = "/v1/topics/{topic}", tag = "topics",
    params(("topic" = String, Path)), responses((status = 204)))]
async fn delete(
    State(broker): State<Broker>,
    Path(topic): Path<Name>,
) -> Result<StatusCode, Problem> {
    broker.delete_topic(topic).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn view(broker: &Broker, topic: &Name) -> Result<TopicView, Problem> {
    let topic = broker.directory().topic(topic)?;
    let mut view = describe(broker, &topic).await?;
    view.placement = places(broker, topic.partitions.iter().map(|one| one.port.id)).await?;
    Ok(view)
}

async fn describe(broker: &Broker, topic: &TopicHandle) -> Result<TopicView, Problem> {
    let partitions = broker.topic_stats(topic).await?;
    let stats = (0..).zip(&partitions).map(|(partition, stats)| PartitionView {
        partition,
        earliest: stats.earliest,
        next: stats.next,
        messages: stats.next - stats.earliest,
        bytes: stats.bytes,
    });
    let partition_stats: Vec<_> = stats.collect();
    Ok(TopicView {
        name: topic.name.to_string(),
        partitions: topic.partition_count(),
        replicas: copies(topic.partitions.first().map(|one| one.port.placement())),
        retention: settings::shown_retention(topic.entry.retention),
        created_at: rfc3339(topic.entry.created_ms),
        subscriptions: topic.subscriptions.keys().map(Name::to_string).collect(),
        messages: partition_stats.iter().map(|stats| stats.messages).sum(),
        bytes: partition_stats.iter().map(|stats| stats.bytes).sum(),
        partition_stats,
        placement: Vec::new(),
    })
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(put, show, list, delete))]
pub(super) struct Api;
