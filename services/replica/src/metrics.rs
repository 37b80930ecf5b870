//! What this service measures about itself.

use telemetry::metrics::{Counter, Family, Gauge, Histogram, Registry, SECONDS};

use crate::replica::ReplicaHandle;
use crate::view::Side;

/// Handles to the metrics.
#[derive(Clone)]
pub(crate) struct Metrics {
    /// Writes by the level that was asked for and how they ended.
    pub(crate) writes: Family<Counter>,
    /// Reads by consistency and how they ended.
    pub(crate) reads: Family<Counter>,
    /// Time until a write was answered, by level.
    pub(crate) write_seconds: Family<Histogram>,
    resyncs: Family<Counter>,
    lag_ms: Family<Gauge>,
    lag_entries: Family<Gauge>,
    index: Family<Gauge>,
    epoch: Gauge,
    tail_bytes: Gauge,
    fsyncs: Counter,
    log_bytes: Gauge,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            writes: registry.counters(
                "replica_writes",
                "Writes by level and outcome",
                &["ack", "outcome"],
            ),
            reads: registry.counters(
                "replica_reads",
                "Reads by consistency and outcome",
                &["consistency", "outcome"],
            ),
            write_seconds: registry.histograms(
                "replica_write_duration_seconds",
                "Time until a write was answered",
                &["ack"],
                SECONDS,
            ),
            resyncs: registry.counters(
                "replica_resyncs",
                "How this node was brought up to date by its primary",
                &["how"],
            ),
            lag_ms: registry.gauges(
                "replica_lag_milliseconds",
                "How far a node is behind, NaN while unknown",
                &["node"],
            ),
            lag_entries: registry.gauges(
                "replica_lag_entries",
                "How far a node's disk is behind, NaN while unknown",
                &["node"],
            ),
            index: registry.gauges(
                "replica_index",
                "Indexes of this node's log: last, durable, commit, applied",
                &["of"],
            ),
            epoch: registry.gauge("replica_epoch", "The epoch this node is in"),
            tail_bytes: registry.gauge(
                "replica_unapplied_entries",
                "Entries that are durable and not yet in the engine",
            ),
            fsyncs: registry.counter("replica_log_fsyncs", "Syncs of the log to disk"),
            log_bytes: registry.gauge("replica_log_disk_bytes", "Bytes the log takes on disk"),
        }
    }

    /// Reads what the node knows whenever somebody looks.
    pub(crate) fn watch(&self, replica: ReplicaHandle, registry: &Registry) {
        let metrics = self.clone();
        registry.before_encoding(move || metrics.refresh(&replica));
    }

    fn refresh(&self, replica: &ReplicaHandle) {
        let view = replica.view();
        let applied = view.engine.applied().head.index();
        self.epoch.set_count(view.epoch.0);
        self.index.with(&["last"]).set_count(view.head.index().0);
        self.index.with(&["durable"]).set_count(view.visible.index.0);
        self.index.with(&["commit"]).set_count(view.commit.0);
        self.index.with(&["applied"]).set_count(applied.0);
        self.tail_bytes.set_count(view.visible.index.0.saturating_sub(applied.0));
        let resyncs = view.resyncs;
        for (how, count) in
            [("log", resyncs.log), ("truncate", resyncs.truncate), ("snapshot", resyncs.snapshot)]
        {
            self.resyncs.with(&[how]).catch_up(count);
        }
        let stats = replica.shared.log.wal().stats();
        self.fsyncs.catch_up(stats.fsyncs);
        self.log_bytes.set_count(stats.disk_bytes);
        // Unknown is not a number, least of all 0: a dashboard would show all is well.
        let known = |value: Option<u64>| value.map_or(f64::NAN, |value| value as f64);
        let now_ms = replica.now_ms();
        if let Side::Replica { .. } = view.side {
            self.lag_ms.with(&[&replica.shared.node]).set(known(view.lag_ms(now_ms)));
        }
        for status in crate::status::replicas(&view, &replica.names(), now_ms) {
            self.lag_ms.with(&[&status.node]).set(known(status.lag_ms));
            self.lag_entries.with(&[&status.node]).set(known(status.lag_entries));
        }
    }
}
