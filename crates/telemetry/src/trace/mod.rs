//! Tracing: who asked (context), what was done (spans), and passing both on.
//!
//! A request's [`TraceContext`] exists whether or not traces are exported: it is in every answer
//! (`x-trace-id`), in every log line about the request, and in every call that the request makes.

mod context;
mod current;
mod ids;
mod propagate;
mod sampler;
mod span;
mod value;

pub use context::{InvalidTraceparent, SpanId, TraceContext, TraceId};
pub use current::{InContext, WithContext, current};
pub use propagate::{Propagators, inject, insert_traceparent};
pub use sampler::Sampler;
pub use span::{ActiveSpan, InSpan, MAX_LINKS, Span};
pub use value::Value;

pub(crate) use ids::Ids;
pub(crate) use propagate::extract;
pub(crate) use span::install;
pub(crate) use value::limit_attributes;
