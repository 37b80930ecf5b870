//! Runs a call, but no longer than its deadline.

use std::future::Future;

use super::Deadline;

/// The deadline passed. What the call did meanwhile is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deadline passed before an answer came")]
pub struct DeadlineError;

/// Waits for `call`, until `deadline` at the latest; then drops it.
///
/// # Errors
///
/// When the deadline came first.
pub async fn within<F: Future>(deadline: Deadline, call: F) -> Result<F::Output, DeadlineError> {
    tokio::time::timeout_at(deadline.at().into(), call).await.map_err(|_| DeadlineError)
}

tokio::task_local! {
    static CALLERS: Deadline;
}

/// Runs `work` for a caller who waits until `deadline`: calls made in it end no later, and tell
/// the next hop what is left. Work that is spawned has no caller.
pub async fn for_caller<F: Future>(deadline: Deadline, work: F) -> F::Output {
    CALLERS.scope(deadline, work).await
}

/// The deadline of the caller that this code works for, if the caller gave one.
#[must_use]
pub fn of_caller() -> Option<Deadline> {
    CALLERS.try_with(|deadline| *deadline).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Clock, SystemClock};

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_with_its_deadline() {
        let deadline = Deadline::after(SystemClock.now(), Duration::from_secs(1));
        assert_eq!(within(deadline, std::future::pending::<()>()).await, Err(DeadlineError));
        assert_eq!(within(deadline, async { 7 }).await, Ok(7));
    }

    #[tokio::test]
    async fn a_callers_deadline_is_known_to_the_work_and_to_nothing_else() {
        let deadline = Deadline::after(SystemClock.now(), Duration::from_secs(1));
        assert_eq!(for_caller(deadline, async { of_caller() }).await, Some(deadline));
        assert_eq!(of_caller(), None);
    }
}
