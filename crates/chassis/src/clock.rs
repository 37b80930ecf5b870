//! Where time comes from. Everything else is given `now`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The process's clock, or one that a test moves.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual { start: Instant, start_unix_ms: u64, elapsed_ms: Arc<AtomicU64> },
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `unix_ms` until [`Clock::advance`] moves it. Clones move together.
    #[must_use]
    pub fn manual(unix_ms: u64) -> Self {
        Self(Source::Manual {
            start: monotonic(),
            start_unix_ms: unix_ms,
            elapsed_ms: Arc::default(),
        })
    }

    /// Moves a manual clock forward. The system's clock does not care.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual { elapsed_ms, .. } = &self.0 {
            elapsed_ms.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
        }
    }

    /// For durations and deadlines: never goes back.
    #[must_use]
    pub fn now(&self) -> Instant {
        match &self.0 {
            Source::System => monotonic(),
            Source::Manual { start, elapsed_ms, .. } => {
                *start + Duration::from_millis(elapsed_ms.load(Ordering::SeqCst))
            }
        }
    }

    /// Milliseconds since 1970: for what is stored or shown. May go back when the machine's time
    /// is corrected; state machines take the highest they have seen.
    #[must_use]
    pub fn unix_ms(&self) -> u64 {
        match &self.0 {
            Source::System => unix_ms(),
            Source::Manual { start_unix_ms, elapsed_ms, .. } => {
                start_unix_ms + elapsed_ms.load(Ordering::SeqCst)
            }
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
fn monotonic() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told_and_with_its_clones() {
        let clock = Clock::manual(1_000);
        let (other, before) = (clock.clone(), clock.now());
        other.advance(Duration::from_millis(250));
        assert_eq!(clock.unix_ms(), 1_250);
        assert_eq!(clock.now() - before, Duration::from_millis(250));
    }
}
