//! What came of the requests of one measurement.

use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::Window;

/// Longer than any request may take.
const LONGEST_US: u64 = 60_000_000;
/// Two percentiles that differ by less are the same.
const SIGNIFICANT_DIGITS: u8 = 3;

#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// Answered inside the window.
    pub(crate) answered: u64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    /// Microseconds of every answer to a request that was sent in the window or under way in it.
    latency_us: Histogram<u64>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let latency_us = Histogram::new_with_bounds(1, LONGEST_US, SIGNIFICANT_DIGITS)
            .expect("the bounds are constants that fit");
        Self { answered: 0, errors: 0, first_error: None, latency_us }
    }

    /// A good answer.
    pub(crate) fn record(&mut self, window: Window, sent: Instant, answered: Instant) {
        if answered < window.begin {
            return;
        }
        if answered <= window.end {
            self.answered += 1;
        }
        self.took(answered - sent);
    }

    /// Only the time it took.
    pub(crate) fn took(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.latency_us.saturating_record(micros);
    }

    /// What went wrong counts at any time, also while warming up.
    pub(crate) fn fail(&mut self, times: u64, why: impl FnOnce() -> String) {
        self.errors += times;
        if 0 < times && self.first_error.is_none() {
            self.first_error = Some(why());
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.errors += other.errors;
        if self.first_error.is_none() {
            self.first_error.clone_from(&other.first_error);
        }
        self.latency_us.add(&other.latency_us).expect("both have the same bounds");
    }

    /// Milliseconds within which this share, 0 to 1, was answered.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        self.latency_us.value_at_quantile(share) as f64 / 1e3
    }

    pub(crate) fn max_ms(&self) -> f64 {
        self.latency_us.max() as f64 / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_before_the_window_does_not_count_and_one_after_it_counts_with_its_time() {
        let begin = Instant::now();
        let second = Duration::from_secs(1);
        let window = Window { begin: begin + second, end: begin + 2 * second };
        let mut tally = Tally::new();
        tally.record(window, begin, begin + second / 2);
        assert_eq!((tally.answered, tally.latency_us.len()), (0, 0));
        tally.record(window, begin, begin + 3 * second / 2);
        tally.record(window, begin + 3 * second / 2, begin + 4 * second);
        assert_eq!((tally.answered, tally.latency_us.len()), (1, 2));
        assert!((2_490.0..2_510.0).contains(&tally.max_ms()), "{}", tally.max_ms());
    }

    #[test]
    fn the_first_error_is_kept() {
        let mut tally = Tally::new();
        tally.fail(0, || "none".to_owned());
        tally.fail(1, || "first".to_owned());
        tally.fail(2, || "second".to_owned());
        assert_eq!((tally.errors, tally.first_error.as_deref()), (3, Some("first")));
    }
}
