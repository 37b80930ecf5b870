//! `/v1/rpc`.

use api::gateway::{RpcPending, RpcRequest, RpcResponse};
use api::headers::IDEMPOTENCY_KEY;
use api::problem::Code;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use chassis::clock::Clock;
use chassis::deadline::Deadline;
use chassis::extract::{Json, Path};
use chassis::problem::Problem;
use http::header::{AUTHORIZATION, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, StatusCode};

use crate::later::{Known, Later};
use crate::rpc::{Caller, Reply, Rpc};

pub(super) fn router() -> Router<super::State> {
    Router::new().route(api::gateway::RPC, post(call)).route(api::gateway::RPC_CALL, get(answer))
}

/// Calls a method by its name.
///
/// The answer is always the envelope once the call could be read; its HTTP status says the same
/// as `status` in more detail. An `Idempotency-Key` is passed on and makes the call repeatable.
///
/// With `Prefer: respond-async` the call is stored and answered 202 with the `Location` of its
/// answer, which is kept for an hour. It is carried out at least once, by any gateway; the method
/// gets the same `Idempotency-Key` each time. A repeat under a key is the same call.
#[utoipa::path(
    post,
    path = "/v1/rpc",
    tag = "rpc",
    request_body = RpcRequest,
    responses(
        (status = 200, description = "the method answered", body = RpcResponse),
        (status = 202, description = "asynchronous: stored", body = RpcPending),
        (status = 404, description = "no such method: `status` is `error`", body = RpcResponse),
        (status = "default", description = "the method failed, or the call could not be read", body = RpcResponse),
    )
)]
pub(super) async fn call(
    (State(rpc), State(later), State(clock)): (State<Rpc>, State<Later>, State<Clock>),
    deadline: Option<Deadline>,
    headers: HeaderMap,
    Json(call): Json<RpcRequest>,
) -> Result<Response, Problem> {
    if wants_async(&headers) {
        return store(&later, call, &headers).await;
    }
    let caller = Caller { headers, deadline: deadline.map(|deadline| deadline.0) };
    Ok(respond(rpc.call(call, caller, &clock).await))
}

/// The answer of an asynchronous call, once there is one: 202 until then. It is kept for an hour.
#[utoipa::path(
    get,
    path = "/v1/rpc/{id}",
    tag = "rpc",
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "the answer, whatever it is", body = RpcResponse),
        (status = 202, description = "it is not answered yet", body = RpcPending),
        (status = 404, description = "there is no such call, or not any more"),
    )
)]
pub(super) async fn answer(
    State(later): State<Later>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let known = match is_id(&id) {
        true => later.look(&id).await?,
        false => Known::Nothing,
    };
    match known {
        Known::Answered(envelope) => Ok(Json(envelope).into_response()),
        Known::Pending => Ok(pending(id)),
        Known::Nothing => {
            let detail = "there is no such call; answers are kept for an hour";
            Err(Problem::new(Code::CallNotFound, detail))
        }
    }
}

/// A preference by RFC 7240.
fn wants_async(headers: &HeaderMap) -> bool {
    let lines = headers.get_all("prefer").iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split([',', ';']))
        .any(|token| token.trim().eq_ignore_ascii_case("respond-async"))
}

async fn store(later: &Later, call: RpcRequest, headers: &HeaderMap) -> Result<Response, Problem> {
    if headers.contains_key(AUTHORIZATION) {
        let detail = "asynchronous calls are stored, and credentials are not: leave out \
                      `Prefer: respond-async`, or call without an Authorization";
        return Err(Problem::new(Code::InvalidRequest, detail));
    }
    let key = headers.get(IDEMPOTENCY_KEY).map(|key| key.to_str().map(str::to_owned)).transpose();
    let key = key.map_err(|_| {
        Problem::new(Code::InvalidRequest, "the Idempotency-Key must be visible ASCII")
    })?;
    let id = later.store(call, key).await?;
    let applied = (HeaderName::from_static("preference-applied"), "respond-async".to_owned());
    let location = (LOCATION, format!("{}/{id}", api::gateway::RPC));
    Ok(([applied, location], pending(id)).into_response())
}

fn pending(id: String) -> Response {
    let pending = RpcPending { id, status: "pending".to_owned() };
    let soon = [(RETRY_AFTER, "1")];
    (StatusCode::ACCEPTED, soon, Json(pending)).into_response()
}

/// As [`Later::store`] makes them.
fn is_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn respond(reply: Reply) -> Response {
    let mut response = Json(reply.envelope).into_response();
    *response.status_mut() = reply.status;
    if let Some(retry_after) = reply.retry_after {
        response.headers_mut().insert(RETRY_AFTER, retry_after);
    }
    response
}
