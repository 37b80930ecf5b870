//! The face of Durable Streams, <https://github.com/durable-streams/durable-streams>: streams of
//! bytes at `/streams/{path}`. See `docs/durable-streams.md`.

mod append;
mod cors;
mod create;
mod cursor;
mod failure;
mod live;
mod read;
mod request;

use axum::Router;
use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::put;
use chassis::extract::Path;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, StatusCode};
use messaging::stream::{Lifetime, Position, StreamCommand};

use crate::broker::Broker;
use crate::streams::Start;
use failure::Failure;

pub(crate) use failure::render;

/// Where streams are.
pub(crate) const ROOT: &str = "/streams";
/// Every path below it.
const STREAM: &str = "/streams/{*path}";

const NEXT_OFFSET: HeaderName = HeaderName::from_static("stream-next-offset");
const CURSOR: HeaderName = HeaderName::from_static("stream-cursor");
const UP_TO_DATE: HeaderName = HeaderName::from_static("stream-up-to-date");
const CLOSED: HeaderName = HeaderName::from_static("stream-closed");
const SEQ: HeaderName = HeaderName::from_static("stream-seq");
const TTL: HeaderName = HeaderName::from_static("stream-ttl");
const EXPIRES_AT: HeaderName = HeaderName::from_static("stream-expires-at");
const SSE_ENCODING: HeaderName = HeaderName::from_static("stream-sse-data-encoding");
const PRODUCER_ID: HeaderName = HeaderName::from_static("producer-id");
const PRODUCER_EPOCH: HeaderName = HeaderName::from_static("producer-epoch");
const PRODUCER_SEQ: HeaderName = HeaderName::from_static("producer-seq");
const EXPECTED_SEQ: HeaderName = HeaderName::from_static("producer-expected-seq");
const RECEIVED_SEQ: HeaderName = HeaderName::from_static("producer-received-seq");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

const TRUE: HeaderValue = HeaderValue::from_static("true");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

pub(super) fn router(broker: &Broker) -> Router<Broker> {
    let stream = put(create::create).post(append::append).get(read::read).head(head).delete(delete);
    let stream = stream.options(cors::preflight);
    Router::new().route(STREAM, stream).layer(from_fn_with_state(broker.clone(), cors::secured))
}

/// No browser takes an answer for what it does not say it is.
fn secure(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
}

/// What is known of a stream, without its content. Does not count as a use of it.
#[utoipa::path(head, path = "/streams/{path}", tag = "streams", params(("path" = String, Path)),
    responses((status = 200, description = "Content-Type, Stream-Next-Offset, Stream-TTL or Stream-Expires-At, Stream-Closed"),
              (status = 404)))]
async fn head(State(broker): State<Broker>, Path(path): Path<String>) -> Result<Response, Failure> {
    let path = request::path(&path)?;
    let (_, view) = broker.look_at_stream(&path, Start::Tail).await?;
    let mut headers = state(view.tail, view.closed);
    headers.insert(CONTENT_TYPE, text(&view.config.content_type));
    headers.insert(CACHE_CONTROL, NO_STORE);
    match view.config.lifetime {
        Lifetime::Unbounded => {}
        Lifetime::Idle(seconds) => {
            headers.insert(TTL, HeaderValue::from(seconds));
        }
        Lifetime::Until(end) => {
            headers.insert(EXPIRES_AT, text(&super::outgoing::rfc3339(end)));
        }
    }
    Ok(headers.into_response())
}

/// Deletes a stream with everything in it. Another may be created in its place.
#[utoipa::path(delete, path = "/streams/{path}", tag = "streams", params(("path" = String, Path)),
    responses((status = 204), (status = 404)))]
async fn delete(
    State(broker): State<Broker>,
    Path(path): Path<String>,
) -> Result<StatusCode, Failure> {
    let path = request::path(&path)?;
    let command = StreamCommand::Delete { path: path.clone() };
    broker.change_stream(&path, &command, &[]).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Where a stream ends, and whether for good.
fn state(tail: Position, closed: bool) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(NEXT_OFFSET, text(&tail.to_string()));
    if closed {
        headers.insert(CLOSED, TRUE);
    }
    headers
}

/// A text that came in a header, or is of digits and signs.
fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(create::create, append::append, read::read, head, delete))]
pub(super) struct Api;
