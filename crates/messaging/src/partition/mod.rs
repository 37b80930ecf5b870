//! One partition of a topic: offsets over the group's log, retention, and its subscriptions.
//!
//! Messages stay in the log; the partition knows only where: see [`spans`]. Its subscriptions live
//! in the same group, so that a publish, an ack and a trim are one order of events.

mod apply;
mod producers;
pub mod spans;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use consensus::Index;
use serde::{Deserialize, Serialize};

use crate::config::{Retention, SubscriptionConfig};
use crate::dedup::Window;
use crate::frame::RecordSize;
use crate::ids::{Epoch, Millis, Name, Offset, SubscriptionId};
use crate::subscription::{Delivered, Position, Settle, Subscription};

pub use apply::{PartitionReply, Published};
use producers::Producers;
pub use producers::{Fenced, MAX_PRODUCER_NUMBER, MAX_PRODUCERS, PRODUCER_WINDOW_MS, Producer};
pub use spans::{Span, Spans};

/// How long the result of a publish is remembered under its `Idempotency-Key`.
pub const IDEMPOTENCY_WINDOW_MS: u64 = 300_000;
/// Most results remembered at once, per partition; then the oldest go early.
pub const MAX_IDEMPOTENCY_KEYS: usize = 100_000;

/// What is logged in a partition's group. Variants are only ever added, at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartitionCommand {
    /// Appends messages; their records follow the command.
    Publish {
        /// A repeat under the same key answers the first result.
        idempotency_key: Option<String>,
        /// One for each message.
        sizes: Vec<RecordSize>,
    },
    /// Sets what is kept.
    Configure {
        /// The catalog's version of the topic.
        version: u64,
        /// When old messages go.
        retention: Retention,
    },
    /// Drops what retention no longer keeps.
    Trim,
    /// Creates a subscription or changes its settings.
    PutSubscription {
        /// Its identity, from the catalog.
        id: SubscriptionId,
        /// Its name.
        name: Name,
        /// The catalog's version of it.
        version: u64,
        /// How it delivers.
        config: SubscriptionConfig,
        /// Where a new one begins.
        start: Position,
    },
    /// Removes a subscription.
    DeleteSubscription {
        /// Its identity.
        id: SubscriptionId,
    },
    /// What later leaders must know of deliveries.
    Delivered {
        /// Of which subscription.
        id: SubscriptionId,
        /// What happened.
        delivered: Delivered,
    },
    /// Settles messages.
    Settle {
        /// Of which subscription.
        id: SubscriptionId,
        /// Which, and why.
        settle: Settle,
    },
    /// Moves a subscription.
    Seek {
        /// Which.
        id: SubscriptionId,
        /// Where to.
        to: Position,
    },
    /// As [`Publish`](Self::Publish), by somebody who numbers its publishes.
    PublishAs {
        /// Who, and which one it is.
        producer: Producer,
        /// One for each message.
        sizes: Vec<RecordSize>,
    },
}

/// The replicated state; what a snapshot holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    version: u64,
    retention: Retention,
    spans: Spans,
    /// The highest time seen: what `published_at` never goes behind.
    now: Millis,
    results: Window<Published>,
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
    producers: Producers,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Partition {
    state: State,
    /// The life in which this node leads, if it does.
    epoch: Option<Epoch>,
}

impl Default for Partition {
    fn default() -> Self {
        Self::new()
    }
}

impl Partition {
    /// An empty one. Nobody leads it yet.
    #[must_use]
    pub fn new() -> Self {
        let state = State {
            version: 0,
            retention: Retention::default(),
            spans: Spans::default(),
            now: 0,
            results: Window::new(MAX_IDEMPOTENCY_KEYS),
            subscriptions: BTreeMap::new(),
            producers: Producers::default(),
        };
        Self { state, epoch: None }
    }

    /// From now on this node hands out messages, and `epoch` names this life of it. Call it once
    /// the machine has caught up with the log.
    pub fn lead(&mut self, epoch: Epoch) {
        self.epoch = Some(epoch);
    }

    /// This node leads no more. What it knew alone of its subscriptions is forgotten. Costs as
    /// much as is delivered and not settled.
    pub fn follow(&mut self) {
        self.epoch = None;
        for subscription in self.state.subscriptions.values_mut() {
            subscription.rebuild();
        }
    }

    /// The version of the topic's settings it has.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.state.version
    }

    /// Offset of the oldest message that is still there.
    #[must_use]
    pub fn earliest(&self) -> Offset {
        self.state.spans.earliest()
    }

    /// Offset the next message will get.
    #[must_use]
    pub fn next(&self) -> Offset {
        self.state.spans.next()
    }

    /// Where messages are in the log.
    #[must_use]
    pub fn spans(&self) -> &Spans {
        &self.state.spans
    }

    /// When old messages go.
    #[must_use]
    pub fn retention(&self) -> Retention {
        self.state.retention
    }

    /// Its subscriptions.
    pub fn subscriptions(&self) -> impl Iterator<Item = (SubscriptionId, &Subscription)> {
        self.state.subscriptions.iter().map(|(id, subscription)| (*id, subscription))
    }

    /// A subscription.
    #[must_use]
    pub fn subscription(&self, id: SubscriptionId) -> Option<&Subscription> {
        self.state.subscriptions.get(&id)
    }

    /// A subscription, for what only the leader keeps of it: hand out, give back, hold longer.
    pub fn subscription_mut(&mut self, id: SubscriptionId) -> Option<Leading<'_>> {
        let (earliest, next) = (self.earliest().0, self.next().0);
        let subscription = self.state.subscriptions.get_mut(&id)?;
        Some(Leading { subscription, available: earliest..next, epoch: self.epoch })
    }

    /// The entries that are read from the log: everything from the oldest message on, without an
    /// end. A span may go on behind whatever comes next, and is read from its first entry to its
    /// last one: an acknowledgement missing in between is not told from a message.
    #[must_use]
    pub fn retained(&self) -> Vec<RangeInclusive<Index>> {
        self.state.spans.first_index().map(|first| first..=Index(u64::MAX)).into_iter().collect()
    }

    /// A copy of the replicated state, to be encoded later and elsewhere.
    pub fn snapshot(&self) -> impl FnOnce() -> Vec<u8> + Send + 'static {
        let state = self.state.clone();
        move || crate::snapshot::encode(&state)
    }

    /// Takes the place of everything so far. What later leaders are not told starts anew.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<(), crate::snapshot::SnapshotError> {
        self.state = crate::snapshot::decode(snapshot)?;
        for subscription in self.state.subscriptions.values_mut() {
            subscription.rebuild();
        }
        Ok(())
    }
}

/// A subscription together with what its leader needs to hand out messages.
#[derive(Debug)]
pub struct Leading<'a> {
    pub(crate) subscription: &'a mut Subscription,
    pub(crate) available: std::ops::Range<u64>,
    pub(crate) epoch: Option<Epoch>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{self, Envelope, Records};

    fn publish(partition: &mut Partition, index: u64) {
        let mut records = Records::default();
        records.push(&Envelope::default(), b"body");
        let sizes = records.sizes.clone();
        let command = PartitionCommand::Publish { idempotency_key: None, sizes };
        partition.apply(Index(index), &frame::encode(1, &command, &records));
    }

    #[test]
    fn what_comes_behind_the_last_message_is_retained_as_the_span_may_go_on_behind_it() {
        let mut partition = Partition::new();
        assert!(partition.retained().is_empty());
        publish(&mut partition, 3);
        let trim = frame::encode(1, &PartitionCommand::Trim, &Records::default());
        partition.apply(Index(4), &trim);
        let is_retained =
            |partition: &Partition, at| partition.retained().iter().any(|it| it.contains(&at));
        assert!(!is_retained(&partition, Index(2)));
        // A snapshot as of here, and then a message.
        assert!(is_retained(&partition, Index(4)));
        publish(&mut partition, 5);
        assert_eq!(partition.spans().len(), 1);
        assert!((3..=5).all(|index| is_retained(&partition, Index(index))));
    }
}
