//! What topics, subscriptions and queues look like right now, and seeks.

use std::sync::Arc;

use messaging::config::Start;
use messaging::dispatch::Depth;
use messaging::ids::{Millis, Name, Offset};
use messaging::partition::{PartitionCommand, PartitionReply};
use messaging::queue;
use messaging::subscription::{self, Position};

use crate::admin::position;
use crate::broker::Broker;
use crate::directory::{QueueHandle, TopicHandle};
use crate::error::{LogError, MessageError, NotFound};
use crate::read::From;

/// One partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartitionStats {
    /// Offset of the oldest message.
    pub earliest: u64,
    /// Offset of the next message.
    pub next: u64,
    /// Bytes of all messages.
    pub bytes: u64,
}

/// A subscription, over all partitions.
#[derive(Clone, Copy, Debug, Default)]
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
#[derive(Clone, Debug)]
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
        let mut stats = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let look = |machine: &crate::state_machine::PartitionMachine| PartitionStats {
                earliest: machine.0.earliest().0,
                next: machine.0.next().0,
                bytes: machine.0.spans().bytes(),
            };
            stats.push(partition.served.group()?.query(look).await?);
        }
        Ok(stats)
    }

    /// Where a subscription is.
    pub(crate) async fn subscription_stats(
        &self,
        topic: &TopicHandle,
        name: &Name,
    ) -> Result<SubscriptionStats, MessageError> {
        let id = topic.subscription(name)?.entry.id;
        let now = self.now_ms();
        let mut sum = SubscriptionStats::default();
        for partition in &topic.partitions {
            let look = move |machine: &mut crate::state_machine::PartitionMachine| {
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
            if let Some(here) = partition.served.group()?.local(look).await? {
                sum.add(&here);
            }
        }
        Ok(sum)
    }

    /// What is in a queue.
    pub(crate) async fn queue_stats(
        &self,
        queue: &QueueHandle,
    ) -> Result<QueueStats, MessageError> {
        let now = self.now_ms();
        let look = move |machine: &mut crate::state_machine::QueueMachine| {
            machine.0.advance(now);
            QueueStats {
                messages: machine.0.len(),
                bytes: machine.0.bytes(),
                depths: machine.0.dispatcher().depths().collect(),
                oldest_ms: machine.0.oldest().map(|stored| stored.sent_ms),
                counters: machine.0.counters(),
            }
        };
        Ok(queue.served.group()?.local(look).await?)
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
            let group = partition.served.group()?;
            let Some(to) = start_in(to, number) else {
                positions.push(floor(&topic, number, id).await?);
                continue;
            };
            let to: Position = position(group, to).await?;
            match group.propose(self.payload(&PartitionCommand::Seek { id, to })).await?.reply {
                PartitionReply::Sought(offset) => positions.push(offset.0),
                PartitionReply::NoSubscription => return Err(gone(&topic, name).into()),
                _ => return Err(LogError::Misunderstood.into()),
            }
            partition.served.changed.notify_one();
        }
        Ok(positions)
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

async fn floor(
    topic: &Arc<TopicHandle>,
    partition: u32,
    id: messaging::ids::SubscriptionId,
) -> Result<u64, MessageError> {
    let group = topic.partition(partition)?.served.group()?;
    let floor = group.query(move |machine| machine.0.subscription(id).map(|it| it.floor()));
    Ok(floor.await?.unwrap_or_default())
}

fn gone(topic: &TopicHandle, name: &Name) -> NotFound {
    NotFound::Subscription { topic: topic.name.clone(), name: name.clone() }
}
