//! The time that commands are stamped with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use chassis::clock::Clock;

use crate::store::Command;

/// Milliseconds since the store began, as far as its leaders have counted them. Time in which
/// nobody led is not counted.
///
/// It goes on from the last stamp in the log by the monotonic clock, and follows the stamps of
/// others. No wall clock is read: those of the members differ, and the one that is ahead would end
/// the leases of all. A log that was begun when stamps were wall time goes on from there.
///
/// **Invariant:** only leaders stamp. A follower that was restarted knows the last stamp, but not
/// how long ago that was: what it passes on gets the leader's time ([`Time::adopt`]).
#[derive(Clone, Debug)]
pub(crate) struct Time(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    start: Instant,
    /// What the time was at the start, as is known by now.
    start_ms: AtomicU64,
}

impl Time {
    pub(crate) fn new(clock: Clock) -> Self {
        let start_ms = AtomicU64::new(0);
        Self(Arc::new(Inner { start: clock.now(), start_ms, clock }))
    }

    /// It is at least as late as somebody has stamped.
    pub(crate) fn follow(&self, seen_ms: u64) {
        let start_ms = seen_ms.saturating_sub(self.elapsed_ms());
        self.0.start_ms.fetch_max(start_ms, Ordering::Relaxed);
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.0.start_ms.load(Ordering::Relaxed) + self.elapsed_ms()
    }

    /// How commands that followers pass on get this leader's time.
    pub(crate) fn adopt(&self) -> raft_node::Adopt {
        let time = self.clone();
        raft_node::Adopt::new(move |command| Command::restamp(command, time.now_ms()))
    }

    fn elapsed_ms(&self) -> u64 {
        let elapsed = self.0.clock.now().saturating_duration_since(self.0.start);
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX >> 1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_goes_on_behind_what_the_log_has_seen_and_never_back() {
        let clock = Clock::manual(1_000_000);
        let time = Time::new(clock.clone());
        time.follow(5_000);
        clock.advance(Duration::from_millis(250));
        assert_eq!(time.now_ms(), 5_250);
        time.follow(5_100);
        assert_eq!(time.now_ms(), 5_250);
        time.follow(6_000);
        clock.advance(Duration::from_millis(1));
        assert_eq!(time.now_ms(), 6_001);
    }
}
