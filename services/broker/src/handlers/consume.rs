//! Pull, receive, ack, nack, extend: the same shapes for subscriptions and queues.

use api::broker::{
    AckOutcome, AckRequest, AckResult, DEFAULT_RECEIVE, Deliveries, ExtendRequest, MAX_ACK_IDS,
    MAX_REASON_BYTES, MAX_RECEIVE, NackRequest, PULL, PullRequest, QUEUE_ACK, QUEUE_EXTEND,
    QUEUE_NACK, RECEIVE, SUBSCRIPTION_ACK, SUBSCRIPTION_EXTEND, SUBSCRIPTION_NACK, Settled,
};
use api::problem::Code;
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use chassis::deadline::Deadline;
use chassis::extract::{Json, Path};
use chassis::problem::Problem;
use messaging::ack::AckId;
use messaging::dispatch::Release;
use messaging::ids::Name;

use super::{outgoing, settings};
use crate::broker::Broker;
use crate::receive::Ask;
use crate::settle::{Act, Outcome};
use crate::wait::Patience;

/// Longest delay of a nack: 24 hours.
const MAX_NACK_DELAY_MS: u64 = 86_400_000;

pub(super) fn router() -> Router<Broker> {
    Router::new()
        .route(PULL, post(pull))
        .route(SUBSCRIPTION_ACK, post(ack_messages))
        .route(SUBSCRIPTION_NACK, post(nack_messages))
        .route(SUBSCRIPTION_EXTEND, post(extend_messages))
        .route(RECEIVE, post(receive))
        .route(QUEUE_ACK, post(ack_jobs))
        .route(QUEUE_NACK, post(nack_jobs))
        .route(QUEUE_EXTEND, post(extend_jobs))
}

/// Takes messages of a subscription; waits for the first if asked to.
#[utoipa::path(post, path = "/v1/topics/{topic}/subscriptions/{name}/pull", tag = "subscriptions",
    params(("topic" = String, Path), ("name" = String, Path)), request_body = PullRequest,
    responses((status = 200, body = Deliveries)))]
async fn pull(
    State(broker): State<Broker>,
    Path((topic, name)): Path<(Name, Name)>,
    deadline: Option<Deadline>,
    request: Option<Json<PullRequest>>,
) -> Result<Json<Deliveries>, Problem> {
    let ask = ask(request, deadline)?;
    let messages = broker.pull((&topic, &name), ask).await?;
    let messages = messages.into_iter().map(outgoing::delivered).collect();
    Ok(Json(Deliveries { messages }))
}

/// Takes messages of a queue; waits for the first if asked to.
#[utoipa::path(post, path = "/v1/queues/{queue}/receive", tag = "queues",
    params(("queue" = String, Path)), request_body = PullRequest,
    responses((status = 200, body = Deliveries)))]
async fn receive(
    State(broker): State<Broker>,
    Path(queue): Path<Name>,
    deadline: Option<Deadline>,
    request: Option<Json<PullRequest>>,
) -> Result<Json<Deliveries>, Problem> {
    let ask = ask(request, deadline)?;
    let jobs = broker.receive(&queue, ask).await?;
    Ok(Json(Deliveries { messages: jobs.into_iter().map(outgoing::job).collect() }))
}

/// Settles messages of a subscription: on disk when this answers.
#[utoipa::path(post, path = "/v1/topics/{topic}/subscriptions/{name}/ack", tag = "subscriptions",
    params(("topic" = String, Path), ("name" = String, Path)), request_body = AckRequest,
    responses((status = 200, body = Settled)))]
async fn ack_messages(
    State(broker): State<Broker>,
    Path((topic, name)): Path<(Name, Name)>,
    Json(request): Json<AckRequest>,
) -> Result<Json<Settled>, Problem> {
    settle_messages(&broker, (&topic, &name), request.ack_ids, Act::Ack).await
}

/// Gives messages of a subscription back.
#[utoipa::path(post, path = "/v1/topics/{topic}/subscriptions/{name}/nack", tag = "subscriptions",
    params(("topic" = String, Path), ("name" = String, Path)), request_body = NackRequest,
    responses((status = 200, body = Settled)))]
async fn nack_messages(
    State(broker): State<Broker>,
    Path((topic, name)): Path<(Name, Name)>,
    Json(request): Json<NackRequest>,
) -> Result<Json<Settled>, Problem> {
    let act = nack(&request)?;
    settle_messages(&broker, (&topic, &name), request.ack_ids, act).await
}

/// Holds messages of a subscription longer.
#[utoipa::path(post, path = "/v1/topics/{topic}/subscriptions/{name}/extend",
    tag = "subscriptions", params(("topic" = String, Path), ("name" = String, Path)),
    request_body = ExtendRequest, responses((status = 200, body = Settled)))]
async fn extend_messages(
    State(broker): State<Broker>,
    Path((topic, name)): Path<(Name, Name)>,
    Json(request): Json<ExtendRequest>,
) -> Result<Json<Settled>, Problem> {
    let ack_timeout_ms = settings::ack_timeout(request.ack_deadline_seconds)?;
    let act = Act::Extend { ack_timeout_ms };
    settle_messages(&broker, (&topic, &name), request.ack_ids, act).await
}

/// Settles messages of a queue: on disk when this answers.
#[utoipa::path(post, path = "/v1/queues/{queue}/ack", tag = "queues",
    params(("queue" = String, Path)), request_body = AckRequest,
    responses((status = 200, body = Settled)))]
async fn ack_jobs(
    State(broker): State<Broker>,
    Path(queue): Path<Name>,
    Json(request): Json<AckRequest>,
) -> Result<Json<Settled>, Problem> {
    settle_jobs(&broker, &queue, request.ack_ids, Act::Ack).await
}

/// Gives messages of a queue back.
#[utoipa::path(post, path = "/v1/queues/{queue}/nack", tag = "queues",
    params(("queue" = String, Path)), request_body = NackRequest,
    responses((status = 200, body = Settled)))]
async fn nack_jobs(
    State(broker): State<Broker>,
    Path(queue): Path<Name>,
    Json(request): Json<NackRequest>,
) -> Result<Json<Settled>, Problem> {
    let act = nack(&request)?;
    settle_jobs(&broker, &queue, request.ack_ids, act).await
}

/// Holds messages of a queue longer.
#[utoipa::path(post, path = "/v1/queues/{queue}/extend", tag = "queues",
    params(("queue" = String, Path)), request_body = ExtendRequest,
    responses((status = 200, body = Settled)))]
async fn extend_jobs(
    State(broker): State<Broker>,
    Path(queue): Path<Name>,
    Json(request): Json<ExtendRequest>,
) -> Result<Json<Settled>, Problem> {
    let ack_timeout_ms = settings::ack_timeout(request.ack_deadline_seconds)?;
    settle_jobs(&broker, &queue, request.ack_ids, Act::Extend { ack_timeout_ms }).await
}

fn ask(request: Option<Json<PullRequest>>, deadline: Option<Deadline>) -> Result<Ask, Problem> {
    let Json(PullRequest { max, wait_seconds, ack_deadline_seconds }) = request.unwrap_or_default();
    let wait = settings::wait(wait_seconds)?;
    Ok(Ask {
        max: settings::count("max", max, (DEFAULT_RECEIVE, MAX_RECEIVE))?,
        ack_timeout_ms: settings::ack_timeout(ack_deadline_seconds)?,
        patience: Patience { wait, deadline },
    })
}

fn nack(request: &NackRequest) -> Result<Act, Problem> {
    if request.delay_ms.is_some_and(|delay| MAX_NACK_DELAY_MS < delay) {
        let detail = format!("delay_ms is at most {MAX_NACK_DELAY_MS}, 24 hours");
        return Err(Problem::new(Code::InvalidRequest, detail));
    }
    let reason = request.reason.clone();
    if reason.as_ref().is_some_and(|reason| MAX_REASON_BYTES < reason.len()) {
        let detail = format!("reason is at most {MAX_REASON_BYTES} bytes");
        return Err(Problem::new(Code::InvalidRequest, detail));
    }
    if request.failed == Some(false) && reason.is_some() {
        let detail = "a reason is kept of failures; leave it or `failed: false` out";
        return Err(Problem::new(Code::InvalidRequest, detail));
    }
    Ok(Act::Nack(match request.failed {
        None | Some(true) => Release::Failed { delay_ms: request.delay_ms, reason },
        Some(false) => Release::Free { delay_ms: request.delay_ms.unwrap_or(0) },
    }))
}

async fn settle_messages(
    broker: &Broker,
    names: (&Name, &Name),
    ids: Vec<String>,
    act: Act,
) -> Result<Json<Settled>, Problem> {
    let outcomes = broker.settle_messages(names, &parsed(&ids)?, act).await?;
    Ok(Json(settled(ids, &outcomes)))
}

async fn settle_jobs(
    broker: &Broker,
    queue: &Name,
    ids: Vec<String>,
    act: Act,
) -> Result<Json<Settled>, Problem> {
    let outcomes = broker.settle_jobs(queue, &parsed(&ids)?, act).await?;
    Ok(Json(settled(ids, &outcomes)))
}

/// A text that is no ack id is unknown here, like any id that was never given out.
fn parsed(ids: &[String]) -> Result<Vec<Option<AckId>>, Problem> {
    if !(1..=MAX_ACK_IDS).contains(&ids.len()) {
        let detail = format!("ack_ids must hold 1 to {MAX_ACK_IDS} ids, not {}", ids.len());
        return Err(Problem::new(Code::InvalidRequest, detail));
    }
    Ok(ids.iter().map(|id| id.parse().ok()).collect())
}

fn settled(ids: Vec<String>, outcomes: &[Outcome]) -> Settled {
    let results = ids.into_iter().zip(outcomes).map(|(ack_id, outcome)| {
        let result = match outcome {
            Outcome::Ok => AckOutcome::Ok,
            Outcome::Late => AckOutcome::Late,
            Outcome::Unknown => AckOutcome::Unknown,
        };
        AckResult { ack_id, result }
    });
    let results: Vec<_> = results.collect();
    let ok = results.iter().filter(|result| result.result == AckOutcome::Ok).count() as u64;
    Settled { ok, results }
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(
    pull,
    receive,
    ack_messages,
    nack_messages,
    extend_messages,
    ack_jobs,
    nack_jobs,
    extend_jobs
))]
pub(super) struct Api;
