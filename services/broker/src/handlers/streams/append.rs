//! POST.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use chassis::extract::{Body, Path};
use http::{HeaderMap, HeaderValue, StatusCode};
use messaging::stream::{StreamCommand, StreamDone, media_type};

use super::failure::Failure;
use super::{PRODUCER_EPOCH, PRODUCER_SEQ, SEQ, request, state};
use crate::broker::Broker;
use crate::error::LogError;
use crate::streams::json;

/// Appends to a stream, closes it with `Stream-Closed: true`, or both at once. With `Producer-Id`,
/// `Producer-Epoch` and `Producer-Seq` a request is carried out once however often it is repeated.
#[utoipa::path(post, path = "/streams/{path}", tag = "streams",
    params(("path" = String, Path), ("stream-seq" = Option<String>, Header),
        ("stream-closed" = Option<bool>, Header), ("producer-id" = Option<String>, Header),
        ("producer-epoch" = Option<u64>, Header), ("producer-seq" = Option<u64>, Header)),
    request_body(content((Vec<u8> = "application/octet-stream"))),
    responses((status = 204, description = "Stream-Next-Offset; Stream-Closed if it is closed"),
              (status = 200, description = "appended for a producer: Producer-Epoch, Producer-Seq"),
              (status = 400), (status = 403, description = "an older epoch than the newest"), (status = 404),
              (status = 409, description = "closed, of another content type, or out of sequence")))]
pub(super) async fn append(
    State(broker): State<Broker>,
    Path(path): Path<String>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Failure> {
    let path = request::path(&path)?;
    let (close, producer) = (request::closes(&headers), request::producer(&headers)?);
    let seq = request::value(&headers, &SEQ)?.map(str::to_owned);
    let (content_type, content) = content(&headers, body, close)?;
    let epoch = producer.as_ref().map(|producer| (producer.epoch, producer.seq));
    let command = StreamCommand::Append { path: path.clone(), content_type, seq, producer, close };
    let done = broker.change_stream(&path, &command, &content).await?;
    let (mut status, tail, closed, newest) = match done {
        StreamDone::Appended { tail, closed } => (StatusCode::OK, tail, closed, None),
        StreamDone::Repeated { tail, closed, seq } => {
            (StatusCode::NO_CONTENT, tail, closed, Some(seq))
        }
        _ => return Err(LogError::Misunderstood.into()),
    };
    if epoch.is_none() || content.is_empty() {
        status = StatusCode::NO_CONTENT;
    }
    let mut answer = state(tail, closed);
    if let Some((epoch, seq)) = epoch {
        answer.insert(PRODUCER_EPOCH, HeaderValue::from(epoch));
        answer.insert(PRODUCER_SEQ, HeaderValue::from(newest.unwrap_or(seq)));
    }
    Ok((status, answer).into_response())
}

/// What is to be appended, and of what type it is. Nothing, if the stream is only to be closed.
fn content(
    headers: &HeaderMap,
    body: Bytes,
    close: bool,
) -> Result<(Option<String>, Bytes), Failure> {
    if body.is_empty() {
        let wanted = "an append has a body; to close the stream, send `Stream-Closed: true`";
        return if close { Ok((None, body)) } else { Err(request::invalid(wanted)) };
    }
    let content_type = request::content_type(headers)?;
    let content_type =
        content_type.ok_or_else(|| request::invalid("say with Content-Type what the body is"))?;
    if !media_type(&content_type).eq_ignore_ascii_case("application/json") {
        return Ok((Some(content_type), body));
    }
    let messages = json::messages(&body).map_err(request::invalid)?;
    if messages.is_empty() {
        return Err(request::invalid("an empty array appends nothing"));
    }
    Ok((Some(content_type), messages.into()))
}
