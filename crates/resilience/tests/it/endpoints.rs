//! A live set of endpoints.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use resilience::balance::{EndpointSet, PickError, Report, Strategy, Tried};
use resilience::breaker::{self, State};
use resilience::{Clock, system_random};

/// Time that the test moves.
#[derive(Clone, Debug, Default)]
struct Time(sim::Clock);

impl Clock for Time {
    fn now(&self) -> Instant {
        self.0.now()
    }
}

type Set = EndpointSet<&'static str, String, Time>;

fn set(strategy: Strategy, keys: &[&'static str]) -> (Set, sim::Clock) {
    let clock = sim::Clock::default();
    let time = Time(clock.clone());
    let set = EndpointSet::with(strategy, breaker::Config::default(), time, system_random);
    set.replace(keys.iter().copied(), |key| format!("http://{key}"));
    (set, clock)
}

const FAILED: Report = Report::Failed { retry_after: None };

fn fail(set: &Set, key: &str, times: usize) {
    for _ in 0..times {
        let others = Tried::default();
        loop {
            let picked = set.pick(&others).unwrap();
            if picked.endpoint.key == key {
                picked.report(FAILED);
                break;
            }
        }
    }
}

#[test]
fn attempts_of_one_request_go_to_different_endpoints_while_there_are_any() {
    for strategy in [Strategy::RoundRobin, Strategy::LeastLatency] {
        let (set, _) = set(strategy, &["a", "b", "c"]);
        let tried = Tried::default();
        let mut keys: Vec<_> = (0..3).map(|_| set.pick(&tried).unwrap().endpoint.key).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["a", "b", "c"]);
        set.pick(&tried).expect("a fourth attempt repeats one rather than giving up");
    }
}

#[test]
fn an_endpoint_that_fails_is_left_out_until_its_probe() {
    let (set, clock) = set(Strategy::RoundRobin, &["a", "b"]);
    fail(&set, "a", 5);
    assert!((0..20).all(|_| set.pick(&Tried::default()).unwrap().endpoint.key == "b"));
    clock.advance(Duration::from_secs(2));
    let probes = (0..20).filter(|_| {
        let picked = set.pick(&Tried::default()).unwrap();
        let probed = picked.endpoint.key == "a";
        // The probe stays in flight: there is only one.
        if probed {
            std::mem::forget(picked)
        } else {
            picked.report(Report::Answered)
        }
        probed
    });
    assert_eq!(probes.count(), 1);
}

#[test]
fn when_all_fail_the_caller_hears_when_to_come_back() {
    let (set, clock) = set(Strategy::LeastLatency, &["a"]);
    fail(&set, "a", 5);
    let Err(PickError::AllRejected { retry_after }) = set.pick(&Tried::default()) else {
        panic!("its breaker is open");
    };
    assert!(
        Duration::from_millis(500) <= retry_after && retry_after <= Duration::from_millis(1500)
    );
    clock.advance(retry_after);
    set.pick(&Tried::default()).unwrap().report(Report::Answered);
    assert_eq!(set.snapshot()[0].state(), State::Ramping);
    // To refuse for want of another one would turn the ramp into an outage.
    assert!((0..20).all(|_| set.pick(&Tried::default()).is_ok()));
    let (empty, _) = self::set(Strategy::RoundRobin, &[]);
    assert!(matches!(empty.pick(&Tried::default()), Err(PickError::Empty)));
}

#[test]
fn who_stays_keeps_what_is_known_about_it() {
    let (set, _) = set(Strategy::RoundRobin, &["a", "b"]);
    fail(&set, "a", 5);
    set.replace(["a", "c"], |key| format!("new://{key}"));
    let now: BTreeMap<_, _> =
        set.snapshot().iter().map(|e| (e.key, (e.value.clone(), e.state()))).collect();
    assert_eq!(now["a"], ("http://a".to_owned(), State::Open));
    assert_eq!(now["c"], ("new://c".to_owned(), State::Closed));
    assert_eq!(now.len(), 2);
}

#[test]
fn the_faster_endpoint_gets_most_of_the_calls_and_instant_failures_attract_none() {
    let (set, clock) = set(Strategy::LeastLatency, &["fast", "slow", "refuses"]);
    let mut calls: BTreeMap<&str, u32> = BTreeMap::new();
    for _ in 0..300 {
        let picked = set.pick(&Tried::default()).unwrap();
        *calls.entry(picked.endpoint.key).or_default() += 1;
        match picked.endpoint.key {
            "fast" => clock.advance(Duration::from_millis(5)),
            "slow" => clock.advance(Duration::from_millis(200)),
            _ => return_refusal(&clock),
        }
        let failed = picked.endpoint.key == "refuses";
        picked.report(if failed { FAILED } else { Report::Answered });
    }
    assert!(calls["fast"] > 150, "{calls:?}");
    assert!(calls.get("refuses").is_none_or(|calls| *calls < 30), "{calls:?}");
}

fn return_refusal(clock: &sim::Clock) {
    clock.advance(Duration::from_micros(100));
}

#[test]
fn a_caller_who_leaves_frees_its_place() {
    let (set, _) = set(Strategy::LeastLatency, &["a"]);
    let calls: Vec<_> = (0..5).map(|_| set.pick(&Tried::default()).unwrap()).collect();
    assert_eq!(set.snapshot()[0].pending(), 5);
    drop(calls);
    assert_eq!(set.snapshot()[0].pending(), 0);
    assert_eq!(set.snapshot()[0].state(), State::Closed);
}
