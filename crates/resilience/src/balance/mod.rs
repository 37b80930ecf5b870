//! Which endpoint takes the next attempt.
//!
//! [`RoundRobin`] goes through them in turn. [`least_latency`] draws two and takes the one whose
//! [`Load`] costs less: nearly as good as looking at all, and callers that look at the same
//! moment do not all run to the same endpoint. Both skip what the caller rules out: endpoints
//! already tried, and those a breaker rejects.

mod layer;
mod load;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

pub use layer::{Endpoint, EndpointSet, PickError, Picked, Report, Strategy, Tried};
pub use load::{InFlight, Load, LoadConfig, Sample};

/// Takes endpoints in turn.
#[derive(Debug, Default)]
pub struct RoundRobin {
    next: AtomicUsize,
}

impl RoundRobin {
    /// The next of `count` that is eligible.
    pub fn pick(&self, count: usize, eligible: impl Fn(usize) -> bool) -> Option<usize> {
        let first = self.next.fetch_add(1, Relaxed);
        (0..count).map(|step| first.wrapping_add(step) % count).find(|index| eligible(*index))
    }
}

/// The cheaper of two that are drawn from the eligible ones among `count`.
pub fn least_latency(
    count: usize,
    eligible: impl Fn(usize) -> bool,
    cost: impl Fn(usize) -> f64,
    random: u64,
) -> Option<usize> {
    let usable = (0..count).filter(|index| eligible(*index)).count() as u64;
    if usable == 0 {
        return None;
    }
    let nth = |n: u64| (0..count).filter(|index| eligible(*index)).nth(n as usize);
    // Two independent halves of the bits; the second draw leaves the first one's place out.
    let first = scale(random >> 32, usable);
    let Some(one) = nth(first) else { return nth(0) };
    if usable == 1 {
        return Some(one);
    }
    let second = scale(random & u64::from(u32::MAX), usable - 1);
    // What was eligible a moment ago may not be now: then the first draw stands.
    match nth(second + u64::from(first <= second)) {
        Some(other) if cost(other) < cost(one) => Some(other),
        _ => Some(one),
    }
}

/// Maps 32 random bits onto `0..count`.
const fn scale(bits: u64, count: u64) -> u64 {
    (bits * count) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_equal() {
        let robin = RoundRobin::default();
        let mut picked = [0; 3];
        (0..300).for_each(|_| picked[robin.pick(3, |_| true).unwrap()] += 1);
        assert_eq!(picked, [100; 3]);
    }

    #[test]
    fn what_is_ruled_out_is_never_picked() {
        let robin = RoundRobin::default();
        for random in 0..100 {
            assert_eq!(robin.pick(3, |index| index == 2), Some(2));
            let bits = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(random);
            assert_eq!(least_latency(3, |index| index == 2, |_| 1.0, bits), Some(2));
        }
        assert_eq!(robin.pick(3, |_| false), None);
        assert_eq!(robin.pick(0, |_| true), None);
        assert_eq!(least_latency(3, |_| false, |_| 1.0, 7), None);
        assert_eq!(least_latency(0, |_| true, |_| 1.0, 7), None);
    }

    #[test]
    fn the_two_draws_differ_and_the_cheaper_one_wins() {
        let costs = [5.0, 1.0];
        for random in (0..1000).map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            let picked = least_latency(2, |_| true, |index| costs[index], random);
            assert_eq!(picked, Some(1), "{random:x}");
        }
    }

    #[test]
    fn the_dearest_of_many_is_never_picked_and_the_others_all_are() {
        let mut picked = [0_u32; 4];
        for random in (0..4000).map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            let cost = |index| if index == 3 { 9.0 } else { 1.0 };
            picked[least_latency(4, |_| true, cost, random).unwrap()] += 1;
        }
        assert_eq!(picked[3], 0);
        assert!(picked[..3].iter().all(|count| *count > 500), "{picked:?}");
    }
}
