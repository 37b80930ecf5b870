//! Tracing: who asked (context), what was done (spans), and passing both on.

mod context;
mod current;

pub use context::{SpanId, TraceContext, TraceId};
pub use current::{InContext, WithContext, current};
