//! Traces, metrics and logs.
//!
//! - [`init`] starts logs and, if an endpoint is set, the export of traces;
//! - [`trace`]: the context of the request at hand, spans, W3C propagation;
//! - [`client::Peer`]: the duration of every call that goes out;
//! - [`ServerLayer`]: the span, trace id and duration of every request that comes in;
//! - [`metrics`]: counters, gauges and histograms, encoded for Prometheus.
//!
//! Edge spans use the OpenTelemetry API; log lines use `tracing`. The bridge between the two is
//! absent: it builds attributes before it samples.
//!
//! **Invariant:** no other crate of ours names OpenTelemetry or prometheus-client: they move often,
//! and a bump must be one change.
//! **Invariant:** a request that is not sampled allocates nothing in here but its `x-trace-id`.
//! **Invariant:** nothing that a caller sends becomes a span name or a label.

mod init;
mod settings;

pub mod trace;

mod server;

pub mod client;

mod http_metrics;
pub mod metrics;
mod process;
pub mod stderr;

mod export;
mod logs;

pub mod testing;

pub use client::register_client_metrics;
pub use init::{Telemetry, init};
pub use logs::check_level;
pub use process::register_process_metrics;
pub use server::{Lookup, ServerFuture, ServerLayer, ServerTrace};
pub use settings::{InitError, Settings};
