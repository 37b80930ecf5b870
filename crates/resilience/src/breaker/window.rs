//! Calls and failures of the last ten buckets of time, counted exactly.

use std::time::{Duration, Instant};

const BUCKETS: usize = 10;

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    number: u64,
    calls: u32,
    failures: u32,
}

#[derive(Debug)]
pub(super) struct Window {
    bucket: Duration,
    start: Instant,
    buckets: [Bucket; BUCKETS],
}

impl Window {
    pub(super) fn new(bucket: Duration, start: Instant) -> Self {
        // A bucket of nothing would divide by zero.
        let bucket = bucket.max(Duration::from_millis(1));
        Self { bucket, start, buckets: [Bucket::default(); BUCKETS] }
    }

    pub(super) fn record(&mut self, now: Instant, success: bool) {
        let number = self.number(now);
        let bucket = &mut self.buckets[number as usize % BUCKETS];
        if bucket.number != number {
            *bucket = Bucket { number, ..Bucket::default() };
        }
        bucket.calls = bucket.calls.saturating_add(1);
        bucket.failures = bucket.failures.saturating_add(u32::from(!success));
    }

    /// (calls, failures)
    pub(super) fn sum(&self, now: Instant) -> (u32, u32) {
        let number = self.number(now);
        self.buckets.iter().filter(|bucket| number < bucket.number + BUCKETS as u64).fold(
            (0, 0),
            |(calls, failures): (u32, u32), bucket| {
                (calls.saturating_add(bucket.calls), failures.saturating_add(bucket.failures))
            },
        )
    }

    fn number(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.start);
        (passed.as_millis() / self.bucket.as_millis()) as u64
    }
}
