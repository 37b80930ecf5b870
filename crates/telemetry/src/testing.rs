//! Spans kept in memory, for tests of any crate.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use opentelemetry::trace::{SpanKind, Status, TracerProvider as _};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    Sampler as SdkSampler, SdkTracerProvider, Span, SpanData, SpanProcessor,
};

use crate::trace::{self, Ids, Sampler, SpanId, TraceContext, TraceId};

/// A span that has ended, in plain types.
#[derive(Clone, Debug)]
pub struct RecordedSpan {
    /// Its name, such as `publish orders`.
    pub name: String,
    /// `server`, `client`, `producer`, `consumer` or `internal`.
    pub kind: &'static str,
    /// What others named it by.
    pub context: TraceContext,
    /// The span it was started under, if any.
    pub parent: Option<SpanId>,
    /// All attributes, as text.
    pub attributes: BTreeMap<String, String>,
    /// The spans it links.
    pub links: Vec<TraceContext>,
    /// Names of its events.
    pub events: Vec<String>,
    /// Whether it was marked as failed.
    pub failed: bool,
}

/// The spans of this test process. All tests share it: look for your own trace id.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    spans: Arc<Mutex<Vec<RecordedSpan>>>,
}

/// From now on every trace is recorded in memory. May be called by every test.
#[must_use]
pub fn record() -> Recorder {
    static RECORDER: OnceLock<Recorder> = OnceLock::new();
    RECORDER
        .get_or_init(|| {
            let recorder = Recorder::default();
            let provider = SdkTracerProvider::builder()
                .with_id_generator(Ids)
                .with_sampler(SdkSampler::AlwaysOn)
                .with_span_processor(recorder.clone())
                .build();
            let sampler = Sampler { parent_based: true, ratio: 1.0 };
            assert!(trace::install(provider.tracer("quartet"), sampler), "one tracer per process");
            recorder
        })
        .clone()
}

impl Recorder {
    /// The ended spans of one trace, in the order in which they ended.
    #[must_use]
    pub fn trace(&self, trace_id: TraceId) -> Vec<RecordedSpan> {
        let of_trace = |span: &&RecordedSpan| span.context.trace_id == trace_id;
        self.lock().iter().filter(of_trace).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<RecordedSpan>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SpanProcessor for Recorder {
    fn on_start(&self, _span: &mut Span, _cx: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        self.lock().push(recorded(&span));
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn recorded(span: &SpanData) -> RecordedSpan {
    let attributes = span.attributes.iter();
    RecordedSpan {
        name: span.name.to_string(),
        kind: match span.span_kind {
            SpanKind::Client => "client",
            SpanKind::Server => "server",
            SpanKind::Producer => "producer",
            SpanKind::Consumer => "consumer",
            SpanKind::Internal => "internal",
        },
        context: context(&span.span_context),
        parent: Some(SpanId(span.parent_span_id.to_bytes())).filter(|id| id.0 != [0; 8]),
        attributes: attributes.map(|kv| (kv.key.to_string(), kv.value.to_string())).collect(),
        links: span.links.iter().map(|link| context(&link.span_context)).collect(),
        events: span.events.iter().map(|event| event.name.to_string()).collect(),
        failed: matches!(span.status, Status::Error { .. }),
    }
}

fn context(context: &opentelemetry::trace::SpanContext) -> TraceContext {
    TraceContext {
        trace_id: TraceId(context.trace_id().to_bytes()),
        span_id: SpanId(context.span_id().to_bytes()),
        sampled: context.is_sampled(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{InSpan as _, Span as NewSpan};

    #[tokio::test]
    async fn a_child_names_its_parent_across_an_await() {
        let recorder = record();
        let server = NewSpan::server("GET /x").start();
        async {
            tokio::task::yield_now().await;
            let link = TraceContext::random();
            let mut child = NewSpan::producer("publish").subject("orders").link(link).start();
            child.event("fsync", [("seconds", 0.5.into())]);
            child.fail("overloaded");
        }
        .in_span(&server)
        .await;
        let context = server.context();
        server.end();
        let spans = recorder.trace(context.trace_id);
        let [child, parent] = spans.as_slice() else { panic!("{spans:?}") };
        assert_eq!((child.name.as_str(), child.kind), ("publish orders", "producer"));
        assert_eq!(child.parent, Some(context.span_id));
        assert_eq!((child.links.len(), child.failed), (1, true));
        assert_eq!(child.attributes["error.type"], "overloaded");
        assert_eq!((parent.parent, parent.context), (None, context));
    }

    #[test]
    fn a_caller_that_does_not_sample_is_obeyed_and_passed_on() {
        let recorder = record();
        let caller = TraceContext::random();
        let span = NewSpan::server("GET /x").parent(caller).start();
        assert_eq!((span.context(), span.is_recorded()), (caller, false));
        span.end();
        assert!(recorder.trace(caller.trace_id).is_empty());
    }
}
