//! Until when a keeper sleeps.

use std::time::Duration;

use messaging::ids::Millis;

use super::Keep;
use crate::error::MessageError;
use crate::route::At;

/// How long progress is gathered before it is reported: what a restart may deliver again at once.
const GATHER: Duration = Duration::from_millis(50);
/// After a failure, above all a dead-letter queue that is full.
const RETRY: Duration = Duration::from_secs(1);
/// Looks at least this often, as clocks are set and delays are long.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// When to look again.
pub(crate) enum Next {
    /// There was more than one look takes.
    Now,
    /// When woken, or at this time.
    Due(Option<Millis>),
}

pub(super) async fn until<H: Keep>(at: &At<H>, next: Result<Next, MessageError>) {
    let pause = match next {
        Ok(Next::Now) => Duration::ZERO,
        Ok(Next::Due(due)) => due.map_or(MAX_SLEEP, |due| {
            Duration::from_millis(due.saturating_sub(at.broker.now_ms())).min(MAX_SLEEP)
        }),
        Err(error) => {
            if !at.handle.port().gone.is_cancelled() {
                let name = at.handle.title();
                tracing::debug!(name, %error, "keeping a queue or partition is put off");
            }
            return tokio::time::sleep(RETRY).await;
        }
    };
    tokio::select! {
        () = tokio::time::sleep(pause) => (),
        () = at.handle.port().keeper.notified() => tokio::time::sleep(GATHER).await,
    }
}
