//! What each command does to a partition.

use bytes::Bytes;
use consensus::Index;
use serde::{Deserialize, Serialize};

use super::producers::{Fenced, Judgement, Producer};
use super::spans::{self, Entry, Grain};
use super::{IDEMPOTENCY_WINDOW_MS, Partition, PartitionCommand, State};
use crate::config::{Retention, SubscriptionConfig};
use crate::frame::{self, Decoded, RecordSize};
use crate::ids::{Name, Offset, SubscriptionId};
use crate::subscription::{Position, SettleReply, Subscription};

/// What a publish appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Offset of the first message.
    pub first: Offset,
    /// How many there are.
    pub count: u64,
}

/// What a command answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartitionReply {
    /// To a publish, or to its repeat.
    Published(Published),
    /// Done.
    Done,
    /// One outcome for each message of a [`PartitionCommand::Settle`].
    Settled(Vec<SettleReply>),
    /// Where a seek went.
    Sought(Offset),
    /// There is no such subscription.
    NoSubscription,
    /// The entry is not a command of this version; nothing was done.
    NotUnderstood,
    /// To a producer's publish that was appended before.
    Repeated {
        /// What it appended; not known any more if the producer has published much since.
        result: Option<Published>,
        /// The newest number that was taken of it.
        highest: u64,
    },
    /// To a producer's publish that may not be appended.
    Fenced(Fenced),
}

impl Partition {
    /// Applies one log entry. The same entries in the same order always make the same state.
    pub fn apply(&mut self, index: Index, payload: &Bytes) -> PartitionReply {
        let Ok(Decoded { stamp, command, .. }) = frame::decode(payload) else {
            return PartitionReply::NotUnderstood;
        };
        self.state.now = self.state.now.max(stamp);
        match command {
            PartitionCommand::Publish { idempotency_key, sizes } => {
                self.publish(index, idempotency_key.as_deref(), &sizes)
            }
            PartitionCommand::PublishAs { producer, sizes } => {
                self.publish_as(index, &producer, &sizes)
            }
            PartitionCommand::Configure { version, retention } => {
                self.configure(version, retention)
            }
            PartitionCommand::Trim => {
                self.trim();
                PartitionReply::Done
            }
            PartitionCommand::PutSubscription { id, name, version, config, start } => {
                self.put_subscription(id, (name, version), config, start)
            }
            PartitionCommand::DeleteSubscription { id } => {
                match self.state.subscriptions.remove(&id) {
                    Some(_) => PartitionReply::Done,
                    None => PartitionReply::NoSubscription,
                }
            }
            PartitionCommand::Delivered { id, delivered } => {
                let epoch = self.epoch;
                self.with_subscription(id, |subscription, _| {
                    subscription.apply_delivered(&delivered, epoch);
                    PartitionReply::Done
                })
            }
            PartitionCommand::Settle { id, settle } => {
                self.with_subscription(id, |subscription, state| {
                    let next = state.next;
                    PartitionReply::Settled(subscription.apply_settle(&settle, next))
                })
            }
            PartitionCommand::Seek { id, to } => {
                self.with_subscription(id, |subscription, state| {
                    let to = to.resolve(state.earliest, state.next);
                    subscription.seek(to);
                    PartitionReply::Sought(Offset(to))
                })
            }
        }
    }

    fn publish(&mut self, index: Index, key: Option<&str>, sizes: &[RecordSize]) -> PartitionReply {
        let state = &mut self.state;
        state.results.expire(state.now);
        if let Some(first_result) = key.and_then(|key| state.results.get(key)) {
            let reply = PartitionReply::Published(*first_result);
            state.spans.close();
            return reply;
        }
        let published = state.append(index, sizes);
        if let Some(key) = key {
            let until = state.now.saturating_add(IDEMPOTENCY_WINDOW_MS);
            state.results.insert(key, published, until);
        }
        self.trim();
        PartitionReply::Published(published)
    }

    fn publish_as(
        &mut self,
        index: Index,
        producer: &Producer,
        sizes: &[RecordSize],
    ) -> PartitionReply {
        let state = &mut self.state;
        match state.producers.judge(producer, state.now) {
            Judgement::Append => {}
            // Its records are in the log and in no span.
            Judgement::Repeat { result, highest } => {
                state.spans.close();
                return PartitionReply::Repeated { result, highest };
            }
            Judgement::Fenced(fenced) => {
                state.spans.close();
                return PartitionReply::Fenced(fenced);
            }
        }
        let published = state.append(index, sizes);
        state.producers.note(producer, published, state.now);
        self.trim();
        PartitionReply::Published(published)
    }

    fn configure(&mut self, version: u64, retention: Retention) -> PartitionReply {
        // A leader may be behind the one before it.
        if version < self.state.version {
            return PartitionReply::Done;
        }
        self.state.version = version;
        if self.state.retention != retention {
            self.state.retention = retention;
            self.state.spans.close();
        }
        self.trim();
        PartitionReply::Done
    }

    fn put_subscription(
        &mut self,
        id: SubscriptionId,
        (name, version): (Name, u64),
        config: SubscriptionConfig,
        start: Position,
    ) -> PartitionReply {
        let (earliest, next) = (self.earliest().0, self.next().0);
        match self.state.subscriptions.get_mut(&id) {
            Some(subscription) => subscription.configure(version, config),
            None => {
                let start = start.resolve(earliest, next);
                let subscription = Subscription::new(name, version, config, start);
                self.state.subscriptions.insert(id, subscription);
            }
        }
        PartitionReply::Done
    }

    /// Retention. Messages that go are settled in every subscription.
    fn trim(&mut self) {
        let State { retention, now, spans, subscriptions, .. } = &mut self.state;
        let oldest = retention.age_ms.map(|age| now.saturating_sub(age));
        spans.trim(|span, bytes| {
            oldest.is_some_and(|oldest| span.last_ms < oldest)
                || retention.bytes.is_some_and(|max| max < bytes)
        });
        let earliest = spans.earliest().0;
        for subscription in subscriptions.values_mut() {
            subscription.drop_below(earliest);
        }
    }

    fn with_subscription(
        &mut self,
        id: SubscriptionId,
        act: impl FnOnce(&mut Subscription, Bounds) -> PartitionReply,
    ) -> PartitionReply {
        let bounds = Bounds { earliest: self.earliest().0, next: self.next().0 };
        match self.state.subscriptions.get_mut(&id) {
            Some(subscription) => act(subscription, bounds),
            None => PartitionReply::NoSubscription,
        }
    }
}

impl State {
    fn append(&mut self, index: Index, sizes: &[RecordSize]) -> Published {
        let count = sizes.len() as u64;
        let bytes = sizes.iter().map(|size| size.total()).sum();
        let entry = Entry { index, count, bytes, now: self.now };
        let first = self.spans.append(entry, grain(self.retention));
        Published { first, count }
    }
}

struct Bounds {
    earliest: u64,
    next: u64,
}

/// An eighth of what is kept goes at a time; small limits are then kept nearly to the byte.
fn grain(retention: Retention) -> Grain {
    Grain {
        bytes: retention.bytes.map_or(spans::MAX_BYTES, |bytes| bytes / 8),
        age_ms: retention.age_ms.map_or(u64::MAX, |age| age / 8),
    }
}
