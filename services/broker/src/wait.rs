//! Waiting for messages: one request of a line looks, the others stand behind it.
//!
//! When something arrives, one request wakes and not all of them; and who came first is served
//! first.

use std::time::Duration;

use chassis::deadline::Deadline;
use chassis::long_poll;
use messaging::ids::Millis;

use crate::broker::Broker;
use crate::directory::Line;
use crate::error::MessageError;

/// How long a request waits for its first message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Patience {
    /// Zero: not at all.
    pub wait: Duration,
    /// When its caller gives up.
    pub deadline: Option<Deadline>,
}

/// Where messages come from.
pub(crate) trait Source {
    type Message;

    /// Takes what is there. If there is nothing: when something may be there without a change.
    async fn take(&mut self) -> Result<Looked<Self::Message>, MessageError>;

    /// Resolves when a look may find more than before.
    async fn changed(&mut self);
}

/// What one look found.
pub(crate) struct Looked<T> {
    pub(crate) messages: Vec<T>,
    pub(crate) next_due: Option<Millis>,
}

impl<T> Default for Looked<T> {
    fn default() -> Self {
        Self { messages: Vec::new(), next_due: None }
    }
}

/// Looks no more often than this when something is due but does not come.
const MIN_PAUSE: Duration = Duration::from_millis(1);
/// Looks at least this often: a clock that was set back must not hold anyone.
const MAX_PAUSE: Duration = Duration::from_secs(5);

impl Broker {
    /// The first messages of `source`, or none when patience or the server ends.
    pub(crate) async fn wait_for<S: Source>(
        &self,
        line: &Line,
        mut source: S,
        patience: Patience,
    ) -> Result<Vec<S::Message>, MessageError> {
        if patience.wait.is_zero() {
            return Ok(source.take().await?.messages);
        }
        let Ok(_place) = line.places.try_acquire() else {
            return Err(MessageError::TooManyWaiting { max: line.max });
        };
        let look = async {
            let _turn = line.turn.acquire().await.expect("lines are never closed");
            loop {
                let looked = source.take().await?;
                if !looked.messages.is_empty() {
                    return Ok(looked.messages);
                }
                let pause = looked.next_due.map_or(MAX_PAUSE, |due| {
                    Duration::from_millis(due.saturating_sub(self.now_ms()))
                });
                tokio::select! {
                    () = source.changed() => (),
                    () = tokio::time::sleep(pause.clamp(MIN_PAUSE, MAX_PAUSE)) => (),
                }
            }
        };
        let Patience { wait, deadline } = patience;
        long_poll::wait(look, wait, deadline, self.draining()).await.unwrap_or(Ok(Vec::new()))
    }
}
