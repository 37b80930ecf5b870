//! One attempt: pick, send, read, judge, report.

use std::time::Duration;

use api::headers;
use api::problem::Code;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode};
use resilience::balance::{PickError, Picked, Report, Tried};
use resilience::deadline::{Deadline, within};
use resilience::limit::Slot;
use resilience::retry::{Failed, Failure, retry_after};
use resilience::{Clock, SystemClock};
use telemetry::client::Peer;
use telemetry::trace::InSpan as _;
use url::Url;

use super::{Call, Client, Dialect, span};
use crate::{Error, Outcome};

/// How much of the answer belongs to the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Whole,
    Head,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
}

pub(super) enum Body {
    Whole(Bytes),
    Streaming(reqwest::Response),
}

/// A failed attempt: for the caller, and for the policies.
#[derive(Debug)]
pub(super) struct AttemptError {
    /// Boxed: it is rare, and every answer would carry room for it.
    pub(super) error: Box<Error>,
    failure: Failure,
}

impl AttemptError {
    fn new(error: Error, failure: Failure) -> Self {
        Self { error: Box::new(error), failure }
    }
}

impl Failed for AttemptError {
    fn failure(&self) -> Failure {
        self.failure
    }
}

/// One attempt of a call.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) call: &'a Call,
    pub(super) deadline: Deadline,
    /// Attempts before this one.
    pub(super) retries: u32,
    pub(super) tried: &'a Tried<Url>,
}

type Endpoint = Picked<Url, Peer>;

impl Client {
    /// Takes one of the client's bounded number of calls.
    pub(super) async fn admit(&self) -> Result<Slot, Error> {
        self.shared.limit.acquire().await.map_err(|shed| {
            let detail = "this client has too many calls in flight; try again a little later";
            Error::local(Code::Overloaded, Outcome::NotDone, detail).because(shed)
        })
    }
}

impl Attempt<'_> {
    pub(super) async fn run(self, reading: Reading) -> Result<Answer, AttemptError> {
        let endpoint = self.call.client.shared.endpoints.pick(self.tried).map_err(not_picked)?;
        let span = span::begin(self.call, &endpoint.endpoint.key, self.retries);
        let exchange = self.exchange(endpoint, reading);
        let mut result = match &span {
            Some(span) => exchange.in_span(span).await,
            None => exchange.await,
        };
        if let (Err(failed), Some(span)) = (&mut result, &span)
            && failed.error.trace_id.is_none()
        {
            failed.error.trace_id = Some(span.context().trace_id.to_string().into());
        }
        span::finish(span, &result);
        result
    }

    async fn exchange(self, endpoint: Endpoint, reading: Reading) -> Result<Answer, AttemptError> {
        let request = self.request(&endpoint.endpoint.key, reading)?;
        let measured = endpoint.endpoint.value.begin(&self.call.method);
        let response = match within(self.deadline, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                measured.failed(kind(&error));
                return Err(self.not_answered(endpoint, error));
            }
            Err(_) => {
                measured.failed("timeout");
                return Err(self.too_late(endpoint));
            }
        };
        measured.answered(response.status().as_u16());
        let (status, headers) = (response.status(), response.headers().clone());
        let success = status.is_success() || status == StatusCode::NOT_MODIFIED;
        if success && reading == Reading::Head {
            endpoint.report(Report::Answered);
            return Ok(Answer { status, headers, body: Body::Streaming(response) });
        }
        let max_bytes = self.call.client.shared.config.max_reply_bytes;
        let body = match within(self.deadline, read(response, max_bytes)).await {
            Ok(Ok(body)) => body,
            Ok(Err(ReadError::Broken(error))) => return Err(self.not_answered(endpoint, error)),
            Ok(Err(ReadError::TooLarge)) => return Err(too_large(endpoint, max_bytes)),
            Err(_) => return Err(self.too_late(endpoint)),
        };
        if success {
            let waited = self.call.waits;
            endpoint.report(if waited { Report::Waited } else { Report::Answered });
            return Ok(Answer { status, headers, body: Body::Whole(body) });
        }
        Err(self.refused(endpoint, status, &headers, body))
    }

    fn request(
        &self,
        base: &Url,
        reading: Reading,
    ) -> Result<reqwest::RequestBuilder, AttemptError> {
        let call = self.call;
        let mut url = base.clone();
        url.set_path(&format!("{}{}", base.path().trim_end_matches('/'), call.path.as_str()));
        url.set_query(call.query.as_str());
        let mut headers = call.headers.clone();
        // A stream outlives the deadline of its head.
        if reading == Reading::Whole {
            let left = self.deadline.header(SystemClock.now()).ok_or_else(out_of_time)?;
            let left = HeaderValue::try_from(left).expect("digits");
            headers.insert(headers::DEADLINE_MS, left);
        }
        if 0 < self.retries {
            // The next hop sees that this is a repetition, and does not multiply it.
            headers.insert(headers::ATTEMPT, HeaderValue::from(self.retries + 1));
        }
        span::propagate(&mut headers, call.client.shared.dialect);
        let request = call.client.shared.http.request(call.method.clone(), url).headers(headers);
        Ok(if call.body.is_empty() { request } else { request.body(call.body.clone()) })
    }

    /// No answer, or half of one.
    fn not_answered(&self, endpoint: Endpoint, error: reqwest::Error) -> AttemptError {
        let url = &endpoint.endpoint.key;
        let (failure, error) = if error.is_connect() {
            let detail = format!("cannot connect to {url}; is it running there?");
            (
                Failure::NotSent,
                Error::local(Code::Unavailable, Outcome::NotDone, detail).because(error),
            )
        } else if error.is_builder() {
            let detail = format!("the request to {url} cannot be built");
            (Failure::Final, Error::invalid(detail).because(error))
        } else {
            let detail = format!(
                "{url} took the request, and the connection broke before its \
                 answer was complete; whether it was carried out is unknown"
            );
            let error = Error::local(Code::Indeterminate, Outcome::Unknown, detail).because(error);
            (Failure::NoResponse, error)
        };
        if failure != Failure::Final {
            endpoint.report(Report::Failed { retry_after: None });
        }
        AttemptError::new(error, failure)
    }

    fn too_late(&self, endpoint: Endpoint) -> AttemptError {
        let detail = format!("{} did not answer in time", endpoint.endpoint.key);
        endpoint.report(Report::Failed { retry_after: None });
        let error = Error::local(Code::Indeterminate, Outcome::Unknown, detail);
        AttemptError::new(error, Failure::NoResponse)
    }

    /// An answer that is no success.
    fn refused(
        &self,
        endpoint: Endpoint,
        status: StatusCode,
        headers: &HeaderMap,
        body: Bytes,
    ) -> AttemptError {
        let dialect = self.call.client.shared.dialect;
        let mut error = match dialect {
            Dialect::Problem => Error::from_answer(status, &body),
            Dialect::Etcd => crate::etcd::error_from_answer(status, &body),
        };
        error.retry_after = retry_after(headers);
        error.keep_answer(body);
        if error.trace_id.is_none() {
            let trace_id = headers.get(headers::TRACE_ID).and_then(|id| id.to_str().ok());
            error.trace_id = trace_id.map(Into::into);
        }
        let failure = failure(status, headers, &error);
        endpoint.report(match (failure, is_its_own(&error)) {
            (Failure::Final, _) | (_, false) => Report::Answered,
            (_, true) => Report::Failed { retry_after: error.retry_after },
        });
        AttemptError::new(error, failure)
    }
}

/// How far the attempt got. A 502 or 503 of ours that promises that nothing was done is like a
/// stream that HTTP/2 refuses: any method may go again.
fn failure(status: StatusCode, headers: &HeaderMap, error: &Error) -> Failure {
    if matches!(status.as_u16(), 502 | 503) && error.outcome == Outcome::NotDone {
        return Failure::Rejected { retry_after: error.retry_after.unwrap_or_default() };
    }
    Failure::from_response(status, headers).unwrap_or(Failure::Final)
}

/// Whether a 502, 503, 504 or 429 says something about the endpoint itself. A gateway that finds
/// no healthy upstream is itself well, and still serves the others.
fn is_its_own(error: &Error) -> bool {
    match error.known_code() {
        Some(Code::Overloaded | Code::Unavailable | Code::RateLimited) | None => true,
        Some(_) => error.etcd_code().is_some(),
    }
}

fn not_picked(error: PickError) -> AttemptError {
    match error {
        PickError::Empty => {
            let detail = "no endpoint is known; is the service registered?";
            let error = Error::local(Code::NoEndpoint, Outcome::NotDone, detail).because(error);
            AttemptError::new(error, Failure::NotSent)
        }
        PickError::AllRejected { retry_after } => {
            let detail = "every endpoint failed lately; the next try is due in a moment";
            let mut error =
                Error::local(Code::BreakerOpen, Outcome::NotDone, detail).because(error);
            error.retry_after = Some(retry_after);
            AttemptError::new(error, Failure::Rejected { retry_after })
        }
    }
}

fn out_of_time() -> AttemptError {
    let detail = "the deadline passed before the request was sent";
    let error = Error::local(Code::DeadlineExceeded, Outcome::NotDone, detail);
    AttemptError::new(error, Failure::Final)
}

fn too_large(endpoint: Endpoint, max_bytes: usize) -> AttemptError {
    let url = &endpoint.endpoint.key;
    let detail = format!("the answer of {url} is larger than {max_bytes} bytes; ask for less");
    endpoint.report(Report::Answered);
    AttemptError::new(Error::bad_answer(detail), Failure::Final)
}

/// `error.type` of an attempt without an answer: a closed set.
fn kind(error: &reqwest::Error) -> &'static str {
    if error.is_connect() { "connect_failed" } else { "connection_lost" }
}

enum ReadError {
    Broken(reqwest::Error),
    TooLarge,
}

/// Reads a body, but no more than this much.
async fn read(mut response: reqwest::Response, max_bytes: usize) -> Result<Bytes, ReadError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(ReadError::Broken)? {
        if max_bytes - body.len() < chunk.len() {
            return Err(ReadError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Waits no longer than this for one more piece of a stream.
pub(super) async fn chunk(
    response: &mut reqwest::Response,
    idle: Duration,
) -> Result<Option<Bytes>, Error> {
    let broken = |detail: &str| Error::local(Code::BadGateway, Outcome::Unknown, detail);
    match tokio::time::timeout(idle, response.chunk()).await {
        Ok(Ok(chunk)) => Ok(chunk),
        Ok(Err(error)) => Err(broken("the stream broke").because(error)),
        Err(_) => Err(broken("the stream was silent for too long")),
    }
}
