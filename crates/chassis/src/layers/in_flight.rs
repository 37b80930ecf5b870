//! The bound on requests in progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts what is in progress; refuses instead of queueing, since a queue would only add latency.
#[derive(Debug)]
pub(crate) struct InFlight {
    count: AtomicUsize,
    max: usize,
}

/// A place in [`InFlight`], free again when dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<InFlight>);

impl InFlight {
    pub(crate) fn new(max: usize) -> Self {
        Self { count: AtomicUsize::new(0), max }
    }

    pub(crate) fn try_enter(self: &Arc<Self>) -> Option<Permit> {
        let permit = Permit(Arc::clone(self));
        // Counted first, so that two callers cannot take the last place together.
        (self.count.fetch_add(1, Ordering::Relaxed) < self.max).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_request_ends_or_is_refused() {
        let in_flight = Arc::new(InFlight::new(1));
        let first = in_flight.try_enter();
        assert!(first.is_some());
        assert!(in_flight.try_enter().is_none());
        drop(first);
        assert!(in_flight.try_enter().is_some());
    }
}
