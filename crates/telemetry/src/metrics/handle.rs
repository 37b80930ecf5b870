//! The handles that code holds on to. Cloning one is an `Arc` clone.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use prometheus_client::metrics::{counter, exemplar, gauge};

use crate::trace::{self, TraceContext};

/// A count that only grows.
#[derive(Clone, Debug, Default)]
pub struct Counter(pub(crate) counter::Counter);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.0.inc();
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.inc_by(count);
    }

    /// The present value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.get()
    }

    /// Takes over a count that is kept elsewhere and only grows.
    pub fn catch_up(&self, total: u64) {
        self.0.inc_by(total.saturating_sub(self.0.get()));
    }
}

/// A value that goes up and down.
#[derive(Clone, Debug, Default)]
pub struct Gauge(pub(crate) gauge::Gauge<f64, AtomicU64>);

impl Gauge {
    /// Replaces the value.
    pub fn set(&self, value: f64) {
        self.0.set(value);
    }

    /// Replaces the value by a count (exact up to 2^53).
    pub fn set_count(&self, count: u64) {
        self.0.set(count as f64);
    }

    /// Adds one.
    pub fn inc(&self) {
        self.0.inc();
    }

    /// Takes one away.
    pub fn dec(&self) {
        self.0.dec();
    }

    /// The present value.
    #[must_use]
    pub fn get(&self) -> f64 {
        self.0.get()
    }
}

/// `OTEL_METRICS_EXEMPLAR_FILTER`: which observations leave an exemplar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exemplars {
    /// Those of requests whose trace is recorded.
    Sampled,
    /// Those of all requests.
    All,
    /// None.
    None,
}

/// A process-wide setting.
static EXEMPLARS: AtomicU8 = AtomicU8::new(Exemplars::Sampled as u8);

impl Exemplars {
    /// Makes this the process's choice.
    pub(crate) fn install(self) {
        EXEMPLARS.store(self as u8, Ordering::Relaxed);
    }

    fn wants(context: TraceContext) -> bool {
        let choice = EXEMPLARS.load(Ordering::Relaxed);
        choice == Self::All as u8 || (choice == Self::Sampled as u8 && context.sampled)
    }
}

/// The one label of an exemplar.
type ExemplarLabels = [(&'static str, String); 1];

/// A distribution. Observations of sampled requests leave their trace id as an exemplar.
#[derive(Clone, Debug)]
pub struct Histogram(pub(crate) exemplar::HistogramWithExemplars<ExemplarLabels>);

impl Histogram {
    pub(crate) fn new(buckets: &'static [f64]) -> Self {
        Self(exemplar::HistogramWithExemplars::new(buckets.iter().copied()))
    }

    /// Counts `value` (seconds, bytes: what the name says) for the current request.
    pub fn observe(&self, value: f64) {
        self.observe_for(value, trace::current());
    }

    /// Counts `value` for the request of `context`.
    pub fn observe_for(&self, value: f64, context: Option<TraceContext>) {
        let exemplar = context
            .filter(|context| Exemplars::wants(*context))
            .map(|context| [("trace_id", context.trace_id.to_string())]);
        self.0.observe(value, exemplar, None);
    }
}
