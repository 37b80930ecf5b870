//! How long to wait before the next attempt to connect.

use std::time::Duration;

use rand::Rng as _;

/// Full jitter: nodes that lost the same peer do not come back at the same moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// A stream lived long enough to count as a success.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after a failure. The first repeat is immediate: whether it is refused tells
    /// whether the process is gone.
    pub(super) fn next(&mut self, first: Duration, max: Duration) -> Duration {
        let failures = self.failures;
        self.failures = failures.saturating_add(1);
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let ceiling =
            first.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(max);
        Duration::from_nanos(rand::rng().random_range(0..=ceiling.as_nanos() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(10);
    const MAX: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_repeat_is_immediate_and_the_others_are_bounded() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(FIRST, MAX), Duration::ZERO);
        for attempt in 0..100 {
            let bound = FIRST.saturating_mul(1 << attempt.min(20)).min(MAX);
            assert!(backoff.next(FIRST, MAX) <= bound, "attempt {attempt}");
        }
        backoff.reset();
        assert_eq!(backoff.next(FIRST, MAX), Duration::ZERO);
    }

    #[test]
    fn waits_differ() {
        let mut backoff = Backoff { failures: 20 };
        let waits: Vec<_> = (0..20).map(|_| backoff.next(FIRST, MAX)).collect();
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }
}
