//! Whether a failed attempt may be repeated, and when.
//!
//! What decides is how far the attempt got, not how it felt:
//!
//! | it got to | methods | body |
//! | --- | --- | --- |
//! | never written (no connection, refused stream) | any | untouched, or all of it kept |
//! | written, no answer | GET HEAD OPTIONS TRACE PUT DELETE, or `Idempotency-Key` | all of it kept |
//! | 502, 503, 504, or 429 with `Retry-After` | the same | the same |
//! | any other answer, or a byte went downstream | none | |
//!
//! A conditional write (`If-Match`, `If-None-Match` with another method than GET or HEAD) counts as
//! not idempotent unless it is keyed: its repetition could fail on the effect of its own first
//! attempt, and the caller would take that for somebody else's write.
//!
//! Backoff has full jitter, a uniform draw from zero to the exponential limit: callers that failed
//! together do not come back together.

mod layer;
mod replay;

use std::time::Duration;

use http::header::{DATE, IF_MATCH, IF_NONE_MATCH, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};

pub use layer::{AttemptNumber, Failed, Plan, Retrier, Retry, RetryError, RetryLayer};
pub use replay::{REPLAY_BYTES_MAX, ReplayBody, ReplayError, ReplayHandle};

/// The header by which a caller makes an unsafe request repeatable.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A peer that asks for longer is asked again after this: it may have meant something else.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// How long to wait before an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The limit of the first wait.
    pub base: Duration,
    /// The limit of every wait.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_millis(25), cap: Duration::from_millis(250) }
    }
}

impl Backoff {
    /// U(0, min(cap, base * 2^n)) before the retry number `n`, counted from zero.
    #[must_use]
    pub fn delay(&self, n: u32, random: u64) -> Duration {
        let factor = 1_u32.checked_shl(n).unwrap_or(u32::MAX);
        let limit = self.base.saturating_mul(factor).min(self.cap);
        limit.mul_f64(crate::unit(random))
    }
}

/// How an attempt failed: how far it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Certainly not done: no byte of it was written, or the peer said that it never began.
    NotSent,
    /// Certainly not done: this side's own policy (a breaker) held it back.
    Rejected {
        /// When it makes sense to ask again.
        retry_after: Duration,
    },
    /// Written at least in part; no byte of an answer came. Nobody knows whether it was done.
    NoResponse,
    /// The head of an answer came with this status, and nothing of it went downstream.
    Status {
        status: StatusCode,
        /// From the header `Retry-After`, if it was there.
        retry_after: Option<Duration>,
    },
    /// A byte of the answer went downstream, or the failure is not the peer's.
    Final,
}

impl Failure {
    /// Reads the head of an answer; `None` when it is no failure that a retry could help.
    #[must_use]
    pub fn from_response(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        let retry_after = retry_after(headers);
        let failed = match status {
            StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => true,
            StatusCode::TOO_MANY_REQUESTS => retry_after.is_some(),
            _ => false,
        };
        failed.then_some(Self::Status { status, retry_after })
    }
}

/// Reads `Retry-After`, in seconds or as a date, up to [`RETRY_AFTER_MAX`]. A date is measured
/// against the answer's own `Date`: both are of one clock, so nobody else's matters. Without a
/// `Date` it says nothing.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let asked = text(RETRY_AFTER)?;
    let wait = if !asked.is_empty() && asked.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds: as long as possible.
        Duration::from_secs(asked.parse().unwrap_or(u64::MAX))
    } else {
        let until = httpdate::parse_http_date(asked).ok()?;
        let now = httpdate::parse_http_date(text(DATE)?).ok()?;
        until.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// Whether a request may be repeated after it may have been carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Twice is the same as once.
    Safe,
    /// Twice may be worse than not at all.
    Unsafe,
}

impl Repeat {
    /// Judges a request by its method and headers.
    #[must_use]
    pub fn of(method: &Method, headers: &HeaderMap) -> Self {
        if headers.contains_key(IDEMPOTENCY_KEY) {
            return Self::Safe;
        }
        let conditional = headers.contains_key(IF_MATCH) || headers.contains_key(IF_NONE_MATCH);
        match *method {
            Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE => Self::Safe,
            Method::PUT | Method::DELETE if !conditional => Self::Safe,
            _ => Self::Unsafe,
        }
    }
}

/// What is kept of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyState {
    /// Nothing was read from it yet.
    Untouched,
    /// What was read is kept, and more is to come.
    Partial,
    /// It was read to its end, and all of it is kept.
    Complete,
    /// It outgrew what may be kept. It streams on, but nobody can send it again.
    Truncated,
}

/// A failed call, as the policy needs to know it.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub repeat: Repeat,
    pub body: BodyState,
    /// Attempts before the failed one.
    pub retries: u32,
    /// What is left of the deadline.
    pub remaining: Duration,
    /// What an attempt usually takes: with less than that left after the wait, do not begin one.
    pub typical: Duration,
}

/// Whether to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// After this wait, on another endpoint if there is one, and if the budget allows.
    RetryAfter(Duration),
    Stop(Stop),
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Repeating it could do it twice, or the answer was no failure.
    NotRepeatable,
    /// The body cannot be sent again.
    BodyGone,
    /// All attempts are used up.
    Attempts,
    /// The deadline would pass first.
    Deadline,
    /// The service had its share of extra calls.
    Budget,
}

/// How often and how fast to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Attempts after the first.
    pub retries_max: u32,
    pub backoff: Backoff,
}

impl Default for Policy {
    fn default() -> Self {
        Self { retries_max: 2, backoff: Backoff::default() }
    }
}

impl Policy {
    /// Judges a failed attempt. The budget is asked last, by the caller: see [`Stop::Budget`].
    #[must_use]
    pub fn decide(&self, call: Call, failure: Failure, random: u64) -> Decision {
        if let Err(stop) = may_repeat(call, failure) {
            return Decision::Stop(stop);
        }
        if self.retries_max <= call.retries {
            return Decision::Stop(Stop::Attempts);
        }
        let backoff = self.backoff.delay(call.retries, random);
        let wait = match failure {
            // The peer knows best, but all callers heard the same number: the jitter stays.
            Failure::Status { retry_after: Some(asked), .. }
            | Failure::Rejected { retry_after: asked } => asked + backoff,
            _ => backoff,
        };
        if call.remaining <= wait + call.typical {
            return Decision::Stop(Stop::Deadline);
        }
        Decision::RetryAfter(wait)
    }
}

/// The table at the top.
fn may_repeat(call: Call, failure: Failure) -> Result<(), Stop> {
    let safe = call.repeat == Repeat::Safe;
    match (failure, call.body) {
        (Failure::Final, _) => Err(Stop::NotRepeatable),
        (_, BodyState::Truncated) => Err(Stop::BodyGone),
        (Failure::NotSent | Failure::Rejected { .. }, _) => Ok(()),
        (Failure::NoResponse | Failure::Status { .. }, _) if !safe => Err(Stop::NotRepeatable),
        // An answer before the whole request was read is no judgement of the whole request.
        (_, BodyState::Partial | BodyState::Untouched) => Err(Stop::BodyGone),
        (_, BodyState::Complete) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn call(repeat: Repeat, body: BodyState) -> Call {
        Call { repeat, body, retries: 0, remaining: 60 * SECOND, typical: Duration::ZERO }
    }

    fn status(status: StatusCode, retry_after: Option<Duration>) -> Failure {
        Failure::Status { status, retry_after }
    }

    fn may(repeat: Repeat, body: BodyState, failure: Failure) -> bool {
        let decision = Policy::default().decide(call(repeat, body), failure, 0);
        matches!(decision, Decision::RetryAfter(_))
    }

    #[test]
    fn what_was_never_written_may_always_go_again_while_its_body_is_there() {
        use BodyState::{Complete, Partial, Truncated, Untouched};
        let rejected = Failure::Rejected { retry_after: SECOND };
        for failure in [Failure::NotSent, rejected] {
            for repeat in [Repeat::Safe, Repeat::Unsafe] {
                assert!([Untouched, Partial, Complete].iter().all(|b| may(repeat, *b, failure)));
                assert!(!may(repeat, Truncated, failure));
            }
        }
    }

    #[test]
    fn what_was_written_goes_again_only_if_twice_is_the_same_as_once() {
        let unavailable = status(StatusCode::SERVICE_UNAVAILABLE, None);
        for failure in [Failure::NoResponse, unavailable] {
            assert!(may(Repeat::Safe, BodyState::Complete, failure));
            assert!(!may(Repeat::Safe, BodyState::Partial, failure));
            assert!(!may(Repeat::Safe, BodyState::Truncated, failure));
            assert!(!may(Repeat::Unsafe, BodyState::Complete, failure));
        }
        assert!(!may(Repeat::Safe, BodyState::Complete, Failure::Final));
    }

    #[test]
    fn a_status_is_a_failure_only_if_another_try_could_help() {
        let headers = HeaderMap::new();
        let mut asked = HeaderMap::new();
        asked.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        for code in 100..=599 {
            let code = StatusCode::from_u16(code).unwrap();
            let failed = Failure::from_response(code, &headers).is_some();
            assert_eq!(failed, matches!(code.as_u16(), 502..=504), "{code}");
        }
        let limited = Failure::from_response(StatusCode::TOO_MANY_REQUESTS, &asked);
        assert_eq!(limited, Some(status(StatusCode::TOO_MANY_REQUESTS, Some(7 * SECOND))));
    }

    #[track_caller]
    fn asks(retry_after: &str, date: Option<&str>, wait: Option<Duration>) {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(retry_after).unwrap());
        if let Some(date) = date {
            headers.insert(DATE, HeaderValue::from_str(date).unwrap());
        }
        assert_eq!(super::retry_after(&headers), wait, "{retry_after}");
    }

    #[test]
    fn a_peer_may_ask_for_seconds_or_name_a_date_by_its_own_clock() {
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        asks("7", None, Some(7 * SECOND));
        asks("Sun, 06 Nov 1994 08:49:57 GMT", date, Some(20 * SECOND));
        asks("Sunday, 06-Nov-94 08:50:37 GMT", date, Some(60 * SECOND));
        asks("Sun Nov  6 08:49:38 1994", date, Some(SECOND));
        asks("Sun, 06 Nov 1994 08:00:00 GMT", date, Some(Duration::ZERO));
        asks("Sun, 06 Nov 1994 08:49:57 GMT", None, None);
        asks("Sun, 06 Nov 1994 08:49:57 GMT", Some("soon"), None);
        for nonsense in ["", "soon", "-1", "1.5"] {
            asks(nonsense, date, None);
        }
    }

    #[test]
    fn no_peer_may_ask_for_ever() {
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        for much in ["86400", "18446744073709551615", "99999999999999999999999"] {
            asks(much, None, Some(RETRY_AFTER_MAX));
        }
        asks("Fri, 31 Dec 9999 23:59:59 GMT", date, Some(RETRY_AFTER_MAX));
        let busy = status(StatusCode::SERVICE_UNAVAILABLE, Some(RETRY_AFTER_MAX));
        let call = call(Repeat::Safe, BodyState::Complete);
        let decision = Policy::default().decide(call, busy, u64::MAX);
        assert_eq!(decision, Decision::Stop(Stop::Deadline));
    }

    #[test]
    fn a_conditional_write_is_repeatable_only_with_a_key() {
        let mut headers = HeaderMap::new();
        let of = |method: &str, headers: &HeaderMap| Repeat::of(&method.parse().unwrap(), headers);
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            assert_eq!(of(method, &headers), Repeat::Safe, "{method}");
        }
        for method in ["POST", "PATCH", "BREW"] {
            assert_eq!(of(method, &headers), Repeat::Unsafe, "{method}");
        }
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        assert_eq!(of("GET", &headers), Repeat::Safe);
        assert_eq!(of("PUT", &headers), Repeat::Unsafe);
        headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_static("k"));
        assert_eq!(of("PUT", &headers), Repeat::Safe);
        assert_eq!(of("POST", &headers), Repeat::Safe);
    }

    #[test]
    fn the_peer_says_when_and_the_jitter_stays() {
        let busy = status(StatusCode::SERVICE_UNAVAILABLE, Some(2 * SECOND));
        let wait = |random| {
            let call = call(Repeat::Safe, BodyState::Complete);
            match Policy::default().decide(call, busy, random) {
                Decision::RetryAfter(wait) => wait,
                Decision::Stop(stop) => panic!("{stop:?}"),
            }
        };
        assert_eq!(wait(0), 2 * SECOND);
        assert!(2 * SECOND < wait(u64::MAX));
    }

    #[test]
    fn a_retry_that_would_come_too_late_is_not_begun() {
        let busy = status(StatusCode::SERVICE_UNAVAILABLE, Some(2 * SECOND));
        let decide = |remaining, typical| {
            let call = Call { remaining, typical, ..call(Repeat::Safe, BodyState::Complete) };
            Policy::default().decide(call, busy, 0)
        };
        assert_eq!(decide(2 * SECOND, Duration::ZERO), Decision::Stop(Stop::Deadline));
        assert_eq!(decide(3 * SECOND, SECOND), Decision::Stop(Stop::Deadline));
        assert_eq!(decide(4 * SECOND, SECOND), Decision::RetryAfter(2 * SECOND));
    }

    #[test]
    fn attempts_run_out() {
        let used = Call { retries: 2, ..call(Repeat::Safe, BodyState::Complete) };
        let decision = Policy::default().decide(used, Failure::NotSent, 0);
        assert_eq!(decision, Decision::Stop(Stop::Attempts));
    }

    proptest! {
        #[test]
        fn backoff_is_uniform_below_its_exponential_limit(n in 0_u32..100, random: u64) {
            let backoff = Backoff::default();
            let limit = 25.0 * 2_f64.powi(n.min(20) as i32);
            let limit = Duration::from_secs_f64(limit.min(250.0) / 1000.0);
            let delay = backoff.delay(n, random);
            prop_assert!(delay <= limit);
            // Twice the share of the interval is twice the delay: no part of it is cut off.
            let half = backoff.delay(n, random / 2);
            let error = (delay.as_secs_f64() / 2.0 - half.as_secs_f64()).abs();
            prop_assert!(error < 1e-6, "{:?} {:?}", delay, half);
        }
    }
}
