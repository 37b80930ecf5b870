//! Questions through a queue, and their answers.

use api::broker::{
    AckOutcome, DEFAULT_REPLY_SECONDS, PEEK, REPLIES, REPLY_QUEUE, REPLY_SECONDS, REQUESTS,
    Replied, ReplyRequest, Requested,
};
use api::problem::Code;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use chassis::deadline::Deadline;
use chassis::extract::{Json, Path, Query, Whole};
use chassis::problem::Problem;
use http::StatusCode;
use http::header::LOCATION;
use messaging::ids::Name;
use serde::Deserialize;
use telemetry::trace::TraceContext;

use super::{incoming, outgoing, settings};
use crate::broker::Broker;
use crate::replies::RequestError;
use crate::send::Batch;
use crate::settle::Outcome;
use crate::wait::Patience;

pub(super) fn router() -> Router<Broker> {
    Router::new().route(REQUESTS, post(request)).route(REPLIES, post(reply))
}

/// How long to wait.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RequestQuery {
    /// 0 to 60. 30 if absent.
    wait_seconds: Option<f64>,
}

/// Asks whoever receives from this queue, and waits for the answer.
///
/// The body is the question. It is a message as any other, with the attributes `reply-to` and
/// `correlation-id`, and `x-ttl-ms` says how long it waits to be received; absent: as long as the
/// caller waits, an hour if it does not. 202: there is no answer yet; `Location` is where it will
/// be for an hour. With an `Idempotency-Key` a repeat asks no second time and finds the same
/// answer, if it names the same `x-correlation-id`, which is the key itself if absent.
#[utoipa::path(post, path = "/v1/queues/{queue}/requests", tag = "queues",
    params(("queue" = String, Path), ("wait_seconds" = Option<f64>, Query),
        ("x-correlation-id" = Option<String>, Header), ("x-ttl-ms" = Option<u64>, Header),
        ("idempotency-key" = Option<String>, Header)),
    request_body(content((Vec<u8> = "application/octet-stream"))),
    responses((status = 200, body = Requested), (status = 202, body = Requested)))]
async fn request(
    State(broker): State<Broker>,
    Path(queue): Path<Name>,
    (Query(query), deadline): (Query<RequestQuery>, Option<Deadline>),
    Whole { headers: request, body }: Whole,
) -> Result<Response, Problem> {
    let wait = settings::wait(Some(query.wait_seconds.unwrap_or(DEFAULT_REPLY_SECONDS)))?;
    let mut job = incoming::job(&request, body, broker.limits())?;
    let idempotency_key = incoming::idempotency_key(&request)?;
    // Others may come and find it by a name that they know.
    let is_kept = idempotency_key.is_some() || job.correlation_id.is_some();
    let id = job.correlation_id.clone().or_else(|| idempotency_key.clone());
    let id = id.unwrap_or_else(|| TraceContext::random().trace_id.to_string());
    job.correlation_id = Some(id.clone());
    let default_ttl = if wait.is_zero() { REPLY_SECONDS * 1_000 } else { wait.as_millis() as u64 };
    job.ttl_ms = Some(job.ttl_ms.unwrap_or(default_ttl));
    let tracestate = incoming::tracestate(&request);
    let batch = Batch { jobs: Vec::new(), idempotency_key, tracestate };
    let patience = Patience { wait, deadline };
    let found = broker.request(&queue, (job, batch), (patience, is_kept)).await;
    let found = found.map_err(|error| match error {
        RequestError::Queue(error) => Problem::from(error),
        RequestError::Message(error) => Problem::from(error),
    })?;
    let requested = Requested { correlation_id: id.clone(), reply: found.map(outgoing::peeked) };
    if requested.reply.is_some() {
        return Ok(Json(requested).into_response());
    }
    let peek = PEEK.replace("{queue}", REPLY_QUEUE);
    let location = format!("{peek}?correlation_id={}", encoded(&id));
    Ok((StatusCode::ACCEPTED, [(LOCATION, location)], Json(requested)).into_response())
}

/// Answers a request that was received, and settles it. `late` and `unknown`: nothing was done.
#[utoipa::path(post, path = "/v1/queues/{queue}/replies", tag = "queues",
    params(("queue" = String, Path)), request_body = ReplyRequest,
    responses((status = 200, body = Replied)))]
async fn reply(
    State(broker): State<Broker>,
    Path(queue): Path<Name>,
    Json(request): Json<ReplyRequest>,
) -> Result<Json<Replied>, Problem> {
    let id = request.ack_id.parse().ok();
    let message = incoming::reply(request, broker.limits())?;
    broker.directory().queue(&queue)?;
    let Some(id) = id else {
        return Ok(Json(Replied { result: AckOutcome::Unknown, correlation_id: None }));
    };
    let Some((outcome, asked)) = broker.reply(&queue, id, message).await? else {
        let detail = "this message asks for no answer: it has no reply-to and correlation-id; \
                      acknowledge it";
        return Err(Problem::new(Code::InvalidRequest, detail));
    };
    let result = match outcome {
        Outcome::Ok => AckOutcome::Ok,
        Outcome::Late => AckOutcome::Late,
        Outcome::Unknown => AckOutcome::Unknown,
    };
    Ok(Json(Replied { result, correlation_id: asked.correlation_id }))
}

/// A text within a query.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(request, reply))]
pub(super) struct Api;
