//! What topics, subscriptions and queues look like right now, and seeks.

use std::sync::Arc;

use futures_util::future::join_all;
use messaging::config::Start;
use messaging::dispatch::Depth;
use messaging::ids::{Millis, Name, Offset, SubscriptionId};
use messaging::partition::{PartitionCommand, PartitionReply};
use messaging::queue;
use messaging::subscription::{self, Position};
use serde::{Deserialize, Serialize};

use crate::admin::position;
use crate::broker::Broker;
use crate::directory::{PartitionHandle, QueueHandle, TopicHandle};
use crate::error::{LogError, MessageError, NotFound};
use crate::read::From;
use crate::route::{At, By, Kind, Op, propose_leading};
use crate::state_machine::{PartitionMachine, QueueMachine};

/// One partition.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct PartitionStats {
    /// Offset of the oldest message.
    pub earliest: u64,
    /// Offset of the next message.
    pub next: u64,
    /// Bytes of all messages.
    pub bytes: u64,
}

/// A subscription, over all partitions.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SubscriptionStats {
    /// Messages not settled.
    pub lag: u64,
    /// Who holds what.
    pub depth: Depth,
    /// When the oldest unsettled message was published, at the latest.
    pub oldest_ms: Option<Millis>,
    /// What has happened so far.
    pub counters: subscription::Counters,
}

/// A queue.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct QueueStats {
    /// Messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many stand where, by priority from 0 on.
    pub depths: Vec<Depth>,
    /// When the oldest message was sent.
    pub oldest_ms: Option<Millis>,
    /// What has happened so far.
    pub counters: queue::Counters,
}

impl Broker {
    /// The partitions of a topic, in order.
    pub(crate) async fn topic_stats(
        &self,
        topic: &TopicHandle,
    ) -> Result<Vec<PartitionStats>, MessageError> {
        let looks = topic.partitions.iter().map(|partition| self.run(partition, PartitionLook));
        join_all(looks).await.into_iter().collect()
    }

    /// Where a subscription is.
    pub(crate) async fn subscription_stats(
        &self,
        topic: &TopicHandle,
        name: &Name,
    ) -> Result<SubscriptionStats, MessageError> {
        let id = topic.subscription(name)?.entry.id;
        let look = SubscriptionLook { id };
        let looks = topic.partitions.iter().map(|partition| self.run(partition, look));
        let mut sum = SubscriptionStats::default();
        for here in join_all(looks).await {
            sum.add(&here?.unwrap_or_default());
        }
        Ok(sum)
    }

    /// What is in a queue.
    pub(crate) async fn queue_stats(
        &self,
        queue: &Arc<QueueHandle>,
    ) -> Result<QueueStats, MessageError> {
        self.run(queue, QueueLook).await
    }

    /// Moves a subscription. Answers the new position in each partition.
    pub(crate) async fn seek(
        &self,
        (topic, name): (&Name, &Name),
        to: &From,
    ) -> Result<Vec<u64>, MessageError> {
        let topic = self.directory().topic(topic)?;
        let id = topic.subscription(name)?.entry.id;
        let mut positions = Vec::with_capacity(topic.partitions.len());
        for number in 0..topic.partition_count() {
            let partition = topic.partition(number)?;
            let sought = self.run(partition, Seek { id, to: start_in(to, number) }).await?;
            positions.push(sought.ok_or_else(|| gone(&topic, name))?);
        }
        Ok(positions)
    }
}

/// A look at a partition, by any member.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct PartitionLook;

impl Op for PartitionLook {
    const KIND: Kind = Kind::PartitionLook;
    const BY: By = By::AnyMember;
    type On = PartitionHandle;
    type Answer = PartitionStats;

    async fn run(self, at: At<PartitionHandle>) -> Result<PartitionStats, MessageError> {
        let look = |machine: &PartitionMachine| PartitionStats {
            earliest: machine.0.earliest().0,
            next: machine.0.next().0,
            bytes: machine.0.spans().bytes(),
        };
        Ok(at.group.query(look).await?)
    }
}

/// A look at a subscription in one partition, by its leader. None: it is not there.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct SubscriptionLook {
    id: SubscriptionId,
}

impl Op for SubscriptionLook {
    const KIND: Kind = Kind::SubscriptionLook;
    const BY: By = By::Leader;
    type On = PartitionHandle;
    type Answer = Option<SubscriptionStats>;

    async fn run(self, at: At<PartitionHandle>) -> Result<Option<SubscriptionStats>, MessageError> {
        let (now, id) = (at.broker.now_ms(), self.id);
        let look = move |machine: &mut PartitionMachine| {
            machine.0.subscription_mut(id)?.advance(now);
            let next = machine.0.next().0;
            let subscription = machine.0.subscription(id)?;
            let oldest = Offset(subscription.floor());
            Some(SubscriptionStats {
                lag: subscription.lag(next),
                depth: subscription.dispatcher().depth(),
                oldest_ms: machine.0.spans().published_by(oldest),
                counters: subscription.counters(),
            })
        };
        let looked = at.group.local(look).await?;
        at.confirm().await?;
        Ok(looked)
    }
}

/// A look at a queue, by its leader.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct QueueLook;

impl Op for QueueLook {
    const KIND: Kind = Kind::QueueLook;
    const BY: By = By::Leader;
    type On = QueueHandle;
    type Answer = QueueStats;

    async fn run(self, at: At<QueueHandle>) -> Result<QueueStats, MessageError> {
        let now = at.broker.now_ms();
        let look = move |machine: &mut QueueMachine| {
            machine.0.advance(now);
            QueueStats {
                messages: machine.0.len(),
                bytes: machine.0.bytes(),
                depths: machine.0.dispatcher().depths().collect(),
                oldest_ms: machine.0.oldest_ms(),
                counters: machine.0.counters(),
            }
        };
        let looked = at.group.local(look).await?;
        at.confirm().await?;
        Ok(looked)
    }
}

/// Moves a subscription in one partition, by its leader. None: it is not there.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Seek {
    id: SubscriptionId,
    /// Nothing: it stays.
    to: Option<Start>,
}

impl Op for Seek {
    const KIND: Kind = Kind::Seek;
    const BY: By = By::Leader;
    type On = PartitionHandle;
    type Answer = Option<u64>;

    async fn run(self, at: At<PartitionHandle>) -> Result<Option<u64>, MessageError> {
        let Self { id, to } = self;
        let At { broker, handle: partition, group, .. } = &at;
        let Some(to) = to else {
            let floor = group.query(move |machine| machine.0.subscription(id).map(|it| it.floor()));
            return Ok(Some(floor.await?.unwrap_or_default()));
        };
        let to: Position = position(group, to).await?;
        let seek = (broker.payload(&PartitionCommand::Seek { id, to }), false);
        let sought = match propose_leading(group, at.term()?, seek).await? {
            PartitionReply::Sought(offset) => Some(offset.0),
            PartitionReply::NoSubscription => None,
            _ => return Err(LogError::Misunderstood.into()),
        };
        partition.port.wake();
        Ok(sought)
    }
}

impl SubscriptionStats {
    fn add(&mut self, other: &Self) {
        self.lag += other.lag;
        self.depth.ready += other.depth.ready;
        self.depth.in_flight += other.depth.in_flight;
        self.depth.delayed += other.depth.delayed;
        self.depth.doomed += other.depth.doomed;
        self.oldest_ms = self.oldest_ms.into_iter().chain(other.oldest_ms).min();
        self.counters.acked += other.counters.acked;
        self.counters.redelivered += other.counters.redelivered;
        self.counters.dead_lettered += other.counters.dead_lettered;
        self.counters.discarded += other.counters.discarded;
    }
}

/// Where to go in this partition; `None`: stay.
fn start_in(to: &From, partition: u32) -> Option<Start> {
    match to {
        From::Start(start) => Some(*start),
        From::Offsets(offsets) => {
            let offset = offsets.iter().find(|(number, _)| *number == partition)?.1;
            Some(Start::Offset(offset))
        }
    }
}

fn gone(topic: &TopicHandle, name: &Name) -> NotFound {
    NotFound::Subscription { topic: topic.name.clone(), name: name.clone() }
}
