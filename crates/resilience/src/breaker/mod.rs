//! Stops calling an endpoint that fails, and finds out cheaply when it is well again.
//!
//! `Closed`: calls flow. It trips after a run of failures, or when too large a share of the last
//! ten buckets failed (with a minimum of calls: two of three is no share). `Open`: calls are
//! rejected, twice as long after each trip, give or take half, so that the callers of one endpoint
//! do not probe it in step. `HalfOpen`: exactly one call goes through. After its success the share
//! of admitted calls grows from a tenth to all of them: an endpoint that has just started is not
//! hit by the whole load at once.
//!
//! The window counts exactly. A moving average of outcomes gives a short burst of failures almost
//! no weight, which is the one thing a breaker must see.

mod layer;
mod window;

use std::time::{Duration, Instant};

pub use layer::{Breaker, BreakerError, BreakerHandle, BreakerLayer, Guard, Judge};

use window::Window;

/// When to trip, for how long, and how fast to come back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// This many failures in a row trip it.
    pub consecutive_failures: u32,
    /// This share of failures in the window trips it, in per mille.
    pub failure_permille: u32,
    /// But not with fewer calls than this in the window.
    pub min_volume: u32,
    /// One tenth of the window.
    pub bucket: Duration,
    /// How long the first trip lasts. Each further one lasts twice as long.
    pub open_min: Duration,
    /// The longest.
    pub open_max: Duration,
    /// A probe without an outcome after this long was lost: the next call takes its place.
    pub probe_timeout: Duration,
    /// How long the way back to all calls takes.
    pub ramp: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            failure_permille: 500,
            min_volume: 20,
            bucket: Duration::from_secs(1),
            open_min: Duration::from_secs(1),
            open_max: Duration::from_secs(60),
            probe_timeout: Duration::from_secs(15),
            ramp: Duration::from_secs(10),
        }
    }
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failure,
    /// The caller left before anything was known: this says nothing about the endpoint.
    Cancelled,
}

/// The right to make one call. Give it back with [`CircuitBreaker::record`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Outcomes of an earlier state of the breaker come too late to matter.
    generation: u64,
}

/// The call must not be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the endpoint failed and is not called for another {} ms", retry_after.as_millis())]
pub struct Rejected {
    /// When it makes sense to ask again.
    pub retry_after: Duration,
}

/// Where it stands, for display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Closed,
    Open,
    HalfOpen,
    /// Closed again, but admitting only a growing share.
    Ramping,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed { failures: u32, ramp: Option<Ramp> },
    Open { until: Instant },
    HalfOpen { probe_until: Instant },
}

#[derive(Clone, Copy, Debug)]
struct Ramp {
    since: Instant,
    /// Shares of calls that were not admitted yet, in per mille: at a thousand one call may go.
    credit: u32,
}

/// The share that is admitted when the ramp begins.
const RAMP_START_PERMILLE: u32 = 100;

/// One endpoint's breaker.
#[derive(Debug)]
pub struct CircuitBreaker {
    config: Config,
    phase: Phase,
    window: Window,
    generation: u64,
    /// Trips since it last worked fully.
    trips: u32,
}

impl CircuitBreaker {
    /// Closed, with no past.
    #[must_use]
    pub fn new(config: Config, now: Instant) -> Self {
        Self {
            config,
            phase: Phase::Closed { failures: 0, ramp: None },
            window: Window::new(config.bucket, now),
            generation: 0,
            trips: 0,
        }
    }

    /// Whether a call would be admitted now. Changes nothing, so that a balancer can look at many.
    #[must_use]
    pub fn would_admit(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Closed { ramp: None, .. } => true,
            Phase::Closed { ramp: Some(ramp), .. } => {
                1000 <= ramp.credit + self.ramp_permille(ramp, now)
            }
            Phase::Open { until } | Phase::HalfOpen { probe_until: until } => until <= now,
        }
    }

    /// Asks for one call.
    ///
    /// # Errors
    ///
    /// When the endpoint must be left alone.
    pub fn try_admit(&mut self, now: Instant) -> Result<Permit, Rejected> {
        match self.phase {
            Phase::Closed { ramp: None, .. } => (),
            Phase::Closed { failures, ramp: Some(ramp) } => {
                self.admit_on_ramp(failures, ramp, now)?;
            }
            // An expired probe was cancelled or lost; the next call takes its place.
            Phase::Open { until } | Phase::HalfOpen { probe_until: until } if until <= now => {
                self.enter(Phase::HalfOpen { probe_until: now + self.config.probe_timeout });
            }
            Phase::Open { until } => return Err(Rejected { retry_after: until - now }),
            Phase::HalfOpen { probe_until } => {
                return Err(Rejected { retry_after: self.until_probed(probe_until, now) });
            }
        }
        Ok(Permit { generation: self.generation })
    }

    /// Takes the outcome of a call. `random` spreads the end of the trip that it may cause.
    pub fn record(&mut self, permit: Permit, outcome: Outcome, now: Instant, random: u64) {
        if permit.generation != self.generation {
            return;
        }
        match (self.phase, outcome) {
            (Phase::Closed { .. }, Outcome::Cancelled) => (),
            (Phase::Closed { ramp, .. }, Outcome::Success) => {
                self.window.record(now, true);
                self.phase = Phase::Closed { failures: 0, ramp: self.still_ramping(ramp, now) };
            }
            (Phase::Closed { failures, ramp }, Outcome::Failure) => {
                self.window.record(now, false);
                let failures = failures + 1;
                if self.must_trip(failures, now) {
                    self.trip(now, random);
                } else {
                    self.phase = Phase::Closed { failures, ramp };
                }
            }
            (Phase::HalfOpen { .. }, Outcome::Success) => {
                self.window = Window::new(self.config.bucket, now);
                let ramp = Ramp { since: now, credit: 0 };
                let ramp = self.still_ramping(Some(ramp), now);
                self.enter(Phase::Closed { failures: 0, ramp });
            }
            (Phase::HalfOpen { .. }, Outcome::Failure) => self.trip(now, random),
            // Nothing was learnt: whoever comes next probes.
            (Phase::HalfOpen { .. }, Outcome::Cancelled) => {
                self.enter(Phase::Open { until: now });
            }
            (Phase::Open { .. }, _) => unreachable!("an open breaker issues no permit"),
        }
    }

    /// How long it still rejects every call, for display; `None` when it does not.
    #[must_use]
    pub fn retry_after(&self, now: Instant) -> Option<Duration> {
        match self.phase {
            Phase::Open { until } => until.checked_duration_since(now),
            Phase::HalfOpen { probe_until } => Some(self.until_probed(probe_until, now)),
            Phase::Closed { .. } => None,
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self, now: Instant) -> State {
        match self.phase {
            Phase::Closed { ramp: None, .. } => State::Closed,
            Phase::Closed { ramp: Some(ramp), .. } if self.ramp_is_over(ramp, now) => State::Closed,
            Phase::Closed { .. } => State::Ramping,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    fn must_trip(&self, failures: u32, now: Instant) -> bool {
        let (calls, failed) = self.window.sum(now);
        self.config.consecutive_failures <= failures
            || (self.config.min_volume <= calls
                && u64::from(calls) * u64::from(self.config.failure_permille)
                    <= u64::from(failed) * 1000)
    }

    fn trip(&mut self, now: Instant, random: u64) {
        let doubled =
            self.config.open_min.saturating_mul(1_u32.checked_shl(self.trips).unwrap_or(u32::MAX));
        let open_for = doubled.min(self.config.open_max).mul_f64(0.5 + crate::unit(random));
        self.trips = self.trips.saturating_add(1);
        self.window = Window::new(self.config.bucket, now);
        self.enter(Phase::Open { until: now + open_for });
    }

    fn enter(&mut self, phase: Phase) {
        self.generation += 1;
        self.phase = phase;
    }

    /// Pays each call's share into the credit and admits a call for every whole one: exact, and
    /// without randomness.
    fn admit_on_ramp(&mut self, failures: u32, ramp: Ramp, now: Instant) -> Result<(), Rejected> {
        if self.ramp_is_over(ramp, now) {
            self.trips = 0;
            self.phase = Phase::Closed { failures, ramp: None };
            return Ok(());
        }
        let credit = ramp.credit + self.ramp_permille(ramp, now);
        let admitted = 1000 <= credit;
        let credit = if admitted { credit - 1000 } else { credit };
        self.phase = Phase::Closed { failures, ramp: Some(Ramp { credit, ..ramp }) };
        if admitted { Ok(()) } else { Err(Rejected { retry_after: self.config.ramp / 100 }) }
    }

    /// A probe usually ends long before it is given up: who is rejected meanwhile need not wait for
    /// the worst case.
    fn until_probed(&self, probe_until: Instant, now: Instant) -> Duration {
        probe_until.saturating_duration_since(now).min(self.config.open_min)
    }

    fn ramp_permille(&self, ramp: Ramp, now: Instant) -> u32 {
        let passed = now.saturating_duration_since(ramp.since).as_secs_f64();
        let share = 1000.0 * passed / self.config.ramp.as_secs_f64().max(f64::MIN_POSITIVE);
        (share.min(1000.0) as u32).max(RAMP_START_PERMILLE)
    }

    fn ramp_is_over(&self, ramp: Ramp, now: Instant) -> bool {
        self.config.ramp <= now.saturating_duration_since(ramp.since)
    }

    fn still_ramping(&mut self, ramp: Option<Ramp>, now: Instant) -> Option<Ramp> {
        let ramp = ramp.filter(|ramp| !self.ramp_is_over(*ramp, now));
        if ramp.is_none() {
            self.trips = 0;
        }
        ramp
    }
}

#[cfg(test)]
mod tests;
