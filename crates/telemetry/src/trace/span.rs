//! Spans: built only when they are recorded.
//!
//! Whether a span is recorded is known before its first attribute is converted, so an unsampled
//! request pays for copying its context and nothing else.

use std::borrow::Cow;
use std::sync::OnceLock;

use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _, TraceFlags,
    TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, Span as SdkSpan};

use super::current::{InContext, Scope, scope};
use super::{Sampler, SpanId, TraceContext, TraceId, Value};

/// Links that one span keeps; a batch beyond it is linked in part.
pub const MAX_LINKS: usize = 128;

/// The process's tracer, once [`crate::init`] has found somewhere to send spans.
static TRACER: OnceLock<(SdkTracer, Sampler)> = OnceLock::new();

/// Installs the tracer. `false`: there is one already, and it stays.
pub(crate) fn install(tracer: SdkTracer, sampler: Sampler) -> bool {
    TRACER.set((tracer, sampler)).is_ok()
}

/// A span that is about to start. Its parent is the current request unless told otherwise.
#[derive(Debug)]
#[must_use = "a span begins with `start`"]
pub struct Span {
    name: Cow<'static, str>,
    kind: SpanKind,
    scope: Scope,
    decision: Decision,
    details: Option<Box<Details>>,
}

/// What only recorded spans have.
#[derive(Debug, Default)]
struct Details {
    subject: Option<String>,
    attributes: Vec<KeyValue>,
    links: Vec<Link>,
}

#[derive(Clone, Copy, Debug)]
enum Decision {
    /// Nothing is recorded; this context is passed on.
    PassOn(TraceContext),
    /// A child of the scope's context.
    Child(TraceContext),
    /// The first span of this trace.
    Root(TraceId),
}

impl Span {
    /// Work inside this process.
    pub fn internal(name: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name.into(), SpanKind::Internal, scope())
    }

    /// A message goes out whose receiver nobody waits for.
    pub fn producer(name: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name.into(), SpanKind::Producer, scope())
    }

    /// A message is worked on.
    pub fn consumer(name: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name.into(), SpanKind::Consumer, scope())
    }

    /// A call to another process.
    pub fn client(name: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name.into(), SpanKind::Client, scope())
    }

    /// A call from another process.
    pub fn server(name: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name.into(), SpanKind::Server, scope())
    }

    pub(crate) fn new(name: Cow<'static, str>, kind: SpanKind, scope: Scope) -> Self {
        let decision = decide(scope.context);
        let recorded = !matches!(decision, Decision::PassOn(_));
        Self { name, kind, scope, decision, details: recorded.then(Box::default) }
    }

    /// Makes `parent` the parent instead of the current request. Comes before attributes.
    pub fn parent(self, parent: TraceContext) -> Self {
        let scope = Scope { context: Some(parent), remote: true, ..self.scope };
        Self::new(self.name, self.kind, scope)
    }

    /// Whether anybody will see this span: ask before computing an expensive attribute.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.details.is_some()
    }

    /// What the span is about, appended to its name: `publish` becomes `publish orders`. Only
    /// from closed sets, such as topic names.
    pub fn subject(mut self, subject: &str) -> Self {
        if let Some(details) = &mut self.details {
            details.subject = Some(subject.to_owned());
        }
        self
    }

    /// Sets an attribute. Keys and payloads of users are none.
    pub fn attr(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        if let Some(details) = &mut self.details {
            details.attributes.push(KeyValue::new(key, value.into().0));
        }
        self
    }

    /// Links a span that caused this one without being its parent.
    pub fn link(mut self, to: TraceContext) -> Self {
        if let Some(details) = self.details.as_mut().filter(|it| it.links.len() < MAX_LINKS) {
            details.links.push(Link::with_context(span_context(to, true)));
        }
        self
    }

    /// Starts it now. It ends when it is dropped.
    pub fn start(self) -> ActiveSpan {
        let Scope { carried, remote, .. } = self.scope;
        let (parent, trace_id) = match self.decision {
            Decision::PassOn(context) => {
                let scope = Scope { context: Some(context), carried, remote };
                return ActiveSpan { scope, span: None };
            }
            Decision::Child(parent) => (Some(parent), parent.trace_id),
            Decision::Root(trace_id) => (None, trace_id),
        };
        let (tracer, _sampler) = TRACER.get().expect("only an installed tracer decides to record");
        let Details { subject, attributes, links } = *self.details.unwrap_or_default();
        let name = match subject {
            Some(subject) => format!("{} {subject}", self.name).into(),
            None => self.name,
        };
        let builder = SpanBuilder::from_name(name)
            .with_kind(self.kind)
            .with_attributes(attributes)
            .with_links(links);
        let otel_parent = match parent {
            Some(parent) => Context::new().with_remote_span_context(span_context(parent, remote)),
            None => Context::new(),
        };
        let span = super::ids::with_trace_id(trace_id, || {
            tracer.build_with_context(builder, &otel_parent)
        });
        let id = SpanId(span.span_context().span_id().to_bytes());
        let context = TraceContext { trace_id, span_id: id, sampled: true };
        let scope = Scope { context: Some(context), carried, remote: false };
        ActiveSpan { scope, span: Some(span) }
    }
}

fn decide(parent: Option<TraceContext>) -> Decision {
    let Some((_tracer, sampler)) = TRACER.get() else {
        return Decision::PassOn(parent.unwrap_or_else(TraceContext::random));
    };
    match parent {
        Some(parent) if sampler.decide(Some(parent), parent.trace_id) => Decision::Child(parent),
        Some(parent) if sampler.parent_based => Decision::PassOn(parent),
        Some(parent) => Decision::PassOn(TraceContext { sampled: false, ..parent }),
        None => {
            let trace_id = TraceId::random();
            if sampler.decide(None, trace_id) {
                return Decision::Root(trace_id);
            }
            let span_id = SpanId::random();
            Decision::PassOn(TraceContext { trace_id, span_id, sampled: false })
        }
    }
}

fn span_context(context: TraceContext, remote: bool) -> SpanContext {
    SpanContext::new(
        opentelemetry::TraceId::from_bytes(context.trace_id.0),
        opentelemetry::SpanId::from_bytes(context.span_id.0),
        if context.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() },
        remote,
        TraceState::default(),
    )
}

/// A span in progress. Dropping it ends it.
#[derive(Debug)]
pub struct ActiveSpan {
    scope: Scope,
    span: Option<SdkSpan>,
}

impl ActiveSpan {
    /// What others name as their parent or link. Of a span that is not recorded: its parent's.
    #[must_use]
    pub fn context(&self) -> TraceContext {
        self.scope.context.expect("a started span has a context")
    }

    /// Whether anybody will see it.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.span.is_some()
    }

    /// Sets an attribute that was not known at the start.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.span {
            span.set_attribute(KeyValue::new(key, value.into().0));
        }
    }

    /// Links a span that became known after the start, such as the makers of received messages.
    pub fn link(&mut self, to: TraceContext) {
        if let Some(span) = &mut self.span {
            span.add_link(span_context(to, true), Vec::new());
        }
    }

    /// Notes a moment inside the span, such as `fsync` with its duration.
    pub fn event<const N: usize>(
        &mut self,
        name: &'static str,
        attributes: [(&'static str, Value); N],
    ) {
        if let Some(span) = &mut self.span {
            let attributes = attributes.map(|(key, value)| KeyValue::new(key, value.0));
            span.add_event(name, attributes.into());
        }
    }

    /// Marks it as failed. `error_type` is a code or status, from a closed set.
    pub fn fail(&mut self, error_type: impl Into<Value>) {
        self.set("error.type", error_type);
        if let Some(span) = &mut self.span {
            span.set_status(Status::error(""));
        }
    }

    /// Ends it; the same as dropping it, but visible.
    pub fn end(self) {}

    pub(crate) fn scope(&self) -> Scope {
        self.scope.clone()
    }
}

/// Lets a future run inside a span.
pub trait InSpan: Future + Sized {
    /// Polls this future with `span` as the parent of everything it starts.
    fn in_span(self, span: &ActiveSpan) -> InContext<Self> {
        InContext::new(self, span.scope())
    }
}

impl<F: Future> InSpan for F {}
