use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// The bits that leave a trip's length as it is.
const MIDDLE: u64 = 1 << 63;

struct Bench {
    breaker: CircuitBreaker,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let now = sim::start();
        Self { breaker: CircuitBreaker::new(Config::default(), now), now }
    }

    fn tripped() -> Self {
        let mut bench = Self::new();
        (0..5).for_each(|_| bench.call(Outcome::Failure).unwrap());
        bench
    }

    fn call(&mut self, outcome: Outcome) -> Result<(), Rejected> {
        let permit = self.breaker.try_admit(self.now)?;
        self.breaker.record(permit, outcome, self.now, MIDDLE);
        Ok(())
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn state(&self) -> State {
        self.breaker.state(self.now)
    }
}

#[test]
fn a_run_of_failures_trips_it_and_a_success_interrupts_the_run() {
    let mut bench = Bench::new();
    for outcome in [Outcome::Failure; 4] {
        bench.call(outcome).unwrap();
    }
    bench.call(Outcome::Success).unwrap();
    for outcome in [Outcome::Failure; 4] {
        bench.call(outcome).unwrap();
    }
    assert_eq!(bench.state(), State::Closed);
    bench.call(Outcome::Failure).unwrap();
    assert_eq!(bench.state(), State::Open);
    assert_eq!(bench.call(Outcome::Success), Err(Rejected { retry_after: SECOND }));
}

#[test]
fn a_share_of_failures_trips_it_once_there_are_enough_calls() {
    let mut bench = Bench::new();
    for call in 0..19 {
        let outcome = if call % 2 == 0 { Outcome::Failure } else { Outcome::Success };
        bench.call(outcome).unwrap();
    }
    assert_eq!(bench.state(), State::Closed, "nineteen calls are no share");
    bench.call(Outcome::Failure).unwrap();
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn what_is_older_than_the_window_does_not_count() {
    let mut bench = Bench::new();
    for call in 0..19 {
        let outcome = if call % 2 == 0 { Outcome::Failure } else { Outcome::Success };
        bench.call(outcome).unwrap();
    }
    bench.pass(10 * SECOND);
    bench.call(Outcome::Failure).unwrap();
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn exactly_one_probe_goes_through() {
    let mut bench = Bench::tripped();
    bench.pass(SECOND);
    assert!(bench.breaker.would_admit(bench.now));
    let probe = bench.breaker.try_admit(bench.now).unwrap();
    assert_eq!(bench.state(), State::HalfOpen);
    for _ in 0..10 {
        assert!(!bench.breaker.would_admit(bench.now));
        let rejected = bench.breaker.try_admit(bench.now).unwrap_err();
        assert_eq!(rejected.retry_after, SECOND, "not the probe's whole timeout");
    }
    bench.breaker.record(probe, Outcome::Success, bench.now, MIDDLE);
    assert_eq!(bench.state(), State::Ramping);
}

#[test]
fn a_lost_probe_does_not_wedge_it() {
    let mut bench = Bench::tripped();
    bench.pass(SECOND);
    let lost = bench.breaker.try_admit(bench.now).unwrap();
    bench.pass(Config::default().probe_timeout);
    let next = bench.breaker.try_admit(bench.now).unwrap();
    // The lost one comes back after all: it no longer matters.
    bench.breaker.record(lost, Outcome::Failure, bench.now, MIDDLE);
    assert_eq!(bench.state(), State::HalfOpen);
    bench.breaker.record(next, Outcome::Success, bench.now, MIDDLE);
    assert_eq!(bench.state(), State::Ramping);
}

#[test]
fn a_cancelled_probe_makes_way_for_the_next() {
    let mut bench = Bench::tripped();
    bench.pass(SECOND);
    bench.call(Outcome::Cancelled).unwrap();
    bench.call(Outcome::Success).unwrap();
    assert_eq!(bench.state(), State::Ramping);
}

#[test]
fn a_caller_who_left_says_nothing_about_the_endpoint() {
    let mut bench = Bench::new();
    (0..100).for_each(|_| bench.call(Outcome::Cancelled).unwrap());
    (0..4).for_each(|_| bench.call(Outcome::Failure).unwrap());
    bench.call(Outcome::Cancelled).unwrap();
    assert_eq!(bench.state(), State::Closed);
    bench.call(Outcome::Failure).unwrap();
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn an_outcome_from_before_the_trip_comes_too_late_to_matter() {
    let mut bench = Bench::new();
    let slow = bench.breaker.try_admit(bench.now).unwrap();
    (0..5).for_each(|_| bench.call(Outcome::Failure).unwrap());
    bench.breaker.record(slow, Outcome::Success, bench.now, MIDDLE);
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn each_trip_lasts_twice_as_long_until_it_has_worked_fully() {
    let mut bench = Bench::tripped();
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        let open_for = SECOND * seconds;
        assert_eq!(bench.breaker.retry_after(bench.now), Some(open_for));
        bench.pass(open_for);
        bench.call(Outcome::Failure).unwrap();
    }
    bench.pass(60 * SECOND);
    bench.call(Outcome::Success).unwrap();
    bench.pass(10 * SECOND);
    bench.call(Outcome::Success).unwrap();
    assert_eq!(bench.state(), State::Closed);
    (0..5).for_each(|_| bench.call(Outcome::Failure).unwrap());
    assert_eq!(bench.breaker.retry_after(bench.now), Some(SECOND));
}

#[test]
fn the_share_that_is_admitted_grows_while_it_recovers() {
    let mut bench = Bench::tripped();
    bench.pass(SECOND);
    bench.call(Outcome::Success).unwrap();
    let mut shares = Vec::new();
    for _ in 0..10 {
        let admitted = (0..100)
            .filter(|_| {
                bench.pass(SECOND / 100);
                bench.call(Outcome::Success).is_ok()
            })
            .count();
        shares.push(admitted);
    }
    assert!(shares.is_sorted(), "{shares:?}");
    assert!((8..=14).contains(&shares[0]), "{shares:?}");
    assert!((90..=100).contains(&shares[9]), "{shares:?}");
    bench.pass(SECOND);
    assert!((0..100).all(|_| bench.call(Outcome::Success).is_ok()));
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn looking_changes_nothing() {
    let mut bench = Bench::tripped();
    bench.pass(SECOND);
    assert!((0..10).all(|_| bench.breaker.would_admit(bench.now)));
    assert_eq!(bench.state(), State::Open);
}

/// A window that keeps every outcome.
#[derive(Default)]
struct Naive(Vec<(u64, bool)>);

impl Naive {
    fn sum(&self, bucket: u64) -> (u32, u32) {
        let recent = self.0.iter().filter(|(at, _)| bucket < at + 10);
        recent.fold((0, 0), |(calls, failed), (_, ok)| (calls + 1, failed + u32::from(!ok)))
    }
}

proptest! {
    #[test]
    fn the_window_equals_one_that_remembers_everything(
        steps in proptest::collection::vec((0_u64..4_000, any::<bool>()), 1..200),
    ) {
        let start = sim::start();
        let mut window = Window::new(SECOND, start);
        let (mut naive, mut ms) = (Naive::default(), 0);
        for (gap, success) in steps {
            ms += gap;
            let now = start + Duration::from_millis(ms);
            window.record(now, success);
            naive.0.push((ms / 1000, success));
            prop_assert_eq!(window.sum(now), naive.sum(ms / 1000));
        }
    }

    /// Whatever happens in whatever order: it never panics, never lets two probes out at once, and
    /// once the endpoint is well it closes again.
    #[test]
    fn any_history_ends_well(
        steps in proptest::collection::vec((0_u64..5_000, 0_u8..4, any::<u64>()), 1..300),
    ) {
        let mut bench = Bench::new();
        let mut held: Vec<Permit> = Vec::new();
        for (gap, kind, random) in steps {
            bench.pass(Duration::from_millis(gap));
            if kind == 0 {
                if let Ok(permit) = bench.breaker.try_admit(bench.now) {
                    let probing = bench.state() == State::HalfOpen;
                    prop_assert!(!probing || bench.breaker.try_admit(bench.now).is_err());
                    held.push(permit);
                }
            } else if let Some(permit) = held.pop() {
                let outcome = [Outcome::Success, Outcome::Failure, Outcome::Cancelled];
                bench.breaker.record(permit, outcome[kind as usize - 1], bench.now, random);
            }
        }
        for _ in 0..200 {
            bench.pass(SECOND);
            let _ = bench.call(Outcome::Success);
        }
        prop_assert_eq!(bench.state(), State::Closed);
    }
}
