//! Subscriptions: create, change, look, seek, delete.

use api::broker::{
    SEEK, SUBSCRIPTION, SUBSCRIPTIONS, SeekRequest, Sought, SubscriptionList, SubscriptionSpec,
    SubscriptionStats, SubscriptionView,
};
use axum::Router;
use axum::extract::State;
use axum::routing::{get, post, put as put_method};
use chassis::extract::{Json, Path};
use chassis::problem::Problem;
use http::StatusCode;
use messaging::config::Start;
use messaging::ids::Name;

use super::outgoing::rfc3339;
use super::{age_seconds, created, position, push, settings};
use crate::broker::Broker;
use crate::directory::TopicHandle;

pub(super) fn router() -> Router<Broker> {
    Router::new()
        .route(SUBSCRIPTIONS, get(list))
        .route(SUBSCRIPTION, put_method(put).get(show).delete(delete))
        .route(SEEK, post(seek))
}

/// Creates a subscription or changes its settings. An existing one keeps its position. With `push`
/// its messages are sent to a webhook; a secret that was drawn is shown in this answer only.
#[utoipa::path(put, path = "/v1/topics/{topic}/subscriptions/{name}", tag = "subscriptions",
    params(("topic" = String, Path), ("name" = String, Path)), request_body = SubscriptionSpec,
    responses((status = 201, body = SubscriptionView), (status = 200, body = SubscriptionView)))]
async fn put(
    State(broker): State<Broker>,
    Path((topic, name)): Path<(Name, Name)>,
    spec: Option<Json<SubscriptionSpec>>,
) -> Result<(StatusCode, Json<SubscriptionView>), Problem> {
    settings::plain(&name)?;
    let Json(mut spec) = spec.unwrap_or_default();
    let push = spec.push.take().map(|push| push::asked(&broker, push)).transpose()?;
    let start = spec.start.as_deref().map_or(Ok(Start::Latest), position::start)?;
    let config = settings::subscription(spec)?;
    let names = (topic.clone(), name.clone());
    let drawn = push.as_ref().filter(|push| push.is_drawn).map(|push| push.secret.clone());
    let changed = broker.put_subscription(names, (config, push), start).await?;
    let topic = broker.directory().topic(&topic)?;
    let mut view = describe(&broker, &topic, &name).await?;
    if let Some(drawn) = drawn {
        push::show_new(&mut view, &*topic.subscription(&name)?, &drawn);
    }
    Ok((created(changed), Json(view)))
}

/// A subscription: its settings and where it is.
#[utoipa::path(get, path = "/v1/topics/{topic}/subscriptions/{name}", tag = "subscriptions",
    params(("topic" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = SubscriptionView)))]
async fn show(
    State(broker): State<Broker>,
    Path((topic, name)): Path<(Name, Name)>,
) -> Result<Json<SubscriptionView>, Problem> {
    describe(&broker, &*broker.directory().topic(&topic)?, &name).await.map(Json)
}

/// The subscriptions of a topic, by name.
#[utoipa::path(get, path = "/v1/topics/{topic}/subscriptions", tag = "subscriptions",
    params(("topic" = String, Path)), responses((status = 200, body = SubscriptionList)))]
async fn list(
    State(broker): State<Broker>,
    Path(topic): Path<Name>,
) -> Result<Json<SubscriptionList>, Problem> {
    let topic = broker.listed()?.topic(&topic)?;
    let mut subscriptions = Vec::new();
    for name in topic.subscriptions.keys() {
        subscriptions.push(describe(&broker, &topic, name).await?);
    }
    Ok(Json(SubscriptionList { subscriptions }))
}

/// Deletes a subscription with its position.
#[utoipa::path(delete, path = "/v1/topics/{topic}/subscriptions/{name}", tag = "subscriptions",
    params(("topic" = String, Path), ("name" = String, Path)), responses((status = 204)))]
async fn delete(
    State(broker): State<Broker>,
    Path(names): Path<(Name, Name)>,
) -> Result<StatusCode, Problem> {
    broker.delete_subscription(names).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Moves a subscription. Messages in flight are no longer their consumers'.
#[utoipa::path(post, path = "/v1/topics/{topic}/subscriptions/{name}/seek", tag = "subscriptions",
    params(("topic" = String, Path), ("name" = String, Path)), request_body = SeekRequest,
    responses((status = 200, body = Sought)))]
async fn seek(
    State(broker): State<Broker>,
    Path((topic, name)): Path<(Name, Name)>,
    Json(request): Json<SeekRequest>,
) -> Result<Json<Sought>, Problem> {
    let to = position::from(&request.to)?;
    let positions = broker.seek((&topic, &name), &to).await?;
    Ok(Json(Sought { positions }))
}

pub(super) async fn describe(
    broker: &Broker,
    topic: &TopicHandle,
    name: &Name,
) -> Result<SubscriptionView, Problem> {
    let subscription = topic.subscription(name)?;
    let stats = broker.subscription_stats(topic, name).await?;
    Ok(SubscriptionView {
        topic: topic.name.to_string(),
        name: name.to_string(),
        config: settings::shown_subscription(&subscription.entry),
        created_at: rfc3339(subscription.entry.created_ms),
        push_paused: subscription.entry.push.as_ref().and_then(push::shown_pause),
        stats: SubscriptionStats {
            lag: stats.lag,
            in_flight: stats.depth.in_flight,
            retrying: stats.depth.delayed,
            oldest_unacked_seconds: age_seconds(broker, stats.oldest_ms),
            redelivered: stats.counters.redelivered,
            acked: stats.counters.acked,
            dead_lettered: stats.counters.dead_lettered,
            discarded: stats.counters.discarded,
        },
    })
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(put, show, list, delete, seek))]
pub(super) struct Api;
