//! The face of SQS: the JSON protocol of its SDKs, on `POST /` and on the URLs of queues.
//!
//! A request is told by its header `x-amz-target`, wherever it goes; the queue is named in its
//! body. See `crate::sqs` for the rules.

mod answer;
mod call;
mod faults;
mod moves;
mod permissions;
mod queues;
mod receive;
mod send;
mod settle;
mod tags;

use std::sync::{Arc, Mutex};

use axum::extract::{FromRequest as _, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use axum::{Extension, Router};
use bytes::Bytes;
use chassis::deadline::Deadline;
use chassis::extract::Body;
use chassis::problem::Problem;
use http::{Method, header};
use serde_json::Value;

use crate::broker::Broker;
use crate::sqs::{Attempts, Code, Fault};
use call::{Call, parse};

pub(crate) use answer::render;

/// Names the action.
pub(crate) const TARGET: &str = "x-amz-target";
/// Before the action in it.
const SERVICE: &str = "AmazonSQS.";

pub(super) fn router() -> Router<Broker> {
    let attempts: Arc<Mutex<Attempts>> = Arc::default();
    Router::new()
        .route("/", any(serve))
        .route("/{account}/{queue}", any(serve))
        .layer(Extension(attempts))
}

/// The SQS JSON protocol: `x-amz-target: AmazonSQS.<Action>`.
#[utoipa::path(post, path = "/", tag = "sqs",
    params(("x-amz-target" = String, Header, description = "`AmazonSQS.SendMessage`, for example")),
    request_body(content((Object = "application/x-amz-json-1.0"))),
    responses((status = 200, content_type = "application/x-amz-json-1.0", body = Object)))]
async fn serve(
    State(broker): State<Broker>,
    Extension(attempts): Extension<Arc<Mutex<Attempts>>>,
    deadline: Option<Deadline>,
    request: Request,
) -> Result<Response, Problem> {
    let is_post = request.method() == Method::POST;
    let target = request.headers().get(TARGET).filter(|_| is_post);
    let Some(target) = target.map(|target| String::from_utf8_lossy(target.as_bytes()).into_owned())
    else {
        return if is_post && is_form(&request) {
            Ok(answer::query_protocol())
        } else {
            Err(Problem::nothing_at(request.uri().path()))
        };
    };
    let call = Call::new(broker, attempts, deadline, request.headers());
    let Body(body) = Body::from_request(request, &()).await?;
    let answered = match target.strip_prefix(SERVICE) {
        Some(action) => dispatch(&call, action, &body).await,
        None => Err(unknown_action(&target)),
    };
    Ok(match answered {
        Ok(value) => answer::success(&value),
        Err(fault) => answer::fault(&fault).into_response(),
    })
}

/// What SDKs spoke until the end of 2023.
fn is_form(request: &Request) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    content_type
        .is_some_and(|value| value.as_bytes().starts_with(b"application/x-www-form-urlencoded"))
}

async fn dispatch(call: &Call, action: &str, body: &Bytes) -> Result<Value, Fault> {
    match action {
        "CreateQueue" => queues::create(call, parse(body)?).await,
        "GetQueueUrl" => queues::url(call, parse(body)?),
        "ListQueues" => queues::list(call, parse(body)?),
        "DeleteQueue" => queues::delete(call, parse(body)?).await,
        "PurgeQueue" => queues::purge(call, parse(body)?).await,
        "GetQueueAttributes" => queues::get_attributes(call, parse(body)?).await,
        "SetQueueAttributes" => queues::set_attributes(call, parse(body)?).await,
        "ListDeadLetterSourceQueues" => queues::sources(call, parse(body)?),
        "SendMessage" => send::one(call, parse(body)?, parse(body)?).await,
        "SendMessageBatch" => send::batch(call, parse(body)?).await,
        "ReceiveMessage" => receive::receive(call, parse(body)?).await,
        "DeleteMessage" => settle::delete(call, parse(body)?).await,
        "DeleteMessageBatch" => settle::delete_batch(call, parse(body)?).await,
        "ChangeMessageVisibility" => settle::change(call, parse(body)?).await,
        "ChangeMessageVisibilityBatch" => settle::change_batch(call, parse(body)?).await,
        "StartMessageMoveTask" => moves::start(call, parse(body)?).await,
        "CancelMessageMoveTask" => moves::cancel(call, parse(body)?).await,
        "ListMessageMoveTasks" => moves::list(call, parse(body)?).await,
        "TagQueue" => tags::tag(call, parse(body)?).await,
        "UntagQueue" => tags::untag(call, parse(body)?).await,
        "ListQueueTags" => tags::list(call, parse(body)?),
        "AddPermission" => permissions::add(call, parse(body)?).await,
        "RemovePermission" => permissions::remove(call, parse(body)?).await,
        _ => Err(unknown_action(action)),
    }
}

fn unknown_action(action: &str) -> Fault {
    let action: String = action.chars().take(100).collect();
    Fault::new(Code::InvalidAction, format!("The action {action} is not valid for this endpoint."))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(serve))]
pub(super) struct Api;
