//! Where the layers get the time and the randomness that the pure states take as inputs.

use std::time::Instant;

/// Says what time it is. Cheap: called several times for every request.
pub trait Clock: Clone + Send + Sync + 'static {
    fn now(&self) -> Instant;
}

/// The clock of the runtime: real time, or the time a paused test runtime moves.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

/// A source of uniformly distributed bits. [`system_random`] outside tests.
pub type Random = fn() -> u64;

/// Bits from the thread's generator, which the operating system seeds.
#[must_use]
pub fn system_random() -> u64 {
    rand::random()
}
