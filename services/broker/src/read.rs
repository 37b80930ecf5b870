//! Reading a topic without a subscription: pages, long polls, live streams.

use std::sync::Arc;
use std::time::Duration;

use messaging::config::Start;
use messaging::ids::{Name, Offset};
use messaging::partition::Span;
use serde::{Deserialize, Serialize};

use crate::broker::Broker;
use crate::directory::{PartitionHandle, TopicHandle};
use crate::error::{MessageError, NotFound};
use crate::hub::Live;
use crate::log::{self, Published, Want};
use crate::receive::MAX_ANSWER_BYTES;
use crate::route::{At, By, Kind, Moment, Op};
use crate::wait::{Looked, Source};

/// How long a partition is asked to wait at a time.
const GROWN_MS: u64 = 30_000;
/// Before a partition that cannot be asked is asked again.
const PAUSE: Duration = Duration::from_millis(50);
/// Spans looked up for one page.
const SPANS: usize = 16;

/// A reader of some partitions of a topic: where it is in each.
pub(crate) struct Reader {
    broker: Broker,
    topic: Arc<TopicHandle>,
    positions: Vec<Position>,
    max: usize,
    /// The position that is read first next time, so that a busy partition starves none.
    turn: usize,
}

struct Position {
    partition: u32,
    offset: u64,
    /// The moment when it was last looked at.
    seen: Moment,
}

/// Where to read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// The same place in every partition.
    Start(Start),
    /// An offset for each of these partitions.
    Offsets(Vec<(u32, u64)>),
}

/// A message with its partition.
#[derive(Debug)]
pub(crate) struct ReadMessage {
    /// Which partition.
    pub partition: u32,
    /// The message.
    pub message: Published,
}

impl Broker {
    /// A reader of one partition or of all, `max` messages at a time.
    pub(crate) async fn reader(
        &self,
        topic: &Name,
        partition: Option<u32>,
        from: &From,
        max: usize,
    ) -> Result<Reader, MessageError> {
        let topic = self.directory().topic(topic)?;
        let partitions = match (partition, from) {
            (Some(partition), _) => vec![partition],
            (None, From::Offsets(offsets)) => offsets.iter().map(|(number, _)| *number).collect(),
            (None, From::Start(_)) => (0..topic.partition_count()).collect(),
        };
        let mut positions = Vec::with_capacity(partitions.len());
        for number in partitions {
            let handle = topic.partition(number)?;
            let offset = match from {
                From::Start(Start::Offset(offset)) => *offset,
                From::Start(Start::Earliest) => 0,
                From::Start(from) => self.run(handle, Locate { from: *from }).await?,
                From::Offsets(offsets) => {
                    offsets.iter().find(|(other, _)| *other == number).map_or(0, |(_, at)| *at)
                }
            };
            positions.push(Position { partition: number, offset, seen: Moment::default() });
        }
        if let [one] = &positions[..] {
            let handle = topic.partition(one.partition)?;
            let next = self.run(handle, Locate { from: Start::Latest }).await?;
            if next < one.offset {
                return Err(MessageError::Future { offset: one.offset, next });
            }
        }
        Ok(Reader { broker: self.clone(), topic, positions, max, turn: 0 })
    }
}

impl Reader {
    /// Where it is: the offset in a single partition, `partition:offset,…` in several.
    #[must_use]
    pub(crate) fn cursor(&self) -> String {
        match &self.positions[..] {
            [one] => one.offset.to_string(),
            many => {
                let text = many.iter().map(|at| format!("{}:{}", at.partition, at.offset));
                text.collect::<Vec<_>>().join(",")
            }
        }
    }

    /// Where it is in each partition it reads.
    pub(crate) fn positions(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.positions.iter().map(|at| (at.partition, at.offset))
    }

    /// From here on as it is published.
    pub(crate) fn live(self) -> Result<Live, MessageError> {
        Live::new(&self.broker, &self.topic, self.positions())
    }
}

/// Where something is in a partition, by any member.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Locate {
    pub(crate) from: Start,
}

impl Op for Locate {
    const KIND: Kind = Kind::Locate;
    const BY: By = By::AnyMember;
    type On = PartitionHandle;
    type Answer = u64;

    async fn run(self, at: At<PartitionHandle>) -> Result<u64, MessageError> {
        Ok(match self.from {
            Start::Offset(offset) => offset,
            Start::Earliest => 0,
            Start::Time(time) => log::offset_at(&at.group, time).await?.0,
            Start::Latest => at.group.query(|machine| machine.0.next()).await?.0,
        })
    }
}

/// The next messages of one partition, by any member.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) from: u64,
    pub(crate) max: usize,
}

/// See [`Page`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Paged {
    pub(crate) messages: Vec<Published>,
    seen: Moment,
}

impl Op for Page {
    const KIND: Kind = Kind::Page;
    const BY: By = By::AnyMember;
    type On = PartitionHandle;
    type Answer = Paged;

    async fn run(self, at: At<PartitionHandle>) -> Result<Paged, MessageError> {
        let Self { from, max } = self;
        let (group, offset) = (&at.group, from);
        let seen = at.handle.port.moment(group);
        let from = Offset(offset);
        let mut spans = group.query(move |machine| machine.0.spans().from(from, SPANS)).await?;
        // A position that retention has passed goes on with the oldest message.
        let from = spans.first().map_or(offset, |span| span.first.0.max(offset));
        let enough = from.saturating_add(max as u64);
        spans.retain(|span| span.first.0 < enough);
        let (mut count, mut spans_left) = (0, spans.len());
        while 1 < spans_left && MAX_ANSWER_BYTES < bytes(&spans[..spans_left]) {
            spans_left -= 1;
        }
        let messages = log::published(group, &spans[..spans_left], |offset| {
            if offset < from {
                return Want::Skip;
            }
            count += 1;
            if count <= max { Want::Take } else { Want::Stop }
        });
        Ok(Paged { messages: messages.await?, seen })
    }
}

/// Waits until a partition has more than it had, at any member.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Grown {
    seen: Moment,
    wait_ms: u64,
}

impl Op for Grown {
    const KIND: Kind = Kind::Grown;
    const BY: By = By::AnyMember;
    type On = PartitionHandle;
    type Answer = ();

    async fn run(self, at: At<PartitionHandle>) -> Result<(), MessageError> {
        let (wait, draining) = (Duration::from_millis(self.wait_ms), at.broker.draining());
        let growth = at.handle.port.after(&at.group, self.seen);
        if chassis::long_poll::wait(growth, wait, None, draining).await.is_none() {
            // It may be draining: nobody has to ask without a pause.
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    fn wait_ms(&self) -> u64 {
        self.wait_ms
    }
}

fn bytes(spans: &[Span]) -> u64 {
    spans.iter().map(|span| span.bytes).sum()
}

impl Source for Reader {
    type Message = ReadMessage;

    async fn take(&mut self) -> Result<Looked<ReadMessage>, MessageError> {
        let mut looked = Looked::default();
        let count = self.positions.len();
        let mut read_to = Vec::new();
        for step in 0..count {
            let left = self.max - looked.messages.len();
            if left == 0 {
                break;
            }
            let number = (self.turn + step) % count;
            let at = &mut self.positions[number];
            let page = Page { from: at.offset, max: left };
            let paged = self.broker.run(self.topic.partition(at.partition)?, page).await?;
            let messages = paged.messages;
            at.seen = paged.seen;
            read_to.extend(messages.last().map(|last| (number, last.offset + 1)));
            let partition = at.partition;
            let messages = messages.into_iter();
            looked.messages.extend(messages.map(|message| ReadMessage { partition, message }));
        }
        for (number, offset) in read_to {
            self.positions[number].offset = offset;
        }
        self.turn = (self.turn + 1) % count.max(1);
        Ok(looked)
    }

    async fn changed(&mut self) {
        let (broker, topic) = (&self.broker, &self.topic);
        let changes = self.positions.iter().map(|at| {
            Box::pin(async move {
                let grown = Grown { seen: at.seen, wait_ms: GROWN_MS };
                let Ok(partition) = topic.partition(at.partition) else { return };
                if broker.run(partition, grown).await.is_err() {
                    tokio::time::sleep(PAUSE).await;
                }
            })
        });
        futures_util::future::select_all(changes).await;
    }
}

impl Reader {
    /// Waits for the next messages.
    async fn next(&mut self) -> Result<Vec<ReadMessage>, MessageError> {
        loop {
            let looked = self.take().await?;
            if !looked.messages.is_empty() {
                return Ok(looked.messages);
            }
            let gone = self.topic.partitions[0].port.gone.clone();
            tokio::select! {
                () = self.changed() => (),
                () = gone.cancelled() => {
                    return Err(NotFound::Topic(self.topic.name.clone()).into());
                }
            }
        }
    }

    /// The first messages within this patience, or none.
    pub(crate) async fn read(
        &mut self,
        patience: crate::wait::Patience,
    ) -> Result<Vec<ReadMessage>, MessageError> {
        let looked = self.take().await?;
        if !looked.messages.is_empty() || patience.wait.is_zero() {
            return Ok(looked.messages);
        }
        let draining = self.broker.draining().clone();
        let wait =
            chassis::long_poll::wait(self.next(), patience.wait, patience.deadline, &draining);
        wait.await.unwrap_or(Ok(Vec::new()))
    }
}
