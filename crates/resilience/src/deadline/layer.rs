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
}
