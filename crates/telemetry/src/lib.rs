//! Traces, metrics, logs: the only crate that names OpenTelemetry.
