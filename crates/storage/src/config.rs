//! Sizes and limits of one log.

/// Sizes are in bytes. The defaults suit a service; tests make everything small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Space that a segment reserves before it is used. At most 1 GiB, at least 8 KiB.
    pub segment_bytes: u64,
    /// What may wait for the disk before [`SubmitError::QueueFull`](crate::SubmitError). Also the
    /// largest submit. At most a quarter of `segment_bytes`.
    pub queue_bytes: usize,
    /// A batch stops growing here. It bounds how long one fsync takes, and so the wait of whoever
    /// came just too late. A single larger submit makes a batch of its own.
    pub batch_bytes: usize,
    /// Payloads that stay in memory for readers of the tail, over all groups.
    pub cache_bytes: usize,
    /// Segments in arrival order that are kept before the oldest is sorted into a cold one, live
    /// as it may be. Bounds what a start has to scan.
    pub hot_segments: usize,
    /// A sealed segment is rewritten once at most this much of it, in percent, is live.
    pub rewrite_live_percent: u8,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            queue_bytes: 16 << 20,
            batch_bytes: 4 << 20,
            cache_bytes: 16 << 20,
            hot_segments: 8,
            rewrite_live_percent: 40,
        }
    }
}

impl Config {
    /// Says which setting cannot work, and why.
    pub(crate) fn validate(&self) -> Result<(), &'static str> {
        if !(8 << 10..=1 << 30).contains(&self.segment_bytes) {
            return Err("segment_bytes is not between 8 KiB and 1 GiB");
        }
        if self.queue_bytes as u64 > self.segment_bytes / 4 {
            return Err("queue_bytes is more than a quarter of segment_bytes");
        }
        if self.queue_bytes < 1 << 10 || self.batch_bytes < 1 << 10 {
            return Err("queue_bytes and batch_bytes must be at least 1 KiB");
        }
        if self.hot_segments < 2 {
            return Err("hot_segments must be at least 2");
        }
        if self.rewrite_live_percent > 90 {
            return Err("rewrite_live_percent above 90 rewrites without freeing anything");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_a_queue_that_overruns_the_reserve_is_not() {
        assert_eq!(Config::default().validate(), Ok(()));
        let config = Config { queue_bytes: 17 << 20, ..Config::default() };
        assert!(config.validate().unwrap_err().contains("queue_bytes"));
    }
}
