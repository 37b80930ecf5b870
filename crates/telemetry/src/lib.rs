//! Traces, metrics and logs.
//!
//! - [`trace`]: the context of the request at hand, spans, W3C propagation;
//! - [`metrics`]: counters, gauges and histograms, encoded for Prometheus.
//!
//! **Invariant:** no other crate of ours names OpenTelemetry or prometheus-client: they move often,
//! and a bump must be one change.

mod http_metrics;
pub mod metrics;
mod server;
pub mod testing;
pub mod trace;

pub use server::{Lookup, ServerFuture, ServerLayer, ServerTrace};
