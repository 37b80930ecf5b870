//! Time that moves only when the test says so.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The instant at which every simulation of this process starts. Only differences to it mean
/// anything: an `Instant` cannot be made from a number.
#[must_use]
pub fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin; nothing measures with it")]
    *START.get_or_init(Instant::now)
}

/// A clock that its owner moves. Clones show the same time.
#[derive(Clone, Debug)]
pub struct Clock {
    now: Arc<Mutex<Instant>>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { now: Arc::new(Mutex::new(start())) }
    }
}

impl Clock {
    /// The time all clones agree on.
    #[must_use]
    pub fn now(&self) -> Instant {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since [`start`].
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now() - start()
    }

    /// Moves every clone forward.
    pub fn advance(&self, by: Duration) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_time() {
        let clock = Clock::default();
        let other = clock.clone();
        clock.advance(Duration::from_secs(3));
        assert_eq!(other.now() - start(), Duration::from_secs(3));
    }
}
