//! Metrics that differ in labels, bounded in number.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::family::{self, MetricConstructor};
use prometheus_client::metrics::{MetricType, TypedMetric};

use super::handle::{Counter, Gauge, Histogram};

/// Series a family may have. A scrape of a family at this bound is about 100 KiB.
pub const MAX_SERIES: usize = 1000;

/// What the labels of a series beyond the bound are set to.
const OTHER: &str = "__other__";

type LabelSet = Vec<(&'static str, String)>;

/// Makes the metric of a new label set.
#[derive(Clone)]
struct Make<M>(Arc<dyn Fn() -> M + Send + Sync>);

impl<M> MetricConstructor<M> for Make<M> {
    fn new_metric(&self) -> M {
        (self.0)()
    }
}

impl<M> fmt::Debug for Make<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Make")
    }
}

/// Metrics of one name that differ in the values of fixed labels.
#[derive(Clone, Debug)]
pub struct Family<M> {
    labels: &'static [&'static str],
    series: family::Family<LabelSet, M, Make<M>>,
    /// Series ever made. Two threads may pass the bound together by one each: harmless.
    made: Arc<AtomicUsize>,
}

impl<M: Clone> Family<M> {
    pub(crate) fn new(
        labels: &'static [&'static str],
        make: impl Fn() -> M + Send + Sync + 'static,
    ) -> Self {
        let series = family::Family::new_with_constructor(Make(Arc::new(make)));
        Self { labels, series, made: Arc::default() }
    }

    /// The metric for these label values, in the order of the labels. It allocates and takes a
    /// lock: keep the handle where a path is hot.
    #[must_use]
    pub fn with(&self, values: &[&str]) -> M {
        debug_assert_eq!(values.len(), self.labels.len(), "one value per label");
        let labels = self.labels.iter().copied();
        let wanted: LabelSet = labels.clone().zip(values.iter().map(|v| (*v).to_owned())).collect();
        if let Some(metric) = self.series.get(&wanted) {
            return metric.clone();
        }
        if self.made.load(Ordering::Relaxed) < MAX_SERIES {
            self.made.fetch_add(1, Ordering::Relaxed);
            return self.series.get_or_create_owned(&wanted);
        }
        let other: LabelSet = labels.map(|label| (label, OTHER.to_owned())).collect();
        self.series.get_or_create_owned(&other)
    }

    /// Forgets a series whose subject is gone.
    pub fn remove(&self, values: &[&str]) {
        let values = values.iter().map(|value| (*value).to_owned());
        if self.series.remove(&self.labels.iter().copied().zip(values).collect()) {
            self.made.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn encoded(
        &self,
    ) -> family::Family<LabelSet, M, impl MetricConstructor<M> + use<M>> {
        self.series.clone()
    }
}

/// The families encode what the handles wrap.
macro_rules! encoded_as_inner {
    ($($handle:ty),+) => {$(
        impl EncodeMetric for $handle {
            fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
                self.0.encode(encoder)
            }

            fn metric_type(&self) -> MetricType {
                self.0.metric_type()
            }
        }
    )+};
}

encoded_as_inner!(Counter, Gauge, Histogram);

impl TypedMetric for Counter {
    const TYPE: MetricType = MetricType::Counter;
}

impl TypedMetric for Gauge {
    const TYPE: MetricType = MetricType::Gauge;
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}
