//! Answers that wait for something to happen.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::deadline::Deadline;

/// The longest a long poll waits, whatever it asks for: proxies in between cut longer silences.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

/// Kept back from a caller's deadline, so that the empty answer still arrives in time.
const MARGIN: Duration = Duration::from_millis(50);

/// Waits for `event`, but not past `wait`, not past the caller's deadline, and not into a drain.
/// `None` means that nothing happened: answer with what there is.
pub async fn wait<T>(
    event: impl Future<Output = T>,
    wait: Duration,
    deadline: Option<Deadline>,
    draining: &CancellationToken,
) -> Option<T> {
    tokio::select! {
        biased;
        value = event => Some(value),
        () = draining.cancelled() => None,
        () = tokio::time::sleep_until(until(wait, deadline)) => None,
    }
}

fn until(wait: Duration, deadline: Option<Deadline>) -> tokio::time::Instant {
    let end = tokio::time::Instant::now() + wait.min(MAX_WAIT);
    let answer_by =
        |deadline: Deadline| -> Instant { deadline.0.checked_sub(MARGIN).unwrap_or(deadline.0) };
    deadline.map_or(end, |deadline| end.min(answer_by(deadline).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_the_event_the_wait_or_the_drain() {
        let draining = CancellationToken::new();
        let minute = Duration::from_secs(60);
        assert_eq!(wait(async { 7 }, minute, None, &draining).await, Some(7));
        let never = std::future::pending::<()>;
        assert_eq!(wait(never(), minute, None, &draining).await, None);
        draining.cancel();
        assert_eq!(wait(never(), minute, None, &draining).await, None);
    }
}
