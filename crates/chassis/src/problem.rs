//! Errors as answers: `application/problem+json`, made in one place.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use api::headers;
use api::problem::{Code, ProblemDetails};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use client::Outcome;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::Value;

use crate::faces::{self, Render};

/// What `Retry-After` says when nobody knows better, in seconds.
const DEFAULT_RETRY_AFTER: u64 = 1;

/// An error answer. Every 429 and 503 gets a `Retry-After`, and the layers add the `trace_id`.
#[derive(Debug)]
pub struct Problem(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: Code,
    details: ProblemDetails,
    headers: HeaderMap,
}

/// Rides on the response as an extension until the layers know the trace id.
#[derive(Clone, Debug)]
pub(crate) struct Unfinished(Box<ProblemDetails>);

impl Problem {
    /// `detail` is read by the caller: it says what to do.
    pub fn new(code: Code, detail: impl fmt::Display) -> Self {
        let details = ProblemDetails::new(code, detail.to_string());
        Self(Box::new(Inner { code, details, headers: HeaderMap::new() }))
    }

    /// The caller gets the text of `error`; its causes, if any, go to the log, once.
    pub fn from_error(code: Code, error: &(dyn Error + 'static)) -> Self {
        if code == Code::Internal {
            return Self::internal(error);
        }
        if error.source().is_some() {
            tracing::warn!(code = code.as_str(), error = chain(error), "request failed");
        }
        Self::new(code, error)
    }

    /// A mistake of ours: the caller learns only the trace id, the log has the rest.
    pub fn internal(error: &(dyn Error + 'static)) -> Self {
        tracing::error!(error = chain(error), "request failed");
        Self::new(
            Code::Internal,
            "this is a mistake in the server, not in the request; the server's log has the cause \
             under this trace_id",
        )
    }

    /// No route takes this path: for services that look at paths themselves.
    #[must_use]
    pub fn nothing_at(path: &str) -> Self {
        let path: String = path.chars().take(200).collect();
        let detail = format!("there is nothing at `{path}`; GET /docs lists what there is");
        Self::new(Code::NotFound, detail)
    }

    /// What went wrong, for programs.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The document without its trace id.
    #[must_use]
    pub fn details(&self) -> &ProblemDetails {
        &self.0.details
    }

    /// Adds a member that belongs to the code, such as `oldest_revision`.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.0.details.extensions.insert(member.to_owned(), value.into());
        self
    }

    /// Adds a response header. A value that cannot be one is left out.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: impl fmt::Display) -> Self {
        if let Ok(value) = HeaderValue::try_from(value.to_string()) {
            self.0.headers.insert(name, value);
        }
        self
    }

    /// When a repeat makes sense; rounded up to whole seconds, as the header has no fractions.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        self.with_header(header::RETRY_AFTER, seconds)
    }
}

impl From<ProblemDetails> for Problem {
    /// A problem that another of our nodes answered, passed on as it is.
    fn from(details: ProblemDetails) -> Self {
        let code = details.known_code().unwrap_or(Code::BadGateway);
        Self(Box::new(Inner { code, details, headers: HeaderMap::new() }))
    }
}

/// What another of our nodes answered, or why it did not. Whether it was done decides: an unknown
/// outcome stays unknown, whatever the reason was.
impl From<client::Error> for Problem {
    fn from(error: client::Error) -> Self {
        let code = match (error.outcome, error.known_code()) {
            (Outcome::Unknown, _) => Code::Indeterminate,
            (Outcome::NotDone, Some(Code::Internal) | None) => Code::BadGateway,
            (Outcome::NotDone, Some(code)) => code,
        };
        let mut problem = Self::from_error(code, &error);
        for (member, value) in error.extensions.into_iter().flat_map(|members| *members) {
            problem = problem.with(&member, value);
        }
        match error.retry_after {
            Some(wait) => problem.retry_after(wait),
            None => problem,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.details.code, self.0.details.detail)
    }
}

impl Error for Problem {}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Inner { code, details, headers } = *self.0;
        let is_error = |status: &StatusCode| status.is_client_error() || status.is_server_error();
        let status = StatusCode::from_u16(details.status).ok().filter(is_error);
        let status = status.or_else(|| StatusCode::from_u16(code.status()).ok());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = Response::new(encode(&details));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        let problem_json = HeaderValue::from_static(headers::PROBLEM_JSON);
        response.headers_mut().insert(header::CONTENT_TYPE, problem_json);
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            let retry_after = response.headers_mut().entry(header::RETRY_AFTER);
            retry_after.or_insert(HeaderValue::from(DEFAULT_RETRY_AFTER));
        }
        response.extensions_mut().insert(Unfinished(Box::new(details)));
        response
    }
}

/// Writes the trace id into a problem that passes by, or gives it the form of its face.
pub(crate) fn finish(response: &mut Response, face: Option<Render>) {
    let Some(Unfinished(mut details)) = response.extensions_mut().remove::<Unfinished>() else {
        return;
    };
    if let (None, Some(context)) = (&details.trace_id, telemetry::trace::current()) {
        details.trace_id = Some(context.trace_id.to_string());
    }
    if let Some(render) = face {
        return faces::present(response, &details, render);
    }
    *response.body_mut() = encode(&details);
    response.headers_mut().remove(header::CONTENT_LENGTH);
}

fn encode(details: &ProblemDetails) -> Body {
    Body::from(serde_json::to_vec(details).expect("strings and JSON values always encode"))
}

/// An error with its causes, in one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_429_and_503_says_when_to_come_back() {
        for code in Code::ALL.iter().filter(|code| matches!(code.status(), 429 | 503)) {
            let response = Problem::new(*code, "wait").into_response();
            assert_eq!(response.headers()[header::RETRY_AFTER], "1", "{code}");
        }
        let wait = Duration::from_millis(1200);
        let response = Problem::new(Code::QueueFull, "full").retry_after(wait).into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
    }

    #[test]
    fn what_a_peer_left_unknown_stays_unknown() {
        let error = |code, outcome| client::Error::local(code, outcome, "the connection broke");
        let code = |error| Problem::from(error).code();
        assert_eq!(code(error(Code::BadGateway, Outcome::Unknown)), Code::Indeterminate);
        assert_eq!(code(error(Code::Internal, Outcome::NotDone)), Code::BadGateway);
        assert_eq!(code(error(Code::KeyNotFound, Outcome::NotDone)), Code::KeyNotFound);
    }

    #[test]
    fn an_internal_error_tells_the_caller_nothing_of_its_cause() {
        let cause = std::io::Error::other("password=hunter2");
        let problem = Problem::internal(&cause);
        assert!(!problem.details().detail.contains("hunter2"));
    }
}
