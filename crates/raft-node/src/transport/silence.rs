//! How long the other side may say nothing.

use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;

/// What the other side says next, or `None` if it says nothing for this long.
///
/// The wait has two halves: when this process was paused, the first is over at once, and what has
/// arrived meanwhile is read within the second.
pub(super) async fn heard_within<F: Future>(silence: Duration, next: F) -> Option<F::Output> {
    let mut next = pin!(next);
    match timeout(silence / 2, next.as_mut()).await {
        Ok(heard) => Some(heard),
        Err(_elapsed) => timeout(silence / 2, next).await.ok(),
    }
}
