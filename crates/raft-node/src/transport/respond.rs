//! Answers to peers.

use api::problem::{Code, ProblemDetails};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;

/// Why a body broke off.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// The body of an answer.
pub type PeerBody = UnsyncBoxBody<Bytes, BodyError>;

/// A body that is there already.
pub(super) fn full(bytes: impl Into<Bytes>) -> PeerBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn json(value: &Value) -> Response<PeerBody> {
    let mut response = Response::new(full(value.to_string()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// An error as the public API would say it.
pub(crate) fn problem(code: Code, detail: impl Into<String>) -> Response<PeerBody> {
    of(&ProblemDetails::new(code, detail))
}

pub(super) fn of(details: &ProblemDetails) -> Response<PeerBody> {
    let text = serde_json::to_vec(details).expect("a problem is plain data");
    let mut response = Response::new(full(text));
    *response.status_mut() =
        StatusCode::from_u16(details.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let media_type = HeaderValue::from_static(api::headers::PROBLEM_JSON);
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}
