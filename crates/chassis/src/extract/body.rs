//! The raw body, as it came.

use std::error::Error;

use api::problem::Code;
use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body as _;
use http_body_util::BodyExt as _;

use crate::layers::body::{BodyError, MaxBody};
use crate::problem::Problem;

/// All bytes of the body. Opaque: not parsed, not re-encoded.
#[derive(Clone, Debug)]
pub struct Body(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        read(request).await.map(Self)
    }
}

/// The headers and all bytes of the body, taken out of the request. Extracting a `HeaderMap` beside
/// a [`Body`] copies every header.
#[derive(Clone, Debug)]
pub struct Whole {
    /// As they came.
    pub headers: HeaderMap,
    /// Opaque: not parsed, not re-encoded.
    pub body: Bytes,
}

impl<S: Send + Sync> FromRequest<S> for Whole {
    type Rejection = Problem;

    async fn from_request(mut request: Request, _state: &S) -> Result<Self, Problem> {
        let headers = std::mem::take(request.headers_mut());
        let body = read(request).await?;
        Ok(Self { headers, body })
    }
}

/// Reads a body to its end. The layers have bounded it.
pub(crate) async fn read(request: Request) -> Result<Bytes, Problem> {
    let mut body = request.into_body();
    // Most bodies are one piece, which is taken as it is.
    let first = match body.frame().await {
        Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        Some(Err(error)) => return Err(unreadable(&error)),
        None => return Ok(Bytes::new()),
    };
    if body.is_end_stream() {
        return Ok(first);
    }
    let mut whole = BytesMut::from(first);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| unreadable(&error))?;
        whole.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
    }
    Ok(whole.freeze())
}

/// What to tell a caller whose body could not be read: for services that stream it themselves.
pub fn unreadable(error: &(dyn Error + 'static)) -> Problem {
    match body_error(error) {
        Some(BodyError::TooLarge { max }) => too_large(*max),
        Some(error @ BodyError::Stalled { .. }) => Problem::new(Code::RequestTimeout, error),
        Some(BodyError::Broken(_)) | None => {
            Problem::new(Code::InvalidRequest, "the body ended early; send it again in full")
        }
    }
}

/// The layers' error, below whatever wrapped it on the way.
fn body_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a BodyError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The answer to a body beyond the limit.
pub(crate) fn too_large(max: MaxBody) -> Problem {
    let MaxBody(max) = max;
    let detail = format!("the body is larger than {max} bytes; split it into smaller requests");
    Problem::new(Code::TooLarge, detail).with("max_bytes", max)
}
