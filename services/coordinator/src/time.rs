//! The time that commands are stamped with.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use chassis::clock::Clock;

use crate::store::Command;

/// Milliseconds since the store began, as far as its leaders have counted them. Time in which
/// nobody led is not counted.
///
/// It stands still until there is a stamp in the log or this node leads, goes on from the last
/// stamp by the monotonic clock, and follows the stamps of others. So it is never ahead of the
/// leader's, and no lease ends early because another node leads. No wall clock is read: those of the members differ, and the one that is ahead would end
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
    /// What the time was at the start, as is known by now. It was less than nothing if the store
    /// began later.
    start_ms: AtomicI64,
}

/// It stands still.
const NOT_BEGUN: i64 = i64::MIN;

impl Time {
    pub(crate) fn new(clock: Clock) -> Self {
        let start_ms = AtomicI64::new(NOT_BEGUN);
        Self(Arc::new(Inner { start: clock.now(), start_ms, clock }))
    }

    /// It is at least as late as somebody has stamped. 0 is nobody.
    pub(crate) fn follow(&self, seen_ms: u64) {
        if 0 < seen_ms {
            let start_ms = seen_ms.cast_signed().saturating_sub(self.elapsed_ms());
            self.0.start_ms.fetch_max(start_ms, Ordering::Relaxed);
        }
    }

    /// This node leads: it passes from now on.
    pub(crate) fn begin(&self) {
        self.follow(self.now_ms().max(1));
    }

    pub(crate) fn now_ms(&self) -> u64 {
        match self.0.start_ms.load(Ordering::Relaxed) {
            NOT_BEGUN => 0,
            start_ms => (start_ms + self.elapsed_ms()).max(0).cast_unsigned(),
        }
    }

    /// How commands that followers pass on get this leader's time.
    pub(crate) fn adopt(&self) -> raft_node::Adopt {
        let time = self.clone();
        raft_node::Adopt::new(move |command| Command::restamp(command, time.now_ms()))
    }

    fn elapsed_ms(&self) -> i64 {
        let elapsed = self.0.clock.now().saturating_duration_since(self.0.start);
        i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX >> 1)
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

    #[test]
    fn it_is_not_ahead_of_a_leader_that_began_later() {
        let clock = Clock::manual(1_000_000);
        let time = Time::new(clock.clone());
        clock.advance(Duration::from_secs(10));
        assert_eq!(time.now_ms(), 0);
        time.follow(0);
        assert_eq!(time.now_ms(), 0);
        time.follow(3);
        clock.advance(Duration::from_millis(2));
        assert_eq!(time.now_ms(), 5);
    }

    #[test]
    fn it_passes_as_soon_as_this_node_leads() {
        let clock = Clock::manual(1_000_000);
        let time = Time::new(clock.clone());
        clock.advance(Duration::from_secs(10));
        time.begin();
        clock.advance(Duration::from_millis(20));
        assert_eq!(time.now_ms(), 21);
    }
}
