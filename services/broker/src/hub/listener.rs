//! Somebody who listens to partitions of a topic.

use std::ops::Range;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream, SelectAll};
use tokio::sync::watch;

use super::ring::{Look, Run};
use super::tail::{Seen, Tail};
use crate::broker::Broker;
use crate::directory::{PartitionHandle, TopicHandle};
use crate::error::{LogError, MessageError, NotFound};
use crate::handlers::outgoing;
use crate::read::{Page, ReadMessage};

/// Messages that are read at a time by one that is behind.
const PAGE: usize = 100;

/// Messages of one partition, some of a run.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) partition: u32,
    pub(crate) run: Arc<Run>,
    pub(crate) range: Range<usize>,
}

impl Part {
    /// No more messages than there are places left, if there is a limit.
    pub(crate) fn keep(&mut self, left: Option<u32>) {
        let left = left.map_or(usize::MAX, |left| left as usize);
        self.range.end = self.range.end.min(self.range.start.saturating_add(left));
    }
}

/// Listens to some partitions of a topic. None is asked for more before what it brought was taken.
pub(crate) struct Live {
    parts: SelectAll<BoxStream<'static, Result<Part, MessageError>>>,
}

impl Live {
    /// From these offsets on.
    pub(crate) fn new(
        broker: &Broker,
        topic: &TopicHandle,
        positions: impl IntoIterator<Item = (u32, u64)>,
    ) -> Result<Self, MessageError> {
        let mut parts = SelectAll::new();
        for (number, offset) in positions {
            let partition = topic.partition(number)?;
            parts.push(Listener::new(broker, partition, offset).parts());
        }
        Ok(Self { parts })
    }

    /// The next messages. After an error there are no more.
    pub(crate) async fn next(&mut self) -> Result<Part, MessageError> {
        self.parts.next().await.unwrap_or_else(|| Err(LogError::Stopped.into()))
    }
}

/// Listens to one partition.
struct Listener {
    broker: Broker,
    partition: Arc<PartitionHandle>,
    tail: Arc<Tail>,
    changes: watch::Receiver<()>,
    offset: u64,
}

impl Listener {
    fn new(broker: &Broker, partition: &Arc<PartitionHandle>, offset: u64) -> Self {
        let (tail, changes) = broker.tail(partition);
        Self { broker: broker.clone(), partition: partition.clone(), tail, changes, offset }
    }

    fn parts(self) -> BoxStream<'static, Result<Part, MessageError>> {
        let next = async |listener: Option<Self>| {
            let mut listener = listener?;
            Some(match listener.next().await {
                Ok(part) => (Ok(part), Some(listener)),
                Err(error) => (Err(error), None),
            })
        };
        stream::unfold(Some(self), next).boxed()
    }

    async fn next(&mut self) -> Result<Part, MessageError> {
        loop {
            // Before the look: what comes after it is a change.
            self.changes.mark_unchanged();
            match self.tail.look(self.offset) {
                Seen::Ring(Look::Run(run)) => {
                    let range = run.from(self.offset);
                    self.offset = run.end();
                    if !range.is_empty() {
                        return Ok(self.part(run, range));
                    }
                }
                Seen::Ring(Look::Nothing) => {
                    // Who makes changes is kept by `tail`.
                    let _ = self.changes.changed().await;
                }
                Seen::Ring(Look::Behind(start)) => {
                    if let Some(run) = self.page(start).await? {
                        let range = run.from(self.offset);
                        self.offset = run.end();
                        return Ok(self.part(Arc::new(run), range));
                    }
                }
                Seen::Over if self.partition.port.gone.is_cancelled() => {
                    return Err(NotFound::Topic(self.partition.topic.clone()).into());
                }
                Seen::Over => return Err(LogError::Stopped.into()),
            }
        }
    }

    fn part(&self, run: Arc<Run>, range: Range<usize>) -> Part {
        Part { partition: self.partition.number, run, range }
    }

    /// What the ring, which begins at `start`, has no more.
    async fn page(&mut self, start: u64) -> Result<Option<Run>, MessageError> {
        let page = Page { from: self.offset, max: PAGE };
        let messages = self.broker.run(&self.partition, page).await?.messages;
        let Some(last) = messages.last() else {
            // Retention has dropped all that was before it.
            self.offset = start;
            return Ok(None);
        };
        let end = last.offset + 1;
        let number = self.partition.number;
        let write = |message| outgoing::text(ReadMessage { partition: number, message });
        Ok(Some(Run::new(messages, end, write)))
    }
}
