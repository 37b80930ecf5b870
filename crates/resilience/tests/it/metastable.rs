//! The failure that outlives its cause.
//!
//! A service loses most of its capacity for ten seconds. Its queue fills with work whose callers
//! have given up; they come back with retries, and when the capacity returns it is spent on answers
//! that nobody waits for. With three attempts for everyone this goes on for ever; with a budget the
//! service works its queue off.

use std::collections::VecDeque;
use std::time::Duration;

use resilience::budget::{self, Budget};
use resilience::retry::{BodyState, Call, Decision, Failure, Policy, Repeat};
use sim::Rng;

const TICK: Duration = Duration::from_millis(100);
/// Requests a tick: four fifths of what the service can do.
const ARRIVALS: u64 = 80;
const CAPACITY: usize = 100;
const CAPACITY_BROKEN: usize = 40;
/// Five seconds of work.
const QUEUE_MAX: usize = 5_000;
/// A caller waits this many ticks for each attempt.
const PATIENCE: u64 = 10;
const BREAKS: u64 = 100;
const HEALS: u64 = 200;
/// When it must serve again: a minute after it healed.
const JUDGED: u64 = HEALS + 600;
const END: u64 = JUDGED + 100;

#[derive(Clone, Copy)]
struct Attempt {
    /// Attempts of its request before it.
    retries: u32,
    /// The tick at which its caller gives up on it.
    until: u64,
}

struct Service {
    queue: VecDeque<Attempt>,
    /// Retries by the tick at which they are due.
    due: Vec<Vec<Attempt>>,
    budget: Budget,
    rng: Rng,
}

impl Service {
    fn new(permille: u32, seed: u64) -> Self {
        let config = budget::Config { permille, floor_per_second: 3 };
        Self {
            queue: VecDeque::new(),
            due: vec![Vec::new(); END as usize + 100],
            budget: Budget::new(config, sim::start()),
            rng: Rng::new(seed),
        }
    }

    /// Answers how many callers were served in this tick.
    fn tick(&mut self, tick: u64) -> usize {
        let now = sim::start() + TICK * tick as u32;
        for _ in 0..ARRIVALS {
            self.budget.record_request(now);
            self.offer(Attempt { retries: 0, until: tick + PATIENCE }, tick);
        }
        for attempt in std::mem::take(&mut self.due[tick as usize]) {
            self.offer(Attempt { until: tick + PATIENCE, ..attempt }, tick);
        }
        let broken = (BREAKS..HEALS).contains(&tick);
        let capacity = if broken { CAPACITY_BROKEN } else { CAPACITY };
        let work: Vec<_> = self.queue.drain(..capacity.min(self.queue.len())).collect();
        // The service cannot know that nobody waits any more: the work is done all the same.
        let (served, late): (Vec<_>, Vec<_>) =
            work.into_iter().partition(|attempt| tick < attempt.until);
        late.into_iter().for_each(|attempt| self.failed(attempt, Failure::NoResponse, tick));
        served.len()
    }

    fn offer(&mut self, attempt: Attempt, tick: u64) {
        if self.queue.len() < QUEUE_MAX {
            self.queue.push_back(attempt);
        } else {
            let status = http::StatusCode::SERVICE_UNAVAILABLE;
            self.failed(attempt, Failure::Status { status, retry_after: None }, tick);
        }
    }

    fn failed(&mut self, attempt: Attempt, failure: Failure, tick: u64) {
        let now = sim::start() + TICK * tick as u32;
        let call = Call {
            repeat: Repeat::Safe,
            body: BodyState::Complete,
            retries: attempt.retries,
            remaining: Duration::from_secs(15),
            typical: Duration::ZERO,
        };
        let decision = Policy::default().decide(call, failure, self.rng.next_u64());
        if let Decision::RetryAfter(wait) = decision
            && self.budget.try_take(now)
        {
            let ticks = wait.as_millis().div_ceil(TICK.as_millis()).max(1) as u64;
            let retry = Attempt { retries: attempt.retries + 1, ..attempt };
            self.due[(tick + ticks) as usize].push(retry);
        }
    }
}

/// The share of arrivals that were served in the last ten seconds, in per cent.
fn goodput(permille: u32, seed: u64) -> usize {
    let mut service = Service::new(permille, seed);
    let served: Vec<_> = (0..END).map(|tick| service.tick(tick)).collect();
    let before: usize = served[..BREAKS as usize].iter().sum();
    assert_eq!(before as u64, BREAKS * ARRIVALS, "it was well before, seed {seed}");
    let judged: usize = served[JUDGED as usize..].iter().sum();
    judged * 100 / (ARRIVALS * (END - JUDGED)) as usize
}

#[test]
fn with_a_budget_it_serves_again_after_the_fault() {
    for seed in sim::seeds(5) {
        let percent = goodput(budget::Config::default().permille, seed);
        assert!(95 <= percent, "{percent} % are served, seed {seed}");
    }
}

/// The other half of the argument: without a budget the same fault never ends.
#[test]
fn three_attempts_for_everyone_keep_it_down() {
    for seed in sim::seeds(5) {
        let percent = goodput(1_000_000, seed);
        assert!(percent < 50, "{percent} % are served, seed {seed}");
    }
}
