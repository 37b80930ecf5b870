//! How many extra calls a service may get: a share of its real requests, plus a small floor.
//!
//! A limit on the attempts of one request multiplies the load just when the service has the least
//! to give: three attempts each turn a partial outage into three times the traffic, which keeps
//! it down after its cause is gone. A share of the real requests cannot: at 10 % the service never
//! sees more than 1.1 times what users ask of it, plus the floor, whatever fails.
//!
//! Ten slots of one second, each one word that packs (epoch, requests, extras), changed by compare
//! and swap: no lock, no allocation. The share is in per mille, because a whole-number ratio of
//! requests to retries cannot express 0.6.
//!
//! An extra call is reserved first and checked then, its own reservation included. Of two callers
//! that race for the last one, at least one sees both reservations: the budget is never overdrawn.

mod layer;

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

pub use layer::BudgetHandle;

/// How much extra load is acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Extra calls for every thousand requests.
    pub permille: u32,
    /// Extra calls that are always free in each second: a service with little traffic has no
    /// share to speak of.
    pub floor_per_second: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { permille: 100, floor_per_second: 3 }
    }
}

/// Slots of a second each; the share is of the requests within all of them.
const SLOTS: u64 = 10;

/// The budget of one service. Shared by reference between all its callers.
#[derive(Debug)]
pub struct Budget {
    config: Config,
    start: Instant,
    slots: [Slot; SLOTS as usize],
}

impl Budget {
    /// An empty budget; its first second begins at `start`.
    #[must_use]
    pub fn new(config: Config, start: Instant) -> Self {
        Self { config, start, slots: Default::default() }
    }

    /// Counts one original request. Call it once per request, before sending: retries and hedges
    /// earn nothing.
    pub fn record_request(&self, now: Instant) {
        let second = self.second(now);
        self.slot(second).update(second, |counts| counts.requests += 1);
    }

    /// Takes one extra call. `false`: do not send it.
    pub fn try_take(&self, now: Instant) -> bool {
        let second = self.second(now);
        let slot = self.slot(second);
        let Some(Counts { extras, .. }) = slot.update(second, |counts| counts.extras += 1) else {
            // This caller slept through ten seconds: its call is too late to be worth another.
            return false;
        };
        if extras <= u64::from(self.config.floor_per_second) {
            return true;
        }
        let total = self.sum(second);
        if total.extras * 1000 <= total.requests * u64::from(self.config.permille) {
            return true;
        }
        slot.update(second, |counts| counts.extras = counts.extras.saturating_sub(1));
        false
    }

    /// Extra calls that would be granted now, not counting the floor. For display.
    #[must_use]
    pub fn left(&self, now: Instant) -> u64 {
        let total = self.sum(self.second(now));
        (total.requests * u64::from(self.config.permille) / 1000).saturating_sub(total.extras)
    }

    fn second(&self, now: Instant) -> u64 {
        // A clock that is read on another core may lag behind `start` by a little.
        now.saturating_duration_since(self.start).as_secs()
    }

    fn slot(&self, second: u64) -> &Slot {
        &self.slots[(second % SLOTS) as usize]
    }

    fn sum(&self, second: u64) -> Counts {
        let mut total = Counts::default();
        for past in 0..SLOTS.min(second + 1) {
            let counts = self.slot(second - past).read(second - past);
            total.requests += counts.requests;
            total.extras += counts.extras;
        }
        total
    }
}

/// How long a request counts.
#[must_use]
pub const fn window() -> Duration {
    Duration::from_secs(SLOTS)
}

/// 20 bits of epoch (121 days until it repeats), 22 bits of requests, 22 of extras.
#[derive(Debug, Default)]
struct Slot(AtomicU64);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    requests: u64,
    extras: u64,
}

const COUNT_BITS: u32 = 22;
/// The largest count of one second; more than four million are counted as that many.
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const EPOCH_MASK: u64 = (1 << (64 - 2 * COUNT_BITS)) - 1;

impl Slot {
    /// Changes the counts of `second` and returns them. If the slot holds an older second, they
    /// start from zero; if it holds a newer one (this caller was suspended), nothing changes.
    fn update(&self, second: u64, change: impl Fn(&mut Counts)) -> Option<Counts> {
        let mut word = self.0.load(SeqCst);
        loop {
            if is_newer(word, second) {
                return None;
            }
            let mut counts = unpack(word, second);
            change(&mut counts);
            counts.requests = counts.requests.min(COUNT_MAX);
            counts.extras = counts.extras.min(COUNT_MAX);
            match self.0.compare_exchange_weak(word, pack(second, counts), SeqCst, SeqCst) {
                Ok(_) => return Some(counts),
                Err(current) => word = current,
            }
        }
    }

    fn read(&self, second: u64) -> Counts {
        unpack(self.0.load(SeqCst), second)
    }
}

/// Seconds of one slot differ by ten. The epoch is stored plus one, so that a word of zeros is no
/// epoch at all.
fn epoch(second: u64) -> u64 {
    (second / SLOTS + 1) & EPOCH_MASK
}

fn is_newer(word: u64, second: u64) -> bool {
    let ahead = (word >> (2 * COUNT_BITS)).wrapping_sub(epoch(second)) & EPOCH_MASK;
    word != 0 && 0 < ahead && ahead < EPOCH_MASK / 2
}

fn pack(second: u64, counts: Counts) -> u64 {
    epoch(second) << (2 * COUNT_BITS) | counts.requests << COUNT_BITS | counts.extras
}

fn unpack(word: u64, second: u64) -> Counts {
    if word >> (2 * COUNT_BITS) == epoch(second) {
        Counts { requests: word >> COUNT_BITS & COUNT_MAX, extras: word & COUNT_MAX }
    } else {
        Counts::default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn start() -> Instant {
        sim::start()
    }

    fn budget(permille: u32, floor_per_second: u32) -> (Budget, Instant) {
        let now = start();
        (Budget::new(Config { permille, floor_per_second }, now), now)
    }

    fn take_all(budget: &Budget, now: Instant) -> u32 {
        (0..10_000).filter(|_| budget.try_take(now)).count() as u32
    }

    #[test]
    fn a_share_of_the_requests_is_granted_and_no_more() {
        for permille in [100, 150, 300, 400, 600, 1000] {
            let (budget, now) = budget(permille, 0);
            (0..1000).for_each(|_| budget.record_request(now));
            assert_eq!(take_all(&budget, now), permille);
        }
    }

    #[test]
    fn without_traffic_only_the_floor_is_free_in_each_second() {
        let (budget, now) = budget(100, 3);
        for second in 0..30 {
            assert_eq!(take_all(&budget, now + Duration::from_secs(second)), 3);
        }
    }

    #[test]
    fn requests_count_for_ten_seconds() {
        let (budget, now) = budget(100, 0);
        (0..100).for_each(|_| budget.record_request(now));
        assert_eq!(budget.left(now + Duration::from_secs(9)), 10);
        assert_eq!(budget.left(now + Duration::from_secs(10)), 0);
        assert!(!budget.try_take(now + Duration::from_secs(10)));
    }

    #[test]
    fn a_refused_call_costs_nothing() {
        let (budget, now) = budget(100, 0);
        (0..100).for_each(|_| assert!(!budget.try_take(now)));
        (0..10).for_each(|_| budget.record_request(now));
        assert!(budget.try_take(now));
    }

    #[test]
    fn a_caller_who_overslept_gets_nothing_and_breaks_nothing() {
        let (budget, now) = budget(1000, 5);
        let later = now + Duration::from_secs(10);
        budget.record_request(later);
        assert!(!budget.try_take(now));
        assert_eq!(budget.left(later), 1);
    }

    #[test]
    fn a_slot_holds_no_more_than_its_bits() {
        let slot = Slot::default();
        slot.update(7, |counts| *counts = Counts { requests: u64::MAX, extras: u64::MAX });
        assert_eq!(slot.read(7), Counts { requests: COUNT_MAX, extras: COUNT_MAX });
        assert_eq!(slot.read(17), Counts::default());
    }

    /// What the ring must equal when nobody races: every event kept, summed over ten seconds.
    #[derive(Default)]
    struct Naive {
        requests: Vec<u64>,
        extras: Vec<u64>,
    }

    impl Naive {
        fn try_take(&mut self, config: Config, second: u64) -> bool {
            let recent =
                |events: &[u64]| events.iter().filter(|at| **at + SLOTS > second).count() as u64;
            let now = self.extras.iter().filter(|at| **at == second).count() as u64 + 1;
            let extras = recent(&self.extras) + 1;
            let granted = now <= u64::from(config.floor_per_second)
                || extras * 1000 <= recent(&self.requests) * u64::from(config.permille);
            if granted {
                self.extras.push(second);
            }
            granted
        }
    }

    proptest! {
        #[test]
        fn it_equals_a_budget_that_remembers_everything(
            permille in 0_u32..1500,
            floor_per_second in 0_u32..4,
            steps in proptest::collection::vec((0_u64..4, any::<bool>()), 1..400),
        ) {
            let config = Config { permille, floor_per_second };
            let begin = start();
            let budget = Budget::new(config, begin);
            let mut naive = Naive::default();
            let mut second = 0;
            for (gap, is_request) in steps {
                second += gap / 3;
                let now = begin + Duration::from_secs(second);
                if is_request {
                    budget.record_request(now);
                    naive.requests.push(second);
                } else {
                    prop_assert_eq!(budget.try_take(now), naive.try_take(config, second));
                }
            }
        }
    }

    /// 64 threads that take all they can get, while the seconds pass under their feet.
    #[test]
    fn many_threads_never_overdraw_it_and_leave_little_unused() {
        const THREADS: u64 = 64;
        const CALLS: u64 = 2_000;
        const SECONDS: u64 = 40;
        for permille in [150, 300, 400, 600] {
            let config = Config { permille, floor_per_second: 3 };
            let begin = start();
            let budget = Budget::new(config, begin);
            let granted = AtomicU64::new(0);
            let clock = AtomicU64::new(0);
            std::thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        for _ in 0..CALLS {
                            let tick = clock.fetch_add(1, SeqCst);
                            let second = tick * SECONDS / (THREADS * CALLS);
                            let now = begin + Duration::from_secs(second);
                            budget.record_request(now);
                            if budget.try_take(now) {
                                granted.fetch_add(1, SeqCst);
                            }
                        }
                    });
                }
            });
            let share = THREADS * CALLS * u64::from(permille) / 1000;
            let granted = granted.into_inner();
            let allowed = share + 3 * SECONDS;
            assert!(granted <= allowed, "{permille}: {granted} of {allowed}");
            assert!(granted * 10 >= share * 9, "{permille}: only {granted} of {share}");
        }
    }
}
