//! When an endpoint is called, and how often at a time: known to one broker, and to nobody else.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use client::Url;
use messaging::ids::SubscriptionId;
use resilience::breaker::{self, BreakerHandle, Guard};
use tokio::sync::Notify;

/// A call that was lost ends at its own time limit, the longest of which is 300 seconds.
const PROBE_TIMEOUT: Duration = Duration::from_secs(330);

/// All endpoints that are pushed to from here.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    gates: Mutex<BTreeMap<String, Weak<Gate>>>,
    slots: Mutex<BTreeMap<SubscriptionId, Weak<Slots>>>,
}

impl Endpoints {
    /// Of one scheme, host and port.
    pub(super) fn gate(&self, url: &Url) -> Arc<Gate> {
        shared(&self.gates, url.origin().ascii_serialization(), Gate::new)
    }

    /// Of one subscription, over its partitions that are led here.
    pub(super) fn slots(&self, id: SubscriptionId) -> Arc<Slots> {
        shared(&self.slots, id, Slots::default)
    }
}

fn shared<K: Ord, T>(map: &Mutex<BTreeMap<K, Weak<T>>>, key: K, new: impl FnOnce() -> T) -> Arc<T> {
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    map.retain(|_, value| 0 < value.strong_count());
    if let Some(known) = map.get(&key).and_then(Weak::upgrade) {
        return known;
    }
    let value = Arc::new(new());
    map.insert(key, Arc::downgrade(&value));
    value
}

/// Says whether an endpoint may be called now.
#[derive(Debug)]
pub(super) struct Gate {
    breaker: BreakerHandle,
    /// It has asked to be left alone until then.
    closed_until: Mutex<Option<Instant>>,
}

impl Gate {
    fn new() -> Self {
        let config = breaker::Config { probe_timeout: PROBE_TIMEOUT, ..Default::default() };
        Self { breaker: BreakerHandle::new(config), closed_until: Mutex::default() }
    }

    /// The right to make one call, or for how long there is none.
    pub(super) fn enter(&self, now: Instant) -> Result<Guard, Duration> {
        let closed_until = *self.closed_until.lock().unwrap_or_else(PoisonError::into_inner);
        match closed_until.map(|until| until.saturating_duration_since(now)) {
            Some(left) if !left.is_zero() => Err(left),
            _ => self.breaker.try_admit().map_err(|rejected| rejected.retry_after),
        }
    }

    /// Nobody calls it until then.
    pub(super) fn close(&self, until: Instant) {
        let mut closed_until = self.closed_until.lock().unwrap_or_else(PoisonError::into_inner);
        *closed_until = (*closed_until).max(Some(until));
    }
}

/// Calls of one subscription that run here.
#[derive(Debug, Default)]
pub(super) struct Slots {
    taken: AtomicUsize,
    freed: Notify,
}

impl Slots {
    /// One more call, unless there are so many.
    pub(super) fn take(self: &Arc<Self>, max: usize) -> Option<Slot> {
        let one_more = |taken| (taken < max).then_some(taken + 1);
        self.taken.fetch_update(Relaxed, Relaxed, one_more).ok().map(|_| Slot(self.clone()))
    }

    /// Resolves when one has ended.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }
}

/// The right to run one call.
#[derive(Debug)]
pub(super) struct Slot(Arc<Slots>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
        self.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_known_by_its_origin_while_somebody_calls_it() {
        let endpoints = Endpoints::default();
        let gate = |url: &str| endpoints.gate(&url.parse().unwrap());
        let one = gate("http://a/x");
        assert!(Arc::ptr_eq(&one, &gate("http://a:80/y")));
        assert!(!Arc::ptr_eq(&one, &gate("http://a:81/x")));
    }

    #[tokio::test]
    async fn who_asked_to_be_left_alone_is() {
        let gate = Gate::new();
        let now = tokio::time::Instant::now().into_std();
        gate.close(now + Duration::from_secs(3));
        gate.close(now + Duration::from_secs(2));
        assert_eq!(gate.enter(now + Duration::from_secs(1)).unwrap_err().as_secs(), 2);
        assert!(gate.enter(now + Duration::from_secs(3)).is_ok());
    }

    #[test]
    fn there_are_only_so_many_slots() {
        let slots = Arc::new(Slots::default());
        let one = slots.take(1);
        assert!(one.is_some() && slots.take(1).is_none() && slots.take(2).is_some());
        drop(one);
        assert!(slots.take(1).is_some());
    }
}
