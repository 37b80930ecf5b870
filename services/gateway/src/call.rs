//! One request to one upstream: as many attempts as are safe, and one answer.
//!
//! Attempts choose their endpoint anew, so a retry goes elsewhere when there is an elsewhere.
//! What may be retried is judged by `resilience::retry`: anything that was never written; what is
//! idempotent or carries an `Idempotency-Key`, while its body is at hand. Each retry pays from the
//! upstream's budget.

use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use resilience::balance::{PickError, Strategy, Tried};
use resilience::deadline::Deadline;
use resilience::retry::{self, Decision, Failure, Repeat, ReplayHandle, Stop};
use resilience::{Clock, SystemClock, system_random};

use tokio_util::sync::CancellationToken;

use crate::attempt::{AttemptError, attempt};
use crate::body::{BoxBody, FaultCell, Inbound, InboundError};
use crate::metrics::Metrics;
use crate::upstream::{EndpointKey, Upstream};

/// A request as it will be sent, apart from what differs between attempts.
pub(crate) struct Call {
    pub upstream: std::sync::Arc<Upstream>,
    /// Path and query in origin form; header already cleaned.
    pub head: Parts,
    pub body: ReplayHandle<Inbound>,
    pub fault: FaultCell,
    pub plan: Plan,
    /// Set when the client wants to change the protocol.
    pub upgrade: Option<Upgrade>,
}

/// How a call is made.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Until the head of the response.
    pub deadline: Deadline,
    pub per_try: Option<Duration>,
    pub retry: retry::Policy,
    pub repeat: Repeat,
    /// Someone before us repeats what was sent. Two layers that do so multiply; what was never
    /// written is still taken elsewhere.
    pub outer_retries: bool,
    pub strategy: Strategy,
    /// Whether the upstream is told how much time is left. An event stream without a deadline of
    /// the client's own would otherwise end with ours.
    pub tell_deadline: bool,
    /// A long poll: how long its answer takes says nothing, and a drain ends it.
    pub waits: bool,
    /// Longest pause inside the response.
    pub idle: Duration,
    /// Ends event streams.
    pub draining: CancellationToken,
}

/// A client that asked for another protocol.
pub(crate) struct Upgrade {
    pub protocol: HeaderValue,
    pub client: OnUpgrade,
}

impl Call {
    /// A call with `head` and `body` as the client sent them.
    pub(crate) fn new(
        upstream: std::sync::Arc<Upstream>,
        head: Parts,
        body: BoxBody,
        plan: Plan,
    ) -> Self {
        let (body, fault) = Inbound::new(body);
        let body = ReplayHandle::new(body);
        Self { upstream, head, body, fault, plan, upgrade: None }
    }
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error(
        "no endpoint of `{service}` is known: start one that registers itself in the coordinator \
         under quartet/services/{service}/, or name one in [upstreams.{service}] endpoints"
    )]
    NoEndpoint { service: String },
    #[error("every endpoint of `{service}` failed lately; GET /v1/upstreams says why")]
    AllEjected { service: String, retry_after: Duration },
    #[error("the gateway is shutting down and does not wait for `{service}`; repeat elsewhere")]
    Draining { service: String },
    #[error("the deadline had passed before the request was sent to `{service}`")]
    DeadlineExceeded { service: String },
    /// The client's own body failed.
    #[error(transparent)]
    Client(InboundError),
    #[error("`{service}` was not reached, nothing was sent; repeat the request")]
    Unreachable {
        service: String,
        #[source]
        source: AttemptError,
    },
    #[error("all connections to `{service}` are in use, nothing was sent; repeat shortly")]
    Busy {
        service: String,
        #[source]
        source: AttemptError,
    },
    #[error("`{service}` gave no valid answer; repeat the request")]
    BadAnswer {
        service: String,
        #[source]
        source: AttemptError,
    },
    #[error("`{service}` did not answer in time; repeat with more time")]
    Timeout {
        service: String,
        #[source]
        source: AttemptError,
    },
    #[error(
        "`{service}` may or may not have carried this out; repeat with the same Idempotency-Key, \
         or look first"
    )]
    Indeterminate {
        service: String,
        #[source]
        source: AttemptError,
    },
}

/// What one attempt came to.
pub(crate) type Attempted = Result<Response<BoxBody>, AttemptError>;

/// Makes the call.
///
/// # Errors
///
/// When no upstream's answer can be given to the client.
pub(crate) async fn call(call: Call, metrics: &Metrics) -> Result<Response<BoxBody>, CallError> {
    let mut call = call;
    call.upstream.budget().record_request();
    let tried = Tried::default();
    let mut retries = 0;
    let mut last: Option<Attempted> = None;
    // Whether some attempt may have been carried out.
    let mut unknown = false;
    loop {
        let pick = match call.upstream.pick(&tried, call.plan.strategy) {
            Ok(pick) => pick,
            Err(error) => return finish(&call, last.unwrap_or(Err(error.into())), unknown),
        };
        let endpoint = std::sync::Arc::clone(&pick.endpoint);
        drop(last.take());
        let attempted = attempt(&mut call, pick, retries).await;
        let Some(failure) = failure_of(&attempted) else {
            return finish(&call, attempted, unknown);
        };
        unknown |= may_be_done(failure);
        metrics.attempt_failed(call.upstream.name());
        let latency = endpoint.latency(SystemClock.now());
        match decide(&call, failure, retries, (&endpoint.key, latency)) {
            Decision::RetryAfter(wait) if call.upstream.budget().try_take() => {
                metrics.retried(call.upstream.name());
                last = Some(attempted);
                tokio::time::sleep(wait).await;
            }
            Decision::RetryAfter(_) | Decision::Stop(_) => {
                return finish(&call, attempted, unknown);
            }
        }
        retries += 1;
    }
}

/// How an attempt failed; `None` when its answer is one for the client.
fn failure_of(attempted: &Attempted) -> Option<Failure> {
    match attempted {
        Ok(response) => Failure::from_response(response.status(), response.headers()),
        Err(error) => Some(error.failure()),
    }
}

fn decide(
    call: &Call,
    failure: Failure,
    retries: u32,
    (endpoint, latency): (&EndpointKey, Duration),
) -> Decision {
    if call.plan.outer_retries && failure != Failure::NotSent {
        return Decision::Stop(Stop::NotRepeatable);
    }
    // What an endpoint asks to wait concerns that endpoint: another one may be asked at once.
    let failure = match failure {
        Failure::Status { status, .. } if call.upstream.has_other_than(endpoint) => {
            Failure::Status { status, retry_after: None }
        }
        other => other,
    };
    let remaining = call.plan.deadline.remaining(SystemClock.now()).unwrap_or_default();
    // The estimate of an endpoint that just failed is its penalty, which says nothing about how
    // long the next one takes.
    let typical = latency.min(Duration::from_millis(50));
    let known = retry::Call {
        repeat: call.plan.repeat,
        body: call.body.state(),
        retries,
        remaining,
        typical,
    };
    call.plan.retry.decide(known, failure, system_random())
}

/// Whether the request may have been carried out. With 503 a server says that it was not; 502 and
/// 504 come from something in between, which does not know.
fn may_be_done(failure: Failure) -> bool {
    match failure {
        Failure::NotSent | Failure::Rejected { .. } | Failure::Final => false,
        Failure::NoResponse => true,
        Failure::Status { status, .. } => {
            matches!(status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT)
        }
    }
}

/// Turns the last attempt into the call's outcome.
fn finish(
    call: &Call,
    attempted: Attempted,
    unknown: bool,
) -> Result<Response<BoxBody>, CallError> {
    let source = match attempted {
        Ok(response) => return Ok(response),
        Err(source) => source,
    };
    let service = call.upstream.name().to_owned();
    // An unsafe request has an unknown outcome as soon as one attempt was written, however that
    // attempt or a later one ended.
    if unknown && !call.head.method.is_safe() {
        return Err(CallError::Indeterminate { service, source });
    }
    Err(match source {
        AttemptError::Client(error) => CallError::Client(error),
        AttemptError::Pick(PickError::Empty) => CallError::NoEndpoint { service },
        AttemptError::Pick(PickError::AllRejected { retry_after }) => {
            CallError::AllEjected { service, retry_after }
        }
        AttemptError::TooLate => CallError::DeadlineExceeded { service },
        source if source.is_busy() => CallError::Busy { service, source },
        source if source.failure() == Failure::NotSent => {
            CallError::Unreachable { service, source }
        }
        source @ AttemptError::Timeout { .. } => CallError::Timeout { service, source },
        source => CallError::BadAnswer { service, source },
    })
}
