//! A deadline is a moment; on the wire it is what is left until then, in milliseconds.
//!
//! Clocks of two machines differ, so a moment cannot travel. Each hop turns the remaining time
//! into a moment of its own clock on arrival and back when it passes the call on: the time spent
//! in between is gone, and the last hop never works for a caller who has left.

mod layer;

use std::time::{Duration, Instant};

pub use layer::{DeadlineError, for_caller, of_caller, within};

/// The header that carries the remaining milliseconds.
pub const HEADER: &str = "x-deadline-ms";

/// The longest deadline accepted from a caller; a longer one is shortened to it.
pub const MAX: Duration = Duration::from_secs(3600);

/// The moment by which a call must have been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    at: Instant,
}

impl Deadline {
    /// This very moment.
    #[must_use]
    pub const fn new(at: Instant) -> Self {
        Self { at }
    }

    /// `timeout` from `now`, at most [`MAX`].
    #[must_use]
    pub fn after(now: Instant, timeout: Duration) -> Self {
        Self { at: now + timeout.min(MAX) }
    }

    /// The moment itself.
    #[must_use]
    pub const fn at(self) -> Instant {
        self.at
    }

    /// What is left; `None` once it has passed.
    #[must_use]
    pub fn remaining(self, now: Instant) -> Option<Duration> {
        self.at.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// The earlier of two: an inner deadline never outlives the outer one.
    #[must_use]
    pub fn sooner(self, other: Self) -> Self {
        self.min(other)
    }

    /// The header's value for the next hop; `None` once nothing is left: then do not call.
    ///
    /// Rounded down, so that the deadline shrinks from hop to hop; below a millisecond nothing is
    /// left.
    #[must_use]
    pub fn header(self, now: Instant) -> Option<String> {
        let left_ms = self.remaining(now)?.as_millis();
        (left_ms > 0).then(|| left_ms.to_string())
    }
}

/// A deadline header that makes no sense: answer 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{HEADER}` must be the remaining time in whole milliseconds, like 1500")]
pub struct ParseDeadlineError;

/// Reads `x-deadline-ms`. Zero is valid and means: too late already.
///
/// # Errors
///
/// When it is not a plain decimal number.
pub fn parse_ms(value: &str) -> Result<Duration, ParseDeadlineError> {
    let digits = value.trim();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ParseDeadlineError);
    }
    // More digits than a u64 has is a long time, not a mistake.
    Ok(digits.parse().map_or(MAX, Duration::from_millis).min(MAX))
}

/// Reads a gRPC timeout: up to eight digits and a unit out of `H M S m u n`.
///
/// # Errors
///
/// When it has another form.
pub fn parse_grpc(value: &str) -> Result<Duration, ParseDeadlineError> {
    let (digits, unit) = value
        .trim()
        .split_at_checked(value.trim().len().saturating_sub(1))
        .ok_or(ParseDeadlineError)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ParseDeadlineError);
    }
    let count: u64 = digits.parse().map_err(|_| ParseDeadlineError)?;
    let timeout = match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return Err(ParseDeadlineError),
    };
    Ok(timeout.min(MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        sim::start()
    }

    #[test]
    fn it_shrinks_from_hop_to_hop() {
        let mut now = start();
        let mut left = Duration::from_millis(100);
        for _ in 0..3 {
            let deadline = Deadline::after(now, left);
            now += Duration::from_micros(10_500);
            left = parse_ms(&deadline.header(now).unwrap()).unwrap();
        }
        assert_eq!(left, Duration::from_millis(67));
    }

    #[test]
    fn nothing_is_sent_when_nothing_is_left() {
        let now = start();
        let deadline = Deadline::after(now, Duration::from_millis(5));
        assert_eq!(deadline.header(now + Duration::from_micros(4_500)), None);
        assert_eq!(deadline.remaining(now + Duration::from_millis(5)), None);
        assert_eq!(deadline.remaining(now + Duration::from_millis(9)), None);
    }

    #[test]
    fn a_huge_deadline_is_cut_and_nonsense_is_refused() {
        assert_eq!(parse_ms("99999999999999999999999"), Ok(MAX));
        assert_eq!(parse_ms(" 1500 "), Ok(Duration::from_millis(1500)));
        for nonsense in ["", "-1", "+5", "1.5", "1e3", "soon", "１"] {
            assert_eq!(parse_ms(nonsense), Err(ParseDeadlineError), "{nonsense:?}");
        }
    }

    #[test]
    fn grpc_timeouts_have_a_unit() {
        assert_eq!(parse_grpc("100m"), Ok(Duration::from_millis(100)));
        assert_eq!(parse_grpc("3S"), Ok(Duration::from_secs(3)));
        assert_eq!(parse_grpc("99999999H"), Ok(MAX));
        for nonsense in ["", "m", "5", "123456789S", "5é", "é"] {
            assert_eq!(parse_grpc(nonsense), Err(ParseDeadlineError), "{nonsense:?}");
        }
    }

    #[test]
    fn an_inner_deadline_never_outlives_the_outer_one() {
        let now = start();
        let outer = Deadline::after(now, Duration::from_secs(1));
        let inner = Deadline::after(now, Duration::from_secs(5));
        assert_eq!(inner.sooner(outer), outer);
    }
}
