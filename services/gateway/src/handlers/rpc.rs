//! `/v1/rpc`.

use api::gateway::{RpcRequest, RpcResponse};
use api::problem::Code;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use chassis::clock::Clock;
use chassis::deadline::Deadline;
use chassis::extract::Json;
use chassis::problem::Problem;
use http::HeaderMap;
use http::header::RETRY_AFTER;

use crate::rpc::{Caller, Reply, Rpc};

pub(super) fn router() -> Router<super::State> {
    Router::new().route(api::gateway::RPC, post(call))
}

/// Calls a method by its name.
///
/// The answer is always the envelope once the call could be read; its HTTP status says the same
/// as `status` in more detail. An `Idempotency-Key` is passed on and makes the call repeatable.
#[utoipa::path(
    post,
    path = "/v1/rpc",
    tag = "rpc",
    request_body = RpcRequest,
    responses(
        (status = 200, description = "the method answered", body = RpcResponse),
        (status = 404, description = "no such method: `status` is `error`", body = RpcResponse),
        (status = "default", description = "the method failed, or the call could not be read", body = RpcResponse),
    )
)]
pub(super) async fn call(
    State(rpc): State<Rpc>,
    State(clock): State<Clock>,
    deadline: Option<Deadline>,
    headers: HeaderMap,
    Json(call): Json<RpcRequest>,
) -> Result<Response, Problem> {
    refuse_async(&headers)?;
    let caller = Caller { headers, deadline: deadline.map(|deadline| deadline.0) };
    Ok(respond(rpc.call(call, caller, &clock).await))
}

/// RFC 7240: a preference may be ignored, but this caller would wait for a 202 that never comes.
fn refuse_async(headers: &HeaderMap) -> Result<(), Problem> {
    let prefers = headers
        .get_all("prefer")
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("respond-async"));
    if !prefers {
        return Ok(());
    }
    let detail = "asynchronous calls are not offered; leave out `Prefer: respond-async` and wait \
                  for the answer, or put the work on a queue with the method `queue.send`";
    Err(Problem::new(Code::InvalidRequest, detail))
}

fn respond(reply: Reply) -> Response {
    let mut response = Json(reply.envelope).into_response();
    *response.status_mut() = reply.status;
    if let Some(retry_after) = reply.retry_after {
        response.headers_mut().insert(RETRY_AFTER, retry_after);
    }
    response
}
