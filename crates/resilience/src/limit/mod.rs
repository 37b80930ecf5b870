//! How much work may be at hand at once, and how much may wait for it.
//!
//! Above the limit a call waits, but only so many and only so long: a queue that never ends turns
//! overload into answers that come after their callers have gone. Who finds the queue full is told
//! so at once.

mod layer;

use std::sync::atomic::{
    AtomicUsize,
    Ordering::{AcqRel, Acquire},
};
use std::time::Duration;

pub use layer::{Limit, LimitError, LimitHandle, LimitLayer, Slot};

/// The bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Calls that run at once.
    pub max_in_flight: usize,
    /// Calls that may wait for a place.
    pub max_waiting: usize,
    /// How long one of them waits.
    pub wait_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_in_flight: 1024, max_waiting: 100, wait_timeout: Duration::from_millis(50) }
    }
}

/// The call cannot be taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shed {
    /// Too many wait already.
    #[error("too many requests are waiting; try again a little later")]
    QueueFull,
    /// It waited, and no place came free.
    #[error("no capacity came free in time; try again a little later")]
    WaitedTooLong,
}

/// The places of a queue, counted without a lock.
#[derive(Debug)]
pub struct Places {
    max: usize,
    taken: AtomicUsize,
}

impl Places {
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self { max, taken: AtomicUsize::new(0) }
    }

    /// Takes a place if there is one.
    pub fn try_enter(&self) -> Option<Place<'_>> {
        let one_more = |taken| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(AcqRel, Acquire, one_more).ok().map(|_| Place(self))
    }

    /// Places taken now.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.load(Acquire)
    }
}

/// A place in the queue; dropping it gives it back.
#[derive(Debug)]
pub struct Place<'a>(&'a Places);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_has_only_so_many_places() {
        let places = Places::new(2);
        let (one, two) = (places.try_enter(), places.try_enter());
        assert!(one.is_some() && two.is_some());
        assert!(places.try_enter().is_none());
        drop(one);
        assert!(places.try_enter().is_some());
        drop(two);
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn many_threads_never_take_more_places_than_there_are() {
        let places = Places::new(5);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        let place = places.try_enter();
                        assert!(places.taken() <= 5);
                        drop(place);
                    }
                });
            }
        });
        assert_eq!(places.taken(), 0);
    }
}
