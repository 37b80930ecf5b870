//! The time that commands are stamped with.

use std::sync::Arc;
use std::time::Instant;

use chassis::clock::Clock;

/// Milliseconds since 1970 as of the start, then the monotonic clock: a corrected wall clock
/// neither ends leases early nor keeps them alive.
#[derive(Clone, Debug)]
pub(crate) struct Time(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    start: Instant,
    start_ms: u64,
}

impl Time {
    /// Continues behind `seen_ms`, the last stamp in the log, also if the wall clock is behind it.
    pub(crate) fn resume(clock: Clock, seen_ms: u64) -> Self {
        let start_ms = clock.unix_ms().max(seen_ms);
        Self(Arc::new(Inner { start: clock.now(), start_ms, clock }))
    }

    pub(crate) fn now_ms(&self) -> u64 {
        let elapsed = self.0.clock.now().saturating_duration_since(self.0.start);
        self.0.start_ms + u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX >> 1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_goes_on_behind_what_the_log_has_seen() {
        let clock = Clock::manual(1_000);
        let time = Time::resume(clock.clone(), 5_000);
        clock.advance(Duration::from_millis(250));
        assert_eq!(time.now_ms(), 5_250);
        assert_eq!(Time::resume(clock, 0).now_ms(), 1_250);
    }
}
