//! What the log measures about itself.

use std::time::Duration;

/// Counters since the log was opened, and sizes now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Batches made durable.
    pub batches: u64,
    /// Fsyncs that somebody waited for: one per batch, two more per new segment.
    pub fsyncs: u64,
    /// How long the newest of those took.
    pub last_fsync: Duration,
    /// Entries accepted.
    pub appended_entries: u64,
    /// Payload bytes accepted.
    pub appended_bytes: u64,
    /// Bytes written to hot segments: payloads, frames, padding and checkpoints.
    pub written_bytes: u64,
    /// Bytes written once more into cold segments.
    pub rewritten_bytes: u64,
    /// Segments in arrival order.
    pub hot_segments: u64,
    /// Segments sorted by group.
    pub cold_segments: u64,
    /// Bytes that all segments and spares occupy.
    pub disk_bytes: u64,
    /// Bytes of entries that somebody may still read, with their frames.
    pub live_bytes: u64,
    /// Payload bytes in the tail cache.
    pub cached_bytes: u64,
    /// Bytes that wait for the disk.
    pub queue_bytes: u64,
    /// New entries are refused for lack of space.
    pub disk_full: bool,
}

impl Stats {
    /// Bytes written per payload byte accepted; 0 before anything was.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn write_amplification(&self) -> f64 {
        if self.appended_bytes == 0 {
            return 0.0;
        }
        (self.written_bytes + self.rewritten_bytes) as f64 / self.appended_bytes as f64
    }
}
