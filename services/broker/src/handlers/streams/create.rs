//! PUT.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use chassis::extract::{Body, Path};
use http::header::{CONTENT_TYPE, HOST, LOCATION};
use http::{HeaderMap, StatusCode, Uri};
use messaging::stream::{StreamCommand, StreamConfig, StreamDone};

use super::failure::Failure;
use super::{request, state, text};
use crate::broker::Broker;
use crate::error::LogError;
use crate::streams::json;

/// What a stream is of whose creator does not say it.
const BYTES: &str = "application/octet-stream";

/// Creates a stream, with its first content if there is a body. Answers 200 if it is there and has
/// the same content type, lifetime and end.
#[utoipa::path(put, path = "/streams/{path}", tag = "streams",
    params(("path" = String, Path), ("stream-ttl" = Option<u64>, Header),
        ("stream-expires-at" = Option<String>, Header), ("stream-closed" = Option<bool>, Header)),
    request_body(content((Vec<u8> = "application/octet-stream"))),
    responses((status = 201, description = "Location, Content-Type, Stream-Next-Offset"), (status = 200),
              (status = 400), (status = 409, description = "it is another"),
              (status = 501, description = "forks and subscriptions are not supported")))]
pub(super) async fn create(
    State(broker): State<Broker>,
    Path(path): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Failure> {
    let path = request::path(&path)?;
    request::no_fork(&headers)?;
    let content_type = request::content_type(&headers)?.unwrap_or_else(|| BYTES.to_owned());
    let lifetime = request::lifetime(&headers)?;
    let config = StreamConfig { content_type: content_type.clone(), lifetime };
    let content = match config.is_json() && !body.is_empty() {
        true => json::messages(&body).map_err(request::invalid)?.into(),
        false => body,
    };
    let closed = request::closes(&headers);
    let command = StreamCommand::Create { path, config, closed };
    let done = broker.create_stream(command, &content).await?;
    let (status, content_type, tail) = match done {
        StreamDone::Created { tail } => (StatusCode::CREATED, content_type, tail),
        StreamDone::Exists { content_type, tail } => (StatusCode::OK, content_type, tail),
        _ => return Err(LogError::Misunderstood.into()),
    };
    let mut answer = state(tail, closed);
    answer.insert(CONTENT_TYPE, text(&content_type));
    if status == StatusCode::CREATED {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let base = host.map_or_else(
            || broker.shared.announced.client_url.clone(),
            |host| format!("http://{host}"),
        );
        answer.insert(LOCATION, text(&format!("{base}{}", uri.path())));
    }
    Ok((status, answer).into_response())
}
