//! Queues: create, change, send, look, purge, redrive, delete.

use std::sync::Arc;

use api::broker::{
    DEFAULT_RECEIVE, MAX_PRIORITY, MAX_RECEIVE, PEEK, PURGE, Peeked, PriorityDepth, Purged, QUEUE,
    QUEUE_MESSAGES, QUEUES, QueueList, QueueSpec, QueueStats, QueueView, REDRIVE, RedriveRequest,
    Redriven, SendLine, Sent,
};
use api::problem::Code;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put as put_method};
use chassis::deadline::Deadline;
use chassis::extract::{Json, Path, Query, Whole};
use chassis::problem::Problem;
use http::StatusCode;
use messaging::ids::Name;
use serde::Deserialize;

use super::outgoing::rfc3339;
use super::places::places;
use super::{age_seconds, copies, created, incoming, outgoing, settings, traceparent};
use crate::broker::Broker;
use crate::directory::QueueHandle;
use crate::send::Batch;
use crate::wait::Patience;

/// Messages one redrive moves when it names no `max`, and at most.
const REDRIVE_MAX: (u32, u32) = (1_000, 10_000);

pub(super) fn router() -> Router<Broker> {
    Router::new()
        .route(QUEUES, get(list))
        .route(QUEUE, put_method(put).get(show).delete(delete))
        .route(QUEUE_MESSAGES, post(send))
        .route(PEEK, get(peek))
        .route(PURGE, post(purge))
        .route(REDRIVE, post(redrive))
}

/// Creates a queue or changes its settings.
#[utoipa::path(put, path = "/v1/queues/{queue}", tag = "queues", request_body = QueueSpec,
    params(("queue" = String, Path)),
    responses((status = 201, body = QueueView), (status = 200, body = QueueView)))]
async fn put(
    State(broker): State<Broker>,
    Path(queue): Path<Name>,
    spec: Option<Json<QueueSpec>>,
) -> Result<(StatusCode, Json<QueueView>), Problem> {
    let Json(spec) = spec.unwrap_or_default();
    let replicas = settings::replicas(spec.replicas)?;
    let config = settings::queue(spec)?;
    let changed = broker.put_queue(queue.clone(), config, replicas).await?;
    Ok((created(changed), Json(view(&broker, &queue).await?)))
}

/// A queue: its settings, what is in it, and where it lives.
#[utoipa::path(get, path = "/v1/queues/{queue}", tag = "queues",
    params(("queue" = String, Path)), responses((status = 200, body = QueueView)))]
async fn show(
    State(broker): State<Broker>,
    Path(queue): Path<Name>,
) -> Result<Json<QueueView>, Problem> {
    view(&broker, &queue).await.map(Json)
}

/// All queues, by name.
#[utoipa::path(get, path = "/v1/queues", tag = "queues",
    responses((status = 200, body = QueueList),
        (status = 503, description = "unavailable: this broker does not have all of the catalog yet")))]
async fn list(State(broker): State<Broker>) -> Result<Json<QueueList>, Problem> {
    let mut queues = Vec::new();
    for queue in broker.listed()?.queues.values() {
        queues.push(describe(&broker, queue).await?);
    }
    Ok(Json(QueueList { queues }))
}

/// Deletes a queue with its messages.
#[utoipa::path(delete, path = "/v1/queues/{queue}", tag = "queues",
    params(("queue" = String, Path)), responses((status = 204)))]
async fn delete(
    State(broker): State<Broker>,
    Path(queue): Path<Name>,
) -> Result<StatusCode, Problem> {
    broker.delete_queue(queue).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sends one message (the raw body) or a batch (`application/x-ndjson`), whole or not at all.
/// Answers once all of it is on disk. A full queue answers 429 `queue-full`.
#[utoipa::path(post, path = "/v1/queues/{queue}/messages", tag = "queues",
    params(("queue" = String, Path), ("x-priority" = Option<u8>, Header),
        ("x-delay-ms" = Option<u64>, Header), ("x-ttl-ms" = Option<u64>, Header),
        ("x-dedup-id" = Option<String>, Header),
        ("x-correlation-id" = Option<String>, Header), ("x-group" = Option<String>, Header),
        ("idempotency-key" = Option<String>, Header)),
    request_body(content((Vec<u8> = "application/octet-stream"),
        (SendLine = "application/x-ndjson"))),
    responses((status = 201, body = Sent)))]
async fn send(
    State(broker): State<Broker>,
    Path(queue): Path<Name>,
    Whole { headers: request, body }: Whole,
) -> Result<Response, Problem> {
    let batch = Batch {
        jobs: incoming::jobs(&request, body, broker.limits())?,
        idempotency_key: incoming::idempotency_key(&request)?,
        tracestate: incoming::tracestate(&request),
    };
    let (stored, context) = broker.send(&queue, batch).await?;
    let sent = Sent {
        count: stored.len() as u64,
        ids: stored.iter().map(|reply| reply.id.0.to_string()).collect(),
        deduplicated: stored.iter().filter(|reply| reply.duplicate).count() as u64,
    };
    Ok((StatusCode::CREATED, traceparent(context), Json(sent)).into_response())
}

/// How many messages to look at.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PeekQuery {
    /// Most messages, 1 to 1,000. 10 if absent.
    limit: Option<u32>,
    /// Only the first message with this correlation id.
    correlation_id: Option<String>,
    /// How long to wait for that, 0 to 60.
    wait_seconds: Option<f64>,
}

/// The next messages in the order they would be delivered, or the one that was sent with this
/// `x-correlation-id`, which `wait_seconds` waits for. Nothing is taken or counted.
#[utoipa::path(get, path = "/v1/queues/{queue}/peek", tag = "queues",
    params(("queue" = String, Path), ("limit" = Option<u32>, Query),
        ("correlation_id" = Option<String>, Query), ("wait_seconds" = Option<f64>, Query)),
    responses((status = 200, body = Peeked)))]
async fn peek(
    State(broker): State<Broker>,
    Path(queue): Path<Name>,
    Query(query): Query<PeekQuery>,
    deadline: Option<Deadline>,
) -> Result<Json<Peeked>, Problem> {
    let wait = settings::wait(query.wait_seconds)?;
    if let Some(id) = query.correlation_id {
        let found = broker.answer(&queue, &id, (Patience { wait, deadline }, true)).await?;
        return Ok(Json(Peeked { messages: found.into_iter().map(outgoing::peeked).collect() }));
    }
    if !wait.is_zero() {
        let detail = "a peek waits for a correlation_id only; to wait for messages, receive them";
        return Err(Problem::new(Code::InvalidRequest, detail));
    }
    let max = settings::count("limit", query.limit, (DEFAULT_RECEIVE, MAX_RECEIVE))?;
    let peeked = broker.peek(&queue, max).await?;
    Ok(Json(Peeked { messages: peeked.into_iter().map(outgoing::peeked).collect() }))
}

/// Removes every message, those in flight included.
#[utoipa::path(post, path = "/v1/queues/{queue}/purge", tag = "queues",
    params(("queue" = String, Path)), responses((status = 200, body = Purged)))]
async fn purge(
    State(broker): State<Broker>,
    Path(queue): Path<Name>,
) -> Result<Json<Purged>, Problem> {
    let removed = broker.purge(&queue).await?;
    Ok(Json(Purged { removed }))
}

/// Brings dead-lettered messages back. On a queue with a dead-letter queue: what came from this
/// queue. On any other: what it holds, to where each message came from.
#[utoipa::path(post, path = "/v1/queues/{queue}/redrive", tag = "queues",
    params(("queue" = String, Path)), request_body = RedriveRequest,
    responses((status = 200, body = Redriven)))]
async fn redrive(
    State(broker): State<Broker>,
    Path(queue): Path<Name>,
    request: Option<Json<RedriveRequest>>,
) -> Result<Json<Redriven>, Problem> {
    let Json(RedriveRequest { to, max }) = request.unwrap_or_default();
    let max = settings::count("max", max, REDRIVE_MAX)?;
    let to: Option<Name> = to
        .map(|to| to.parse())
        .transpose()
        .map_err(|error| Problem::new(Code::InvalidRequest, format!("to: {error}")))?;
    let done = broker.redrive(&queue, to.as_ref(), max).await?;
    Ok(Json(Redriven { moved: done.moved, left: done.left, reason: done.reason }))
}

async fn view(broker: &Broker, queue: &Name) -> Result<QueueView, Problem> {
    let queue = broker.directory().queue(queue)?;
    let mut view = describe(broker, &queue).await?;
    view.placement = places(broker, [queue.port.id].into_iter()).await?.pop();
    Ok(view)
}

async fn describe(broker: &Broker, queue: &Arc<QueueHandle>) -> Result<QueueView, Problem> {
    let stats = broker.queue_stats(queue).await?;
    let by_priority =
        (0..=MAX_PRIORITY).zip(&stats.depths).rev().map(|(priority, depth)| PriorityDepth {
            priority,
            ready: depth.ready,
            in_flight: depth.in_flight,
            delayed: depth.delayed,
        });
    let full = |depth: &PriorityDepth| 0 < depth.ready + depth.in_flight + depth.delayed;
    let by_priority: Vec<_> = by_priority.filter(full).collect();
    let sum = |of: fn(&PriorityDepth) -> u64| by_priority.iter().map(of).sum();
    Ok(QueueView {
        name: queue.name.to_string(),
        config: QueueSpec {
            replicas: Some(copies(Some(queue.port.placement()))),
            ..settings::shown_queue(&queue.entry.config)
        },
        created_at: rfc3339(queue.entry.created_ms),
        stats: QueueStats {
            messages: stats.messages,
            bytes: stats.bytes,
            ready: sum(|depth| depth.ready),
            in_flight: sum(|depth| depth.in_flight),
            delayed: sum(|depth| depth.delayed),
            oldest_age_seconds: age_seconds(broker, stats.oldest_ms),
            sent: stats.counters.sent,
            acked: stats.counters.acked,
            redelivered: stats.counters.redelivered,
            dead_lettered: stats.counters.dead_lettered,
            expired: stats.counters.expired,
            discarded: stats.counters.discarded,
            refused: stats.counters.refused,
            dropped: stats.counters.dropped,
            by_priority,
        },
        placement: None,
    })
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(put, show, list, delete, send, peek, purge, redrive))]
pub(super) struct Api;
