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
