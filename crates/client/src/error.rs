//! Why a call failed, and what is known about its effect.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use api::problem::{Code, ProblemDetails};
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

/// What is known about the effect of a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It certainly had none.
    NotDone,
    /// It may have had its effect, wholly or not at all. Look, or repeat with the same
    /// `Idempotency-Key`.
    Unknown,
}

/// A failed call.
#[derive(Debug)]
pub struct Error {
    /// The answer's status; `None` when no answer came.
    pub status: Option<StatusCode>,
    /// Stable and made for programs: what the service said, or the [`Code`] that fits where it
    /// said nothing. From an etcd: `etcd-` and its numeric code.
    pub code: Box<str>,
    /// What happened and what to do about it.
    pub detail: Box<str>,
    /// Where to look it up.
    pub trace_id: Option<Box<str>>,
    /// How long the service asked to be left alone.
    pub retry_after: Option<Duration>,
    pub outcome: Outcome,
    /// Further members of the problem document, such as `oldest_revision`.
    pub extensions: Option<Box<BTreeMap<String, Value>>>,
    answer: Option<Box<Bytes>>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A failure that was found on this side.
    #[must_use]
    pub fn local(code: Code, outcome: Outcome, detail: impl Into<String>) -> Self {
        Self {
            status: None,
            code: code.as_str().into(),
            detail: detail.into().into_boxed_str(),
            trace_id: None,
            retry_after: None,
            outcome,
            extensions: None,
            answer: None,
            source: None,
        }
    }

    /// A request that cannot be sent as it is.
    #[must_use]
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::local(Code::InvalidRequest, Outcome::NotDone, detail)
    }

    /// An answer that is not what the service promises.
    #[must_use]
    pub fn bad_answer(detail: impl Into<String>) -> Self {
        Self::local(Code::BadGateway, Outcome::Unknown, detail)
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The body of the answer, as it came.
    #[must_use]
    pub fn answer(&self) -> Option<&Bytes> {
        self.answer.as_deref()
    }

    pub(crate) fn keep_answer(&mut self, body: Bytes) {
        self.answer = Some(Box::new(body));
    }

    /// Reads an answer that is no success.
    #[must_use]
    pub(crate) fn from_answer(status: StatusCode, body: &[u8]) -> Self {
        let problem = serde_json::from_slice::<ProblemDetails>(body).ok();
        let Some(problem) = problem.filter(|problem| !problem.code.is_empty()) else {
            return Self::foreign(status, body);
        };
        let outcome = outcome(status, problem.known_code());
        let detail = if problem.detail.is_empty() { problem.title } else { problem.detail };
        let mut error = Self::local(Code::Internal, outcome, detail);
        error.status = Some(status);
        error.code = problem.code.into_boxed_str();
        error.trace_id = problem.trace_id.map(String::into_boxed_str);
        error.extensions = (!problem.extensions.is_empty()).then(|| Box::new(problem.extensions));
        error
    }

    /// An answer without a problem document: from something else than our services.
    fn foreign(status: StatusCode, body: &[u8]) -> Self {
        const SHOWN_CHARS_MAX: usize = 200;
        let text = String::from_utf8_lossy(body);
        let shown: String = text.trim().chars().take(SHOWN_CHARS_MAX).collect();
        let code = match status.as_u16() {
            404 => Code::NotFound,
            405 => Code::MethodNotAllowed,
            408 => Code::RequestTimeout,
            412 => Code::PreconditionFailed,
            413 => Code::TooLarge,
            429 => Code::RateLimited,
            502 => Code::BadGateway,
            503 => Code::Unavailable,
            504 => Code::Indeterminate,
            400..=499 => Code::InvalidRequest,
            _ => Code::Internal,
        };
        let mut error = Self::local(
            code,
            outcome(status, None),
            format!("the server answered {status} without a problem document: {shown}"),
        );
        error.status = Some(status);
        error
    }

    /// The code, if this version knows it.
    #[must_use]
    pub fn known_code(&self) -> Option<Code> {
        Code::parse(&self.code)
    }

    /// The numeric code of an etcd error.
    #[must_use]
    pub fn etcd_code(&self) -> Option<u32> {
        self.code.strip_prefix("etcd-")?.parse().ok()
    }

    /// Whether the same request may work a little later, as far as the failure goes. Whether it
    /// may be sent again is another question: see [`Outcome`].
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self.status {
            None => self.known_code() != Some(Code::InvalidRequest),
            Some(status) => {
                matches!(status.as_u16(), 408 | 429 | 502 | 503 | 504)
                    || self.etcd_code() == Some(14)
            }
        }
    }
}

/// What an error status says about the effect.
fn outcome(status: StatusCode, code: Option<Code>) -> Outcome {
    match (status.as_u16(), code) {
        // Not 499: somebody on the way gave up waiting. Of 503s, late deadlines and endpoints that
        // were not reached, our services promise that nothing was done.
        (400..=498 | 501 | 505 | 507, _)
        | (502, Some(Code::Unreachable))
        | (503, Some(_))
        | (504, Some(Code::DeadlineExceeded)) => Outcome::NotDone,
        _ => Outcome::Unknown,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_document_is_read_with_its_extensions() {
        let body =
            br#"{"code":"compacted","detail":"start at 7","trace_id":"ab","oldest_revision":7}"#;
        let error = Error::from_answer(StatusCode::GONE, body);
        assert_eq!((&*error.code, &*error.detail), ("compacted", "start at 7"));
        assert_eq!(error.trace_id.as_deref(), Some("ab"));
        assert_eq!(error.extensions.unwrap()["oldest_revision"], 7);
        assert_eq!(error.outcome, Outcome::NotDone);
    }

    #[test]
    fn any_other_text_is_shown_and_not_trusted() {
        let error = Error::from_answer(StatusCode::SERVICE_UNAVAILABLE, b"<h1>busy</h1>");
        assert_eq!((&*error.code, error.outcome), ("unavailable", Outcome::Unknown));
        assert!(error.detail.contains("<h1>busy</h1>"), "{error}");
        let error = Error::from_answer(StatusCode::BAD_GATEWAY, &[0xff, 0xfe]);
        assert_eq!(&*error.code, "bad-gateway");
    }

    #[test]
    fn a_503_of_ours_promises_that_nothing_was_done_and_a_504_does_not() {
        let check = |status: u16, code: &str| {
            let body = format!(r#"{{"code":"{code}"}}"#);
            Error::from_answer(StatusCode::from_u16(status).unwrap(), body.as_bytes()).outcome
        };
        assert_eq!(check(503, "no-leader"), Outcome::NotDone);
        assert_eq!(check(503, "from-the-future"), Outcome::Unknown);
        assert_eq!(check(504, "indeterminate"), Outcome::Unknown);
        assert_eq!(check(504, "deadline-exceeded"), Outcome::NotDone);
        assert_eq!(check(500, "internal"), Outcome::Unknown);
        assert_eq!(check(507, "disk-full"), Outcome::NotDone);
    }
}
