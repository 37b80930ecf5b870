//! Ids of new spans. We choose a trace's id before the SDK sees the span, to decide on sampling.

use std::cell::Cell;

use opentelemetry_sdk::trace::IdGenerator;

use super::{SpanId, TraceId};

thread_local! {
    static NEXT: Cell<Option<TraceId>> = const { Cell::new(None) };
}

/// Runs `build`; a root span that it makes gets `trace_id`.
pub(super) fn with_trace_id<T>(trace_id: TraceId, build: impl FnOnce() -> T) -> T {
    NEXT.set(Some(trace_id));
    let built = build();
    NEXT.set(None);
    built
}

/// Hands the SDK the id that was decided on.
#[derive(Debug)]
pub(crate) struct Ids;

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> opentelemetry::TraceId {
        let id = NEXT.take().unwrap_or_else(TraceId::random);
        opentelemetry::TraceId::from_bytes(id.0)
    }

    fn new_span_id(&self) -> opentelemetry::SpanId {
        opentelemetry::SpanId::from_bytes(SpanId::random().0)
    }
}
