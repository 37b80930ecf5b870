//! The scope in and out of headers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::TraceContext;
use super::current::{Carried, Scope, scope};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// The standard's bound on baggage; what is larger is not passed on.
const MAX_BAGGAGE_BYTES: usize = 8192;

const TRACE_CONTEXT_BIT: u8 = 1;
const BAGGAGE_BIT: u8 = 2;

/// `OTEL_PROPAGATORS`. A process-wide setting, on unless switched off.
static PROPAGATORS: AtomicU8 = AtomicU8::new(TRACE_CONTEXT_BIT | BAGGAGE_BIT);

/// Which headers are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Propagators {
    /// `traceparent` and `tracestate`.
    pub trace_context: bool,
    /// `baggage`.
    pub baggage: bool,
}

impl Propagators {
    /// Makes these the process's.
    pub(crate) fn install(self) {
        let mut bits = 0;
        if self.trace_context {
            bits |= TRACE_CONTEXT_BIT;
        }
        if self.baggage {
            bits |= BAGGAGE_BIT;
        }
        PROPAGATORS.store(bits, Ordering::Relaxed);
    }

    fn installed() -> Self {
        let bits = PROPAGATORS.load(Ordering::Relaxed);
        Self { trace_context: bits & TRACE_CONTEXT_BIT != 0, baggage: bits & BAGGAGE_BIT != 0 }
    }
}

/// The caller's scope. Nothing is allocated unless it carries more than `traceparent`.
pub(crate) fn extract(headers: &HeaderMap) -> Scope {
    let propagators = Propagators::installed();
    let traceparent = headers.get(TRACEPARENT).filter(|_| propagators.trace_context);
    let context = traceparent.and_then(|value| TraceContext::parse(value.as_bytes()).ok());
    let state = headers.get(TRACESTATE).filter(|_| context.is_some()).cloned();
    let baggage = headers.get(BAGGAGE).filter(|_| propagators.baggage);
    let baggage = baggage.filter(|value| value.len() <= MAX_BAGGAGE_BYTES).cloned();
    let carried =
        (state.is_some() || baggage.is_some()).then(|| Arc::new(Carried { state, baggage }));
    Scope { context, carried, remote: true }
}

/// Writes the current request's context into the headers of a call that it makes.
pub fn inject(headers: &mut HeaderMap) {
    let propagators = Propagators::installed();
    let Scope { context, carried, .. } = scope();
    if let Some(context) = context.filter(|_| propagators.trace_context) {
        insert_traceparent(headers, context);
        if let Some(state) = carried.as_ref().and_then(|carried| carried.state.clone()) {
            headers.insert(TRACESTATE, state);
        }
    }
    if let Some(baggage) = carried.as_ref().and_then(|carried| carried.baggage.clone())
        && propagators.baggage
    {
        headers.insert(BAGGAGE, baggage);
    }
}

/// Writes `context` alone: for calls that are not part of the current request.
pub fn insert_traceparent(headers: &mut HeaderMap, context: TraceContext) {
    let value = HeaderValue::try_from(context.to_string()).expect("hex and dashes are valid");
    headers.insert(TRACEPARENT, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::current::InContext;

    #[tokio::test]
    async fn what_came_in_goes_out() {
        let mut incoming = HeaderMap::new();
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        incoming.insert(TRACEPARENT, HeaderValue::from_static(traceparent));
        incoming.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
        incoming.insert(BAGGAGE, HeaderValue::from_static("tenant=a"));
        let mut outgoing = HeaderMap::new();
        InContext::new(async { inject(&mut outgoing) }, extract(&incoming)).await;
        assert_eq!(outgoing, incoming);
    }

    #[test]
    fn an_invalid_traceparent_is_as_good_as_none() {
        let mut incoming = HeaderMap::new();
        incoming.insert(TRACEPARENT, HeaderValue::from_static("00-zz"));
        incoming.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
        let scope = extract(&incoming);
        assert_eq!((scope.context, scope.carried), (None, None));
    }
}
