//! Waiting for messages: one request of a line looks, the others stand behind it.
//!
//! When something arrives, one request wakes and not all of them; and who came first is served
//! first.

use std::time::{Duration, Instant};

use chassis::deadline::Deadline;
use chassis::long_poll;
use messaging::ids::Millis;
use tokio_util::sync::CancellationToken;

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

impl Patience {
    /// How long to wait, counted from `now`. What is kept back lets the empty answer arrive in
    /// time.
    pub(crate) fn left(self, now: Instant) -> Duration {
        const MARGIN: Duration = Duration::from_millis(50);
        let Some(deadline) = self.deadline else { return self.wait };
        let left = deadline.remaining(now).unwrap_or_default();
        self.wait.min(left.saturating_sub(MARGIN))
    }
}

impl Broker {
    /// Asks until something is answered, patience ends or this broker drains: whoever is asked
    /// may end its wait before that, or lead no more.
    pub(crate) async fn patiently<T, F: Future<Output = Result<Vec<T>, MessageError>>>(
        &self,
        gone: &CancellationToken,
        patience: Patience,
        ask: impl Fn(u64) -> F,
    ) -> Result<Vec<T>, MessageError> {
        let clock = &self.shared.clock;
        let now = clock.now();
        let until = now + patience.left(now);
        loop {
            let left = until.saturating_duration_since(clock.now());
            let asked = ask(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
            if left.is_zero() {
                return asked.await;
            }
            let outcome = tokio::select! {
                biased;
                outcome = asked => outcome,
                () = self.draining().cancelled() => return Ok(Vec::new()),
            };
            let nothing = match &outcome {
                Ok(messages) => messages.is_empty(),
                Err(error) => error.may_pass() && !gone.is_cancelled(),
            };
            if !nothing || until <= clock.now() || self.draining().is_cancelled() {
                return outcome;
            }
            tokio::time::sleep(MIN_PAUSE * 10).await;
        }
    }

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
