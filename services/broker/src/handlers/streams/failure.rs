//! Failures in the form of the protocol: a status, headers, and `{"error":{"code","message"}}`.

use api::problem::{Code, ProblemDetails};
use axum::response::{IntoResponse, Response};
use chassis::problem::Problem;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use messaging::stream::StreamRefused;
use serde_json::json;

use super::{CLOSED, EXPECTED_SEQ, NEXT_OFFSET, PRODUCER_EPOCH, RECEIVED_SEQ, TRUE, secure, text};
use crate::error::{AdminError, LogError, MessageError};
use crate::streams::CreateStreamError;

pub(super) const INVALID_REQUEST: &str = "INVALID_REQUEST";
pub(super) const INVALID_OFFSET: &str = "INVALID_OFFSET";
pub(super) const NOT_IMPLEMENTED: &str = "NOT_IMPLEMENTED";

/// When to come back, in seconds.
const AGAIN: HeaderValue = HeaderValue::from_static("1");

/// Why a request is not answered as it hoped.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    code: String,
    message: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Failure {
    pub(super) fn new(status: StatusCode, code: &str, message: impl std::fmt::Display) -> Self {
        let (code, message) = (code.to_owned(), message.to_string());
        Self { status, code, message, headers: Vec::new() }
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self { status, code, message, headers } = self;
        let mut headers: HeaderMap = headers.into_iter().collect();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(RETRY_AFTER, AGAIN);
        }
        secure(&mut headers);
        let body = json!({ "error": { "code": code, "message": message } });
        (status, headers, body.to_string()).into_response()
    }
}

/// What is refused before a handler runs, or by the layers around it.
pub(crate) fn render(details: &ProblemDetails) -> Response {
    let status = StatusCode::from_u16(details.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let code = details.code.to_uppercase().replace('-', "_");
    Failure::new(status, &code, &details.detail).into_response()
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let details = problem.details();
        let status = StatusCode::from_u16(details.status);
        let code = details.code.to_uppercase().replace('-', "_");
        Self::new(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &code, &details.detail)
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        if matches!(error, LogError::Indeterminate) {
            // Streams have no idempotency keys.
            let detail = "the outcome is unknown; repeat the request with the same Producer-Id, \
                          Producer-Epoch and Producer-Seq, or read the stream before repeating it";
            return Problem::new(Code::Indeterminate, detail).into();
        }
        Problem::from(error).into()
    }
}

impl From<CreateStreamError> for Failure {
    fn from(error: CreateStreamError) -> Self {
        match error {
            CreateStreamError::Found(AdminError::Log(error)) => error.into(),
            CreateStreamError::Found(error) => Problem::from(error).into(),
            CreateStreamError::Stream(error) => error.into(),
        }
    }
}

impl From<MessageError> for Failure {
    fn from(error: MessageError) -> Self {
        match error {
            MessageError::Stream(refused) => refused.into(),
            MessageError::Log(error) => error.into(),
            MessageError::NoSuchPosition => {
                Self::new(StatusCode::BAD_REQUEST, INVALID_OFFSET, &error)
            }
            MessageError::TooManyWaiting { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_WAITING", &error)
            }
            error => Problem::from(error).into(),
        }
    }
}

impl From<StreamRefused> for Failure {
    fn from(refused: StreamRefused) -> Self {
        let of = |status, code| Self::new(status, code, &refused);
        match &refused {
            StreamRefused::NoStream => of(StatusCode::NOT_FOUND, "STREAM_NOT_FOUND"),
            StreamRefused::Differs { .. } => of(StatusCode::CONFLICT, "STREAM_EXISTS"),
            StreamRefused::Closed { tail } => of(StatusCode::CONFLICT, "STREAM_CLOSED")
                .with(NEXT_OFFSET, text(&tail.to_string()))
                .with(CLOSED, TRUE),
            StreamRefused::ContentType { .. } => of(StatusCode::CONFLICT, "CONTENT_TYPE_MISMATCH"),
            StreamRefused::Seq { .. } => of(StatusCode::CONFLICT, "SEQUENCE_CONFLICT"),
            StreamRefused::Stale { known } => of(StatusCode::FORBIDDEN, "STALE_EPOCH")
                .with(PRODUCER_EPOCH, HeaderValue::from(*known)),
            StreamRefused::Epoch => of(StatusCode::BAD_REQUEST, INVALID_REQUEST),
            StreamRefused::Gap { expected, received } => of(StatusCode::CONFLICT, "SEQUENCE_GAP")
                .with(EXPECTED_SEQ, HeaderValue::from(*expected))
                .with(RECEIVED_SEQ, HeaderValue::from(*received)),
            StreamRefused::Producers | StreamRefused::Streams | StreamRefused::Pieces => {
                of(StatusCode::TOO_MANY_REQUESTS, "LIMIT_REACHED")
            }
            StreamRefused::NotUnderstood => of(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
        }
    }
}
