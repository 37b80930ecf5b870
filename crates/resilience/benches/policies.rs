//! What the policies add to one call, which every proxied request pays:
//! `cargo bench -p resilience`.
//!
//! Target: all of them together below 3 µs, a twentieth of what a proxied request costs.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use resilience::balance::{
    EndpointSet, Load, LoadConfig, Report, RoundRobin, Sample, Strategy, Tried, least_latency,
};
use resilience::breaker::{self, CircuitBreaker, Outcome};
use resilience::budget::{self, Budget};
use resilience::deadline::{Deadline, parse_ms};
use resilience::limit::Places;
use resilience::retry::{BodyState, Call, Failure, Policy, Repeat};
use sim::Rng;

const MILLISECOND: Duration = Duration::from_millis(1);

fn retry(c: &mut Criterion) {
    let call = Call {
        repeat: Repeat::Safe,
        body: BodyState::Complete,
        retries: 0,
        remaining: Duration::from_secs(15),
        typical: MILLISECOND,
    };
    let mut rng = Rng::new(1);
    c.bench_function("retry/decide", |b| {
        b.iter(|| Policy::default().decide(black_box(call), Failure::NoResponse, rng.next_u64()));
    });
}

fn budget(c: &mut Criterion) {
    let start = sim::start();
    let (mut calls, budget) = (0_u32, Budget::new(budget::Config::default(), start));
    // A million calls a second.
    let mut now = || {
        calls += 1;
        start + Duration::from_micros(u64::from(calls))
    };
    c.bench_function("budget/record_request", |b| b.iter(|| budget.record_request(now())));
    c.bench_function("budget/try_take", |b| b.iter(|| black_box(budget.try_take(now()))));
}

fn breaker(c: &mut Criterion) {
    for (name, outcome) in [("closed", Outcome::Success), ("flapping", Outcome::Failure)] {
        let mut now = sim::start();
        let mut breaker = CircuitBreaker::new(breaker::Config::default(), now);
        c.bench_function(&format!("breaker/{name}"), |b| {
            b.iter(|| {
                now += MILLISECOND;
                if let Ok(permit) = breaker.try_admit(black_box(now)) {
                    breaker.record(permit, black_box(outcome), now, 0);
                }
            });
        });
    }
}

fn balance(c: &mut Criterion) {
    let start = sim::start();
    let loads: Vec<_> = (0..8).map(|_| Arc::new(Load::new(LoadConfig::default(), start))).collect();
    let mut rng = Rng::new(1);
    let robin = RoundRobin::default();
    c.bench_function("balance/round_robin of 8", |b| b.iter(|| robin.pick(8, |_| true)));
    let mut now = start;
    c.bench_function("balance/least_latency of 8, with its sample", |b| {
        b.iter(|| {
            now += MILLISECOND;
            let cost = |index: usize| loads[index].cost(now);
            let index = least_latency(8, |_| true, cost, rng.next_u64()).expect("eight of them");
            loads[index].begin().finish(Sample::Answered(MILLISECOND), now);
        });
    });
    let set = EndpointSet::<u32, ()>::new(Strategy::LeastLatency, breaker::Config::default());
    set.replace(0..8, |_| ());
    c.bench_function("balance/endpoint set of 8, pick and report, real clock", |b| {
        b.iter(|| set.pick(&Tried::default()).expect("all are well").report(Report::Answered));
    });
}

fn deadline_and_limit(c: &mut Criterion) {
    let now: Instant = sim::start();
    c.bench_function("deadline/parse and forward", |b| {
        b.iter(|| {
            let left = parse_ms(black_box("15000")).expect("a number");
            Deadline::after(now, left).header(now + MILLISECOND)
        });
    });
    let places = Places::new(1024);
    c.bench_function("limit/enter and leave", |b| b.iter(|| drop(places.try_enter())));
}

criterion_group!(benches, retry, budget, breaker, balance, deadline_and_limit);
criterion_main!(benches);
