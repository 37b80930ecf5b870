//! What operators see of a service's write-ahead log: metrics, and a readiness check of its disk.

use storage::{Stats, Wal};
use telemetry::metrics::{Counter, Gauge, Registry};

use crate::health::Health;

/// Registers the metrics of `wal` and the check `disk`, which fails while the disk is full: reads,
/// acknowledgements and deletes go on then, new entries are refused.
pub fn observe(wal: &Wal, metrics: &Registry, health: &Health) {
    let log = wal.clone();
    health.probe("disk", move || match log.stats().disk_full {
        false => Ok(()),
        true => Err("the disk is full: new entries are refused until space is freed".into()),
    });
    let (log, exported) = (wal.clone(), Exported::new(metrics));
    metrics.before_encoding(move || exported.refresh(&log.stats()));
}

struct Exported {
    fsyncs: Counter,
    batches: Counter,
    entries: Counter,
    accepted: Counter,
    written: Counter,
    rewritten: Counter,
    fsync_seconds: Gauge,
    disk_bytes: Gauge,
    live_bytes: Gauge,
    queue_bytes: Gauge,
}

impl Exported {
    fn new(metrics: &Registry) -> Self {
        Self {
            fsyncs: metrics.counter("storage_fsyncs", "Fsyncs that somebody waited for."),
            batches: metrics.counter("storage_batches", "Batches made durable."),
            entries: metrics.counter("storage_entries", "Entries accepted."),
            accepted: metrics.counter("storage_accepted_bytes", "Payload bytes accepted."),
            written: metrics.counter("storage_written_bytes", "Bytes written to segments."),
            rewritten: metrics
                .counter("storage_rewritten_bytes", "Bytes moved once more, to cold segments."),
            fsync_seconds: metrics.gauge("storage_last_fsync_seconds", "The newest fsync."),
            disk_bytes: metrics.gauge("storage_disk_bytes", "Bytes that all segments occupy."),
            live_bytes: metrics.gauge("storage_live_bytes", "Bytes that may still be read."),
            queue_bytes: metrics.gauge("storage_queue_bytes", "Bytes that wait for the disk."),
        }
    }

    fn refresh(&self, stats: &Stats) {
        self.fsyncs.catch_up(stats.fsyncs);
        self.batches.catch_up(stats.batches);
        self.entries.catch_up(stats.appended_entries);
        self.accepted.catch_up(stats.appended_bytes);
        self.written.catch_up(stats.written_bytes);
        self.rewritten.catch_up(stats.rewritten_bytes);
        self.fsync_seconds.set(stats.last_fsync.as_secs_f64());
        self.disk_bytes.set_count(stats.disk_bytes);
        self.live_bytes.set_count(stats.live_bytes);
        self.queue_bytes.set_count(stats.queue_bytes);
    }
}
