//! What the gateway counts. Labels are service names, which are few.

use std::time::Duration;

use telemetry::metrics::{Counter, Family, Histogram, Registry, SECONDS};

/// Handles to the gateway's metrics. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics {
    calls: Family<Histogram>,
    failures: Family<Counter>,
    retries: Family<Counter>,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            calls: registry.histograms(
                "gateway_call_duration_seconds",
                "From a request's arrival to the head of the response, retries included",
                &["service", "outcome"],
                SECONDS,
            ),
            failures: registry.counters(
                "gateway_attempt_failures",
                "Attempts that failed or were answered 502, 503, 504 or 429 with Retry-After",
                &["service"],
            ),
            retries: registry.counters("gateway_retries", "Attempts after the first", &["service"]),
        }
    }

    pub(crate) fn attempt_failed(&self, service: &str) {
        self.failures.with(&[service]).add(1);
    }

    pub(crate) fn retried(&self, service: &str) {
        self.retries.with(&[service]).add(1);
    }

    /// `outcome` is a class such as `2xx`, or `error`.
    pub(crate) fn called(&self, service: &str, outcome: &'static str, took: Duration) {
        self.calls.with(&[service, outcome]).observe(took.as_secs_f64());
    }
}
