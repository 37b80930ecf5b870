//! Live readers: each wants what comes next, and waits until it comes.

use std::sync::Arc;
use std::time::Duration;

use messaging::stream::{Lifetime, StreamConfig, StreamPath, StreamRefused};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::{Grown, Start, View};
use crate::broker::Broker;
use crate::directory::StreamsHandle;
use crate::error::MessageError;

/// How long a stream is asked to wait at a time.
const GROWN: Duration = Duration::from_secs(20);
/// A stream that expires when it is idle is used so often in its time while somebody waits for it.
const USES: u32 = 3;
/// And no more often than this.
const MIN_USE: Duration = Duration::from_millis(250);

/// A reader that stays.
pub(crate) struct Live {
    broker: Broker,
    path: StreamPath,
    home: Arc<StreamsHandle>,
    /// Where it is.
    view: View,
    _place: OwnedSemaphorePermit,
}

/// How a wait ended.
pub(crate) enum Waiting {
    /// There is more, or the stream has ended.
    Over,
    /// There was nothing in this time.
    TimedOut,
}

impl Broker {
    /// A reader of a stream, from this position on. What is there is in its first view.
    pub(crate) async fn live_stream(
        &self,
        path: &StreamPath,
        start: Start,
    ) -> Result<Live, MessageError> {
        let (home, view) = self.read_stream(path, start).await?;
        let Ok(place) = home.places.clone().try_acquire_owned() else {
            return Err(MessageError::TooManyWaiting { max: self.limits().max_waiters });
        };
        Ok(Live { broker: self.clone(), path: path.clone(), home, view, _place: place })
    }
}

impl Live {
    /// What it found last.
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// The group that the stream lives in.
    pub(crate) fn home(&self) -> &StreamsHandle {
        &self.home
    }

    /// Goes on behind what it found last.
    pub(crate) async fn read_on(&mut self) -> Result<(), MessageError> {
        let start = Start::At(self.view.next);
        let (_, view) = self.broker.look_at_stream(&self.path, start).await?;
        if view.id != self.view.id {
            // Its place was taken by another, with other offsets.
            return Err(StreamRefused::NoStream.into());
        }
        self.view = view;
        Ok(())
    }

    /// Waits for more, until this time at the latest, or the drain.
    pub(crate) async fn wait(&mut self, until: Instant) -> Result<Waiting, MessageError> {
        let config = self.view.config.clone();
        while self.view.appends.is_empty() && !self.view.is_end() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.broker.draining().is_cancelled() {
                return Ok(Waiting::TimedOut);
            }
            let wait = left.min(GROWN).min(pause(&config));
            let grown = Grown {
                path: self.path.clone(),
                id: self.view.id,
                tail: self.view.tail,
                wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1),
            };
            self.broker.run(&self.home, grown).await?;
            self.read_on().await?;
            self.broker.use_stream(&self.home, &self.path, &config).await;
        }
        Ok(Waiting::Over)
    }
}

/// How long a stream may wait unused that expires when it is idle.
fn pause(config: &StreamConfig) -> Duration {
    match config.lifetime {
        Lifetime::Idle(seconds) => (Duration::from_secs(seconds) / USES).max(MIN_USE),
        Lifetime::Unbounded | Lifetime::Until(_) => Duration::MAX,
    }
}
