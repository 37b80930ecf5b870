//! One attempt: one endpoint, one connection, one request on the wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use api::headers::{ATTEMPT, DEADLINE_MS, EVENT_STREAM};
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use resilience::balance::{PickError, Report};
use resilience::retry::{self, BodyState, Failure, Repeat};
use resilience::{Clock, SystemClock};
use telemetry::trace::{ActiveSpan, InSpan as _, Span, insert_traceparent};

use crate::body::InboundError;
use crate::call::{Attempted, Call};
use crate::headers::{text, to_client};
use crate::pool::{CheckoutError, Connection, OutboundBody, Want};
use crate::relay::{Exchange, Relay};
use crate::upgrade;
use crate::upstream::{Pick, host_and_port};

/// Why an attempt has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttemptError {
    #[error(transparent)]
    Pick(#[from] PickError),
    #[error("the client's own request failed")]
    Client(#[source] InboundError),
    #[error("no time is left")]
    TooLate,
    #[error("the body cannot be sent again")]
    BodyGone,
    #[error("{endpoint} cannot be reached")]
    Checkout {
        endpoint: String,
        #[source]
        source: CheckoutError,
    },
    #[error("{endpoint} closed the connection before the request was written")]
    NotSent {
        endpoint: String,
        #[source]
        source: hyper::Error,
    },
    #[error("{endpoint} gave no valid answer to the request")]
    Lost {
        endpoint: String,
        #[source]
        source: hyper::Error,
    },
    #[error("{endpoint} did not answer within {after:?}")]
    Timeout { endpoint: String, after: Duration, sent: bool },
    #[error("{endpoint} switched to a protocol that was not asked for")]
    WrongSwitch { endpoint: String },
}

impl AttemptError {
    /// How far it got, as the retry policy needs to know it.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::Checkout { .. } | Self::NotSent { .. } | Self::Timeout { sent: false, .. } => {
                Failure::NotSent
            }
            Self::Lost { .. } | Self::Timeout { sent: true, .. } => Failure::NoResponse,
            Self::Pick(_)
            | Self::Client(_)
            | Self::TooLate
            | Self::BodyGone
            | Self::WrongSwitch { .. } => Failure::Final,
        }
    }

    /// The gateway itself had no connection to spare.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self, Self::Checkout { source: CheckoutError::Busy { .. }, .. })
    }

    /// Whether this says something about the endpoint.
    fn blames_endpoint(&self) -> bool {
        !self.is_busy() && !matches!(self, Self::Client(_) | Self::TooLate | Self::BodyGone)
    }

    /// `error.type` of the span: a closed set.
    fn kind(&self) -> &'static str {
        match self {
            Self::Pick(_) => "no_endpoint",
            Self::Client(_) => "request_cut_off",
            Self::TooLate => "deadline_exceeded",
            Self::BodyGone => "body_gone",
            Self::Checkout { .. } => "connect_failed",
            Self::NotSent { .. } | Self::Lost { .. } => "connection_lost",
            Self::Timeout { .. } => "timeout",
            Self::WrongSwitch { .. } => "wrong_protocol",
        }
    }
}

/// Makes the attempt after `number` others. The pick is given back with what was learnt, unless
/// the client leaves first: then it counts for nothing.
pub(crate) async fn attempt(call: &mut Call, pick: Pick, number: u32) -> Attempted {
    let Some(left) = call.plan.deadline.remaining(SystemClock.now()) else {
        return Err(AttemptError::TooLate);
    };
    let limit = call.plan.per_try.map_or(left, |per_try| per_try.min(left));
    let in_flight = pick.endpoint.value.begin();
    let mut span = start_span(call, &pick.endpoint.key.authority, number);
    let measured = pick.endpoint.value.peer.begin(&call.head.method);
    let sent = AtomicBool::new(false);
    let sending = send(call, &pick, &span, (number, &sent)).in_span(&span);
    let outcome = match tokio::time::timeout(limit, sending).await {
        Ok(outcome) => outcome,
        Err(_) => Err(AttemptError::Timeout {
            endpoint: pick.endpoint.key.authority.clone(),
            after: limit,
            sent: sent.load(Relaxed),
        }),
    };
    match outcome {
        Ok((response, connection)) => {
            measured.answered(response.status().as_u16());
            let endpoint = Arc::clone(&pick.endpoint);
            let reusable = !has_two_lengths(&response);
            let exchange = Exchange { connection, reusable, endpoint, in_flight, span };
            conclude(call, pick, response, exchange)
        }
        Err(error) => {
            measured.failed(error.kind());
            span.fail(error.kind());
            span.end();
            if error.blames_endpoint() {
                tracing::debug!(endpoint = %pick.endpoint.key.authority, %error, "attempt failed");
                pick.endpoint.value.failed(with_cause(&error));
                pick.report(Report::Failed { retry_after: None });
            }
            Err(error)
        }
    }
}

/// Sends the request on a pooled connection. One that turns out to have died while it was idle
/// is replaced by a fresh one, once, if the request allows it (P1).
async fn send(
    call: &Call,
    pick: &Pick,
    span: &ActiveSpan,
    (number, sent): (u32, &AtomicBool),
) -> Result<(Response<Incoming>, Connection), AttemptError> {
    let endpoint = &pick.endpoint.key.authority;
    let mut want = Want::Any;
    loop {
        let checkout = pick.endpoint.value.pool.checkout(want, SystemClock.now()).await;
        let mut connection = checkout
            .map_err(|source| AttemptError::Checkout { endpoint: endpoint.clone(), source })?;
        let body = call.body.attempt().ok_or(AttemptError::BodyGone)?;
        let request = request(call, endpoint, (number, span), body);
        sent.store(true, Relaxed);
        let mut failed = match connection.sender.try_send_request(request).await {
            Ok(response) => return Ok((response, connection)),
            Err(failed) => failed,
        };
        if let Some(fault) = call.fault.get() {
            return Err(AttemptError::Client(fault));
        }
        let unsent = failed.take_message().is_some();
        sent.store(!unsent, Relaxed);
        if connection.reused && want == Want::Any && (unsent || may_replay(call)) {
            want = Want::Fresh;
            continue;
        }
        let (endpoint, source) = (endpoint.clone(), failed.into_error());
        return Err(if unsent {
            AttemptError::NotSent { endpoint, source }
        } else {
            AttemptError::Lost { endpoint, source }
        });
    }
}

fn may_replay(call: &Call) -> bool {
    call.plan.repeat == Repeat::Safe
        && call.body.state() == BodyState::Complete
        && call.upgrade.is_none()
}

/// The request of one attempt: the call's header plus what is said anew on every hop.
fn request(
    call: &Call,
    endpoint: &str,
    (number, span): (u32, &ActiveSpan),
    body: OutboundBody,
) -> Request<OutboundBody> {
    let mut request = Request::new(body);
    *request.method_mut() = call.head.method.clone();
    *request.uri_mut() = call.head.uri.clone();
    *request.version_mut() = Version::HTTP_11;
    let mut headers = call.head.headers.clone();
    if !headers.contains_key(HOST) {
        headers.insert(HOST, text(endpoint));
    }
    let takes_body = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    if takes_body && call.body.state() == BodyState::Complete && number == 0 {
        set_length_of_nothing(&mut headers, request.body());
    }
    headers.insert(HeaderName::from_static(ATTEMPT), HeaderValue::from(number + 1));
    if call.plan.tell_deadline {
        let left = call.plan.deadline.header(SystemClock.now());
        headers.insert(HeaderName::from_static(DEADLINE_MS), text(left.as_deref().unwrap_or("0")));
    }
    if let Some(upgrade) = &call.upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, upgrade.protocol.clone());
    }
    insert_traceparent(&mut headers, span.context());
    *request.headers_mut() = headers;
    request
}

/// Some servers refuse a POST without a length, even when there is nothing to come.
fn set_length_of_nothing(headers: &mut http::HeaderMap, body: &OutboundBody) {
    if http_body::Body::is_end_stream(body) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    }
}

/// Framed twice: hyper believes the chunks, and nobody should believe the connection (F4).
fn has_two_lengths<B>(response: &Response<B>) -> bool {
    let headers = response.headers();
    headers.contains_key(CONTENT_LENGTH) && headers.contains_key(TRANSFER_ENCODING)
}

/// Reports what was learnt, and makes the client's response.
fn conclude(
    call: &mut Call,
    pick: Pick,
    response: Response<Incoming>,
    mut exchange: Exchange,
) -> Attempted {
    let status = response.status();
    exchange.span.set("http.response.status_code", status.as_u16());
    if status == StatusCode::SWITCHING_PROTOCOLS {
        let endpoint = pick.endpoint.key.authority.clone();
        let switched = upgrade::switch(call.upgrade.take(), response, exchange, call.plan.idle);
        // An endpoint that speaks out of turn is no healthier than one that hangs up.
        pick.report(match &switched {
            Some(_) => Report::Answered,
            None => Report::Failed { retry_after: None },
        });
        return switched.ok_or(AttemptError::WrongSwitch { endpoint });
    }
    report(pick, call.plan.waits, &response, &mut exchange);
    let (mut head, body) = response.into_parts();
    to_client(&mut head.headers);
    head.version = Version::HTTP_11;
    let events = head.headers.get(CONTENT_TYPE).is_some_and(is_event_stream);
    let draining = events.then(|| call.plan.draining.clone());
    let relay = Relay::new(body, call.plan.idle, exchange);
    Ok(Response::from_parts(head, relay.until(draining)))
}

/// 502, 503 and 504 count against the endpoint. 429 does not: a full queue is the queue's matter,
/// and must not close the way to every other queue of that node. Nor does its time count: an
/// endpoint that refuses at once is not a fast one.
fn report(pick: Pick, waits: bool, response: &Response<Incoming>, exchange: &mut Exchange) {
    let status = response.status();
    if status.is_server_error() || status.is_client_error() {
        exchange.span.fail(status.as_str());
    }
    pick.report(match status {
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            exchange.endpoint.value.failed(format!("it answered {status}"));
            Report::Failed { retry_after: retry::retry_after(response.headers()) }
        }
        StatusCode::TOO_MANY_REQUESTS => Report::Waited,
        _ if waits => Report::Waited,
        _ => Report::Answered,
    });
}

fn start_span(call: &Call, endpoint: &str, number: u32) -> ActiveSpan {
    let method = call.head.method.as_str();
    let (host, port) = host_and_port(endpoint);
    let mut span = Span::client(method.to_owned());
    if span.is_recorded() {
        // The query may hold anything, so it stays out.
        let url = format!("http://{endpoint}{}", call.head.uri.path());
        span = span
            .attr("http.request.method", method)
            .attr("server.address", host)
            .attr("server.port", port)
            .attr("url.full", url)
            .attr("quartet.upstream", call.upstream.name());
        if number > 0 {
            span = span.attr("http.request.resend_count", number);
        }
    }
    span.start()
}

fn is_event_stream(content_type: &HeaderValue) -> bool {
    content_type.as_bytes().starts_with(EVENT_STREAM.as_bytes())
}

/// An error and its causes, in one line.
fn with_cause(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
