//! What an answer means: for the message, and for the endpoint.

use std::time::Duration;

use client::webhook::{Answered, CallError};
use resilience::breaker;

/// What becomes of the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It has arrived.
    Delivered,
    /// It failed; that counts.
    Failed {
        /// For the dead letter.
        reason: String,
    },
    /// The endpoint is not there or has no time, whatever the message: that does not count.
    Away,
    /// Nothing goes there any more, until somebody says so.
    Stop {
        /// For people.
        reason: String,
    },
}

impl Judgement {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed { .. } => "failed",
            Self::Away => "away",
            Self::Stop { .. } => "stopped",
        }
    }
}

/// What the answer says of the message, of the endpoint, and how long the endpoint asks to be left
/// alone.
pub(super) fn judge(
    result: &Result<Answered, CallError>,
) -> (Judgement, breaker::Outcome, Option<Duration>) {
    use breaker::Outcome::{Cancelled, Failure, Success};
    /// For who has too much to do and does not say for how long.
    const PAUSE: Duration = Duration::from_secs(1);
    let failed = |reason: String| Judgement::Failed { reason };
    let answered = match result {
        Ok(answered) => answered,
        Err(CallError::NotReached(_)) => return (Judgement::Away, Failure, None),
        Err(error @ (CallError::HungUp | CallError::TimedOut(_))) => {
            return (failed(error.to_string()), Failure, None);
        }
        Err(error @ CallError::Forbidden(_)) => {
            let reason = format!("{error}; see broker.webhooks.allow_private");
            return (Judgement::Stop { reason }, Cancelled, None);
        }
    };
    let wait = answered.retry_after;
    let status = answered.status;
    match status {
        200..=299 => (Judgement::Delivered, Success, None),
        410 => {
            let reason = "the endpoint answered 410 Gone".to_owned();
            (Judgement::Stop { reason }, Cancelled, None)
        }
        429 => (Judgement::Away, Cancelled, wait.or(Some(PAUSE))),
        502..=504 => (Judgement::Away, Failure, wait),
        500.. => (failed(format!("the endpoint answered {status}")), Failure, wait),
        300..=399 => {
            let reason = format!("the endpoint answered {status}, and redirects are not followed");
            (failed(reason), Success, wait)
        }
        _ => (failed(format!("the endpoint answered {status}")), Success, wait),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, retry_after: Option<u64>) -> Result<Answered, CallError> {
        let retry_after = retry_after.map(Duration::from_secs);
        Ok(Answered { status, retry_after, body: Default::default() })
    }

    #[track_caller]
    fn check(status: u16, name: &str, outcome: breaker::Outcome, wait: Option<u64>) {
        let (judgement, said, waits) = judge(&answered(status, Some(7)));
        assert_eq!((judgement.name(), said), (name, outcome), "{status}");
        assert_eq!(waits.map(|wait| wait.as_secs()), wait, "{status}");
    }

    #[test]
    fn only_a_success_delivers_and_only_what_the_message_may_have_caused_counts() {
        use breaker::Outcome::{Cancelled, Failure, Success};
        check(204, "delivered", Success, None);
        check(302, "failed", Success, Some(7));
        check(400, "failed", Success, Some(7));
        check(410, "stopped", Cancelled, None);
        check(429, "away", Cancelled, Some(7));
        check(500, "failed", Failure, Some(7));
        check(503, "away", Failure, Some(7));
        check(504, "away", Failure, Some(7));
        assert!(judge(&answered(429, None)).2.is_some());
    }

    #[test]
    fn who_cannot_be_reached_costs_no_delivery_and_who_hangs_up_does() {
        let (judgement, ..) = judge(&Err(CallError::NotReached("h".to_owned())));
        assert_eq!(judgement, Judgement::Away);
        assert_eq!(judge(&Err(CallError::HungUp)).0.name(), "failed");
        assert_eq!(judge(&Err(CallError::TimedOut(Duration::ZERO))).0.name(), "failed");
    }
}
