//! The process: from its command line to its exit code.
//!
//! Order: flags, settings, telemetry (before the runtime: its exporter blocks), runtime, listeners,
//! service, ready; then, on a signal, the drain, the owners' flush, the last spans.

mod banner;
mod flags;
mod healthcheck;
mod notify;
mod run;
mod signals;

pub use run::{Given, run, run_given};
