//! What an endpoint costs now: how long its answers took lately, times how many it owes.
//!
//! The average follows a rise at once and a fall slowly (peak EWMA), and decays while nothing is
//! measured, so that an endpoint that once was slow is tried again. A failure counts as a long
//! answer: one that refuses everything at once would otherwise look like the fastest of all, and
//! draw the traffic it cannot serve.
//!
//! One word holds (estimate, time of its last change), a second one the calls in flight, each on
//! its own cache line: a pick reads them without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How to measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadConfig {
    /// How fast old samples fade.
    pub decay: Duration,
    /// The estimate before the first sample: a new endpoint is tried, but not by everyone.
    pub seed: Duration,
    /// What a failure counts as, unless its `Retry-After` says more.
    pub penalty: Duration,
    /// The most a failure can count as.
    pub penalty_max: Duration,
}

impl Default for LoadConfig {
    fn default() -> Self {
        Self {
            decay: Duration::from_secs(10),
            seed: Duration::from_millis(30),
            penalty: Duration::from_secs(5),
            penalty_max: Duration::from_secs(300),
        }
    }
}

/// How one call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// An answer after this time.
    Answered(Duration),
    /// No answer, or one that says it could not serve.
    Failed { retry_after: Option<Duration> },
    /// The caller left: nothing was measured.
    Cancelled,
}

/// One endpoint's load.
#[derive(Debug)]
pub struct Load {
    config: LoadConfig,
    start: Instant,
    estimate: Padded<AtomicU64>,
    pending: Padded<AtomicU32>,
}

/// Keeps two counters from sharing a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl Load {
    /// An endpoint of which nothing is known.
    #[must_use]
    pub fn new(config: LoadConfig, now: Instant) -> Self {
        let estimate = Padded(AtomicU64::new(pack(config.seed.as_secs_f32(), 0)));
        Self { config, start: now, estimate, pending: Padded::default() }
    }

    /// Counts a call as in flight until the guard is dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.pending.0.fetch_add(1, Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Calls in flight.
    #[must_use]
    pub fn pending(&self) -> u32 {
        self.pending.0.load(Relaxed)
    }

    /// The estimate as it has decayed by now.
    #[must_use]
    pub fn latency(&self, now: Instant) -> Duration {
        let (estimate, tick) = unpack(self.estimate.0.load(Relaxed));
        Duration::from_secs_f32(estimate * self.remains(tick, self.tick(now)))
    }

    /// What one more call would cost here. Comparable between endpoints, otherwise without a unit.
    #[must_use]
    pub fn cost(&self, now: Instant) -> f64 {
        self.latency(now).as_secs_f64() * f64::from(self.pending() + 1)
    }

    /// Takes one measurement.
    pub fn record(&self, sample: Sample, now: Instant) {
        let seconds = match sample {
            Sample::Cancelled => return,
            Sample::Answered(took) => took.as_secs_f32(),
            Sample::Failed { retry_after } => {
                let penalty = retry_after.unwrap_or_default().max(self.config.penalty);
                penalty.min(self.config.penalty_max).as_secs_f32()
            }
        };
        let tick = self.tick(now);
        let blend = |word| {
            let (old, since) = unpack(word);
            let keep = self.remains(since, tick);
            let new =
                if old * keep < seconds { seconds } else { old * keep + seconds * (1.0 - keep) };
            Some(pack(new, tick.max(since)))
        };
        let _ = self.estimate.0.fetch_update(Relaxed, Relaxed, blend);
    }

    /// The share of an estimate that is left after this many ticks.
    fn remains(&self, since: u32, tick: u32) -> f32 {
        let passed = Duration::from_millis(tick.saturating_sub(since).into());
        (-passed.as_secs_f32() / self.config.decay.as_secs_f32().max(f32::MIN_POSITIVE)).exp()
    }

    /// Milliseconds since the start: 49 days, then the estimate stops decaying between samples
    /// until the endpoint is discovered anew. It stays right, only slower.
    fn tick(&self, now: Instant) -> u32 {
        let passed = now.saturating_duration_since(self.start).as_millis();
        u32::try_from(passed).unwrap_or(u32::MAX)
    }
}

/// A call in flight.
#[derive(Debug)]
pub struct InFlight(Arc<Load>);

impl InFlight {
    /// Ends the call with its measurement.
    pub fn finish(self, sample: Sample, now: Instant) {
        self.0.record(sample, now);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.pending.0.fetch_sub(1, Relaxed);
    }
}

fn pack(seconds: f32, tick: u32) -> u64 {
    u64::from(seconds.to_bits()) << 32 | u64::from(tick)
}

fn unpack(word: u64) -> (f32, u32) {
    (f32::from_bits((word >> 32) as u32), word as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load() -> (Arc<Load>, Instant) {
        let now = sim::start();
        (Arc::new(Load::new(LoadConfig::default(), now)), now)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn it_rises_at_once_and_falls_slowly() {
        let (load, mut now) = load();
        load.record(Sample::Answered(ms(100)), now);
        assert!(load.latency(now).abs_diff(ms(100)) < ms(1));
        load.record(Sample::Answered(ms(900)), now);
        assert!(load.latency(now).abs_diff(ms(900)) < ms(1));
        now += ms(100);
        load.record(Sample::Answered(ms(10)), now);
        assert!(load.latency(now) > ms(850), "{:?}", load.latency(now));
    }

    #[test]
    fn what_was_slow_is_tried_again() {
        let (load, now) = load();
        load.record(Sample::Answered(ms(5_000)), now);
        assert!(load.latency(now + ms(60_000)) < ms(15));
    }

    #[test]
    fn an_instant_refusal_is_no_fast_answer() {
        let (refusing, now) = load();
        let (slow, _) = load();
        refusing.record(Sample::Failed { retry_after: None }, now);
        slow.record(Sample::Answered(ms(800)), now);
        assert!(slow.cost(now) < refusing.cost(now));
        let asked = Some(Duration::from_secs(100_000));
        refusing.record(Sample::Failed { retry_after: asked }, now);
        assert_eq!(refusing.latency(now), Duration::from_secs(300));
    }

    #[test]
    fn calls_in_flight_make_it_dearer_until_they_end() {
        let (load, now) = load();
        let alone = load.cost(now);
        let calls: Vec<_> = (0..3).map(|_| load.begin()).collect();
        assert_eq!(load.cost(now), alone * 4.0);
        drop(calls);
        assert_eq!(load.cost(now), alone);
    }

    #[test]
    fn a_caller_who_left_measured_nothing() {
        let (load, now) = load();
        let before = load.latency(now);
        load.begin().finish(Sample::Cancelled, now);
        assert_eq!((load.latency(now), load.pending()), (before, 0));
    }
}
