//! Metrics: cheap, cloneable handles, and one registry a process encodes for `/metrics`.
//!
//! Names follow what Prometheus makes of OpenTelemetry names (`http_server_request_duration_seconds`).
//! A counter is registered without its `_total`: the encoder adds it.
//!
//! **Invariant:** a family never grows past [`MAX_SERIES`]: what comes later counts as `__other__`.
//! Labels come from closed sets; ids, keys and raw paths are none.

mod encode;
mod family;
mod handle;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::registry;

pub use encode::Format;
pub use family::{Family, MAX_SERIES};
pub use handle::{Counter, Exemplars, Gauge, Histogram};

/// Bucket bounds, in seconds, for anything a request waits for: 100 µs to 10 s. The convention's
/// list starts at 5 ms, which is where our requests end.
pub const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75,
    1.0, 2.5, 5.0, 7.5, 10.0,
];

/// All metrics of one process (or of one server under test). Clones share the content.
#[derive(Clone, Default)]
pub struct Registry {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    metrics: Mutex<registry::Registry>,
    refreshers: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

impl Registry {
    /// A count that only grows. `name` is without `_total`.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        let counter = Counter::default();
        self.metrics().register(name, without_dot(help), counter.0.clone());
        counter
    }

    /// A value that goes up and down.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        let gauge = Gauge::default();
        self.metrics().register(name, without_dot(help), gauge.0.clone());
        gauge
    }

    /// A distribution over `buckets` (upper bounds, rising), with exemplars of sampled requests.
    pub fn histogram(&self, name: &str, help: &str, buckets: &'static [f64]) -> Histogram {
        let histogram = Histogram::new(buckets);
        self.metrics().register(name, without_dot(help), histogram.0.clone());
        histogram
    }

    /// Counters that differ in `labels`.
    pub fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &'static [&'static str],
    ) -> Family<Counter> {
        let family = Family::new(labels, Counter::default);
        self.metrics().register(name, without_dot(help), family.encoded());
        family
    }

    /// Gauges that differ in `labels`.
    pub fn gauges(&self, name: &str, help: &str, labels: &'static [&'static str]) -> Family<Gauge> {
        let family = Family::new(labels, Gauge::default);
        self.metrics().register(name, without_dot(help), family.encoded());
        family
    }

    /// Histograms that differ in `labels`.
    pub fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &'static [&'static str],
        buckets: &'static [f64],
    ) -> Family<Histogram> {
        let family = Family::new(labels, move || Histogram::new(buckets));
        self.metrics().register(name, without_dot(help), family.encoded());
        family
    }

    /// Shows a family that is kept elsewhere.
    pub(crate) fn register_family(&self, name: &str, help: &str, family: &Family<Histogram>) {
        self.metrics().register(name, without_dot(help), family.encoded());
    }

    /// Runs `refresh` before every encoding: for gauges that are read rather than kept. It must
    /// not block and must not register metrics.
    pub fn before_encoding(&self, refresh: impl Fn() + Send + Sync + 'static) {
        lock(&self.shared.refreshers).push(Box::new(refresh));
    }

    /// Everything, as text.
    #[must_use]
    pub fn encode(&self, format: Format) -> String {
        for refresh in lock(&self.shared.refreshers).iter() {
            refresh();
        }
        encode::encode(&self.metrics(), format)
    }

    fn metrics(&self) -> MutexGuard<'_, registry::Registry> {
        lock(&self.shared.metrics)
    }
}

/// Metrics stay usable after a panic elsewhere: each value is consistent by itself.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The encoder ends every help text with a full stop of its own.
fn without_dot(help: &str) -> &str {
    help.trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_gauges_and_histograms_are_encoded() {
        let registry = Registry::default();
        registry.counter("orders", "Orders taken.").add(3);
        registry.gauge("depth", "Depth.").set(2.5);
        registry.histogram("wait_seconds", "Wait.", SECONDS).observe(0.0002);
        let text = registry.encode(Format::OpenMetrics);
        for line in [
            "# HELP orders Orders taken.\n",
            "# TYPE orders counter\n",
            "orders_total 3\n",
            "depth 2.5\n",
            "wait_seconds_bucket{le=\"0.00025\"} 1\n",
            "wait_seconds_count 1\n",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn a_family_keeps_one_series_per_label_set() {
        let registry = Registry::default();
        let family = registry.counters("published", "Published.", &["topic"]);
        family.with(&["orders"]).add(1);
        family.with(&["orders"]).add(1);
        family.with(&["a\"b"]).add(1);
        let text = registry.encode(Format::OpenMetrics);
        assert!(text.contains("published_total{topic=\"orders\"} 2\n"), "{text}");
        assert!(text.contains("published_total{topic=\"a\\\"b\"} 1\n"), "{text}");
    }

    #[test]
    fn a_family_is_bounded() {
        let registry = Registry::default();
        let family = registry.gauges("lag", "Lag.", &["topic"]);
        for topic in 0..MAX_SERIES + 50 {
            family.with(&[&topic.to_string()]).set(1.0);
        }
        let text = registry.encode(Format::OpenMetrics);
        assert!(text.lines().count() < MAX_SERIES + 10);
        assert!(text.contains("lag{topic=\"__other__\"} 1.0\n"), "{text}");
    }

    #[test]
    fn values_that_are_read_are_refreshed_before_encoding() {
        let registry = Registry::default();
        let gauge = registry.gauge("now", "Now.");
        registry.before_encoding(move || gauge.set(7.0));
        assert!(registry.encode(Format::OpenMetrics).contains("now 7.0\n"));
    }
}
