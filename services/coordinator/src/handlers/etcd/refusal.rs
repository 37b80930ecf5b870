//! What is refused before a handler runs, or while its body is read, in the form of this face.

use api::problem::{Code, ProblemDetails};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use chassis::faces::Render;
use chassis::problem::Problem;

use super::answer::{METHOD_NOT_ALLOWED, NOT_FOUND, text};
use super::cors;
use super::error::{self, EtcdError, GrpcCode};
use crate::config::{ANY, Config};

/// Where problems look like an etcd's. What is refused before it is known whose page asks is shown
/// to none, unless it is to all.
pub(crate) fn faces(config: &Config) -> [(&'static str, Render); 2] {
    let is_open = config.access.origins.iter().any(|origin| origin == ANY);
    let render = if is_open { render } else { |details: &_| cors::only(render(details), None) };
    [("/v3", render), ("/v3beta", render)]
}

fn render(details: &ProblemDetails) -> Response {
    match details.known_code() {
        Some(Code::NotFound) => text(StatusCode::NOT_FOUND, NOT_FOUND),
        Some(Code::MethodNotAllowed) => text(StatusCode::METHOD_NOT_ALLOWED, METHOD_NOT_ALLOWED),
        _ => EtcdError::from(details).into_response(),
    }
}

impl From<Problem> for EtcdError {
    fn from(problem: Problem) -> Self {
        problem.details().into()
    }
}

impl From<&ProblemDetails> for EtcdError {
    fn from(details: &ProblemDetails) -> Self {
        match details.known_code() {
            Some(Code::TooLarge) => error::TOO_LARGE,
            Some(Code::Overloaded | Code::RateLimited) => error::TOO_MANY_REQUESTS,
            // All calls are POST, so the caller's time being over leaves the outcome open.
            Some(Code::DeadlineExceeded | Code::Indeterminate) => error::DEADLINE_EXCEEDED,
            Some(Code::RequestTimeout | Code::Cancelled) => error::CANCELED,
            Some(Code::NoLeader) => error::NO_LEADER,
            Some(Code::DiskFull) => error::NO_SPACE,
            Some(Code::Unauthenticated) => error::INVALID_AUTH_TOKEN,
            Some(Code::Forbidden) => error::PERMISSION_DENIED,
            _ => match details.status {
                503 => Self::with_text(GrpcCode::Unavailable, &details.detail),
                400..500 => Self::with_text(GrpcCode::InvalidArgument, &details.detail),
                _ => Self::with_text(GrpcCode::Internal, "etcdserver: internal error"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: Code, status: u16, grpc: GrpcCode) {
        let error = EtcdError::from(&ProblemDetails::new(code, "why"));
        assert_eq!((error.code, error.code.status()), (grpc, status), "{code}");
    }

    #[test]
    fn node_trouble_is_5xx_and_the_callers_is_4xx() {
        check(Code::TooLarge, 400, GrpcCode::InvalidArgument);
        check(Code::InvalidRequest, 400, GrpcCode::InvalidArgument);
        check(Code::Overloaded, 429, GrpcCode::ResourceExhausted);
        check(Code::Indeterminate, 504, GrpcCode::DeadlineExceeded);
        check(Code::RequestTimeout, 408, GrpcCode::Canceled);
        check(Code::Unavailable, 503, GrpcCode::Unavailable);
        check(Code::Internal, 500, GrpcCode::Internal);
        check(Code::Unauthenticated, 401, GrpcCode::Unauthenticated);
        check(Code::Forbidden, 403, GrpcCode::PermissionDenied);
    }
}
