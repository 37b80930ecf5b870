//! How long a caller will wait, and what is left of it for the next hop.

use std::time::{Duration, Instant};

use api::headers;
use api::problem::Code;
use http::{HeaderMap, HeaderName};

use crate::problem::Problem;

/// The moment after which nobody waits for the answer. Handlers get it as an extractor
/// (`Option<Deadline>`). Calls made with `client` inside a handler end no later without being told,
/// and pass on what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub Instant);

impl Deadline {
    /// What is left at `now`; `None` when it has passed.
    #[must_use]
    pub fn remaining(self, now: Instant) -> Option<Duration> {
        self.0.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// Reads `x-deadline-ms`, `x-request-timeout` and `grpc-timeout`. The shortest of them counts.
    pub fn from_headers(headers: &HeaderMap, now: Instant) -> Result<Option<Self>, Problem> {
        type Parse = fn(&str) -> Option<Duration>;
        // A name that is text would be taken apart with every request.
        static FORMS: [(HeaderName, Parse, &str); 3] = [
            (
                HeaderName::from_static(headers::DEADLINE_MS),
                parse_ms,
                "a number of milliseconds such as `1500`",
            ),
            (
                HeaderName::from_static(headers::REQUEST_TIMEOUT),
                parse_timeout,
                "seconds such as `2`, or `500ms`",
            ),
            (
                HeaderName::from_static(headers::GRPC_TIMEOUT),
                parse_grpc,
                "at most eight digits and one of H M S m u n",
            ),
        ];
        let mut shortest: Option<Duration> = None;
        for (name, parse, form) in &FORMS {
            let Some(value) = headers.get(name) else { continue };
            let Some(limit) = value.to_str().ok().and_then(|text| parse(text.trim())) else {
                let detail = format!("the header {name} must be {form}");
                return Err(Problem::new(Code::InvalidRequest, detail));
            };
            shortest = Some(shortest.map_or(limit, |shortest| shortest.min(limit)));
        }
        Ok(shortest.and_then(|limit| now.checked_add(limit)).map(Self))
    }
}

impl<S: Sync> axum::extract::OptionalFromRequestParts<S> for Deadline {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut http::request::Parts,
        _state: &S,
    ) -> Result<Option<Self>, Problem> {
        Ok(parts.extensions.get::<Self>().copied())
    }
}

fn parse_ms(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_millis)
}

fn parse_timeout(text: &str) -> Option<Duration> {
    if let Some(ms) = text.strip_suffix("ms") {
        return parse_ms(ms.trim_end());
    }
    let seconds: f64 = text.strip_suffix('s').unwrap_or(text).trim_end().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn parse_grpc(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[track_caller]
    fn check(name: &'static str, value: &str, left_ms: Option<u128>) {
        let now = Clock::manual(0).now();
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        let deadline = Deadline::from_headers(&headers, now).ok().flatten();
        assert_eq!(deadline.map(|deadline| (deadline.0 - now).as_millis()), left_ms, "{value}");
    }

    #[test]
    fn every_form_of_a_time_limit_is_read() {
        check(headers::DEADLINE_MS, "1500", Some(1500));
        check(headers::REQUEST_TIMEOUT, "2", Some(2000));
        check(headers::REQUEST_TIMEOUT, "0.25", Some(250));
        check(headers::REQUEST_TIMEOUT, "2s", Some(2000));
        check(headers::REQUEST_TIMEOUT, "500ms", Some(500));
        check(headers::GRPC_TIMEOUT, "2M", Some(120_000));
        check(headers::GRPC_TIMEOUT, "70m", Some(70));
        for wrong in ["", "soon", "-1", "NaN", "inf", "1e300", "12 parsecs"] {
            check(headers::REQUEST_TIMEOUT, wrong, None);
        }
        for wrong in ["", "m", "123456789m", "5x", "5é"] {
            check(headers::GRPC_TIMEOUT, wrong, None);
        }
    }
}
