//! What exists, with the handles to reach it: the catalog as this node serves it.
//!
//! A directory never changes; a change makes another one and puts it in the place of the first.
//! Whoever holds a handle of a deleted thing finds its group stopped.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use consensus::GroupId;
use messaging::catalog::{QueueEntry, SubscriptionEntry, Topic};
use messaging::dispatch::Taken;
use messaging::ids::{Name, SubscriptionId};
use raft_node::Group;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::error::{LogError, NotFound};
use crate::metrics::Destination;
use crate::state_machine::{PartitionMachine, QueueMachine};

/// Everything that exists.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub(crate) topics: BTreeMap<Name, Arc<TopicHandle>>,
    pub(crate) queues: BTreeMap<Name, Arc<QueueHandle>>,
}

/// A topic.
#[derive(Debug)]
pub(crate) struct TopicHandle {
    pub(crate) name: Name,
    pub(crate) entry: Arc<Topic>,
    pub(crate) partitions: Vec<Arc<PartitionHandle>>,
    pub(crate) subscriptions: BTreeMap<Name, Arc<SubscriptionHandle>>,
    pub(crate) metrics: Destination,
    /// Its partitions have all the settings of the entry.
    configured: bool,
    /// Where the next batch without a key goes.
    turn: AtomicU32,
}

/// One partition.
#[derive(Debug)]
pub(crate) struct PartitionHandle {
    pub(crate) served: Served<PartitionMachine>,
    /// What did not reach a consumer, for the keeper to take back.
    pub(crate) returned: Arc<Returned<(SubscriptionId, u32)>>,
}

/// A subscription, over all partitions of its topic.
#[derive(Debug)]
pub(crate) struct SubscriptionHandle {
    pub(crate) name: Name,
    pub(crate) entry: SubscriptionEntry,
    pub(crate) line: Line,
    pub(crate) metrics: Destination,
    /// Which partition the next pull looks at first.
    first: AtomicU32,
}

/// A queue.
#[derive(Debug)]
pub(crate) struct QueueHandle {
    pub(crate) name: Name,
    pub(crate) entry: Arc<QueueEntry>,
    pub(crate) served: Served<QueueMachine>,
    pub(crate) returned: Arc<Returned<()>>,
    pub(crate) line: Arc<Line>,
    pub(crate) metrics: Destination,
    /// Its group has all the settings of the entry.
    pub(crate) configured: bool,
}

/// A group as this node serves it.
pub(crate) struct Served<M> {
    pub(crate) id: GroupId,
    group: Result<Group<M>, Unserved>,
    /// Wakes the keeper: there is progress to report or something to give up.
    pub(crate) keeper: Arc<Notify>,
    /// Wakes whoever waits for messages, when it is not a log entry that brings one.
    pub(crate) changed: Arc<Notify>,
    /// Cancelled when the group is deleted.
    pub(crate) gone: CancellationToken,
}

/// Why a group is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unserved {
    /// Its log or snapshot cannot be used: that stays so.
    Damaged(String),
    /// There was no room to start it: that is tried again.
    NotYet(String),
}

/// Consumers that wait for messages: one of them looks, the others stand behind it.
#[derive(Debug)]
pub(crate) struct Line {
    /// First come, first served.
    pub(crate) turn: Semaphore,
    pub(crate) places: Semaphore,
    pub(crate) max: usize,
}

/// Deliveries that did not reach their consumer.
#[derive(Debug)]
pub(crate) struct Returned<K>(Mutex<Vec<(K, Vec<Taken>)>>);

impl Directory {
    /// The topic of this name.
    pub(crate) fn topic(&self, name: &Name) -> Result<Arc<TopicHandle>, NotFound> {
        self.topics.get(name).cloned().ok_or_else(|| NotFound::Topic(name.clone()))
    }

    /// The queue of this name.
    pub(crate) fn queue(&self, name: &Name) -> Result<Arc<QueueHandle>, NotFound> {
        self.queues.get(name).cloned().ok_or_else(|| NotFound::Queue(name.clone()))
    }

    /// This group is deleted.
    pub(crate) fn end(&self, group: GroupId) {
        let mut partitions = self.topics.values().flat_map(|topic| &topic.partitions);
        if let Some(partition) = partitions.find(|partition| partition.served.id == group) {
            partition.served.end();
        }
        if let Some(queue) = self.queue_in(group.0) {
            queue.served.end();
        }
    }

    /// Why partitions and queues are not served, if some are not.
    pub(crate) fn unserved(&self) -> impl Iterator<Item = String> + '_ {
        let partitions = self.topics.values().flat_map(|topic| &topic.partitions);
        let partitions = partitions.filter_map(|partition| partition.served.unserved());
        partitions.chain(self.queues.values().filter_map(|queue| queue.served.unserved()))
    }

    /// Whether some partition or queue may start at the next attempt.
    pub(crate) fn has_to_start(&self) -> bool {
        self.topics.values().any(|topic| topic.has_to_start())
            || self.queues.values().any(|queue| queue.served.is_to_start())
    }

    /// The queue that lives in this group.
    pub(crate) fn queue_in(&self, group: u64) -> Option<Arc<QueueHandle>> {
        self.queues.values().find(|queue| queue.served.id.0 == group).cloned()
    }
}

impl TopicHandle {
    pub(crate) fn new(
        name: Name,
        entry: Arc<Topic>,
        partitions: Vec<Arc<PartitionHandle>>,
        subscriptions: BTreeMap<Name, Arc<SubscriptionHandle>>,
        metrics: Destination,
    ) -> Self {
        Self {
            name,
            entry,
            partitions,
            subscriptions,
            metrics,
            configured: true,
            turn: AtomicU32::new(0),
        }
    }

    /// Whether its partitions have all the settings of the entry.
    pub(crate) fn configured(self, configured: bool) -> Self {
        Self { configured, ..self }
    }

    /// Nothing is left to start or to configure.
    pub(crate) fn is_complete(&self) -> bool {
        self.configured && !self.has_to_start()
    }

    /// Whether some partition may start at the next attempt.
    pub(crate) fn has_to_start(&self) -> bool {
        self.partitions.iter().any(|partition| partition.served.is_to_start())
    }

    /// The subscription of this name.
    pub(crate) fn subscription(&self, name: &Name) -> Result<Arc<SubscriptionHandle>, NotFound> {
        self.subscriptions
            .get(name)
            .cloned()
            .ok_or_else(|| NotFound::Subscription { topic: self.name.clone(), name: name.clone() })
    }

    /// One partition.
    pub(crate) fn partition(&self, partition: u32) -> Result<&Arc<PartitionHandle>, NotFound> {
        self.partitions.get(partition as usize).ok_or_else(|| NotFound::Partition {
            topic: self.name.clone(),
            last: self.entry.partition_count() - 1,
            partition,
        })
    }

    /// How many partitions it has; at least one.
    pub(crate) fn partition_count(&self) -> u32 {
        self.entry.partition_count()
    }

    /// The partition for messages without a key: the next one each time.
    pub(crate) fn next_partition(&self) -> u32 {
        self.turn.fetch_add(1, Ordering::Relaxed) % self.partition_count()
    }
}

impl SubscriptionHandle {
    pub(crate) fn new(
        name: Name,
        entry: SubscriptionEntry,
        max_waiters: usize,
        metrics: Destination,
    ) -> Self {
        Self { name, entry, line: Line::new(max_waiters), metrics, first: AtomicU32::new(0) }
    }

    /// The partitions in the order this pull looks at them, so that none is always last.
    pub(crate) fn order(&self, partitions: u32) -> impl Iterator<Item = u32> + use<> {
        let first = self.first.fetch_add(1, Ordering::Relaxed) % partitions;
        (first..partitions).chain(0..first)
    }
}

impl<M> std::fmt::Debug for Served<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Served").field(&self.id).finish()
    }
}

impl<M> Clone for Served<M> {
    fn clone(&self) -> Self {
        Self {
            id: self.id,
            group: self.group.clone(),
            keeper: self.keeper.clone(),
            changed: self.changed.clone(),
            gone: self.gone.clone(),
        }
    }
}

impl<M> Served<M> {
    pub(crate) fn new(id: GroupId, group: Result<Group<M>, Unserved>) -> Self {
        let (keeper, changed) = (Arc::default(), Arc::default());
        Self { id, group, keeper, changed, gone: CancellationToken::new() }
    }

    /// The group, if its log was found in order and it has started.
    pub(crate) fn group(&self) -> Result<&Group<M>, LogError> {
        self.group.as_ref().map_err(|unserved| match unserved.clone() {
            Unserved::Damaged(reason) => LogError::Damaged { reason },
            Unserved::NotYet(reason) => LogError::NotYet { reason },
        })
    }

    /// It may start at the next attempt.
    pub(crate) fn is_to_start(&self) -> bool {
        matches!(self.group, Err(Unserved::NotYet(_)))
    }

    /// Its group is deleted: the keeper ends, and whoever waits looks and finds it gone.
    pub(crate) fn end(&self) {
        self.gone.cancel();
        self.changed.notify_one();
    }

    /// Why it is not served, if it is not.
    pub(crate) fn unserved(&self) -> Option<String> {
        self.group().err().map(|error| error.to_string())
    }
}

impl Line {
    pub(crate) fn new(max: usize) -> Self {
        Self { turn: Semaphore::new(1), places: Semaphore::new(max), max }
    }
}

impl<K> Default for Returned<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K> Returned<K> {
    pub(crate) fn put(&self, of: K, taken: Vec<Taken>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((of, taken));
    }

    pub(crate) fn take(&self) -> Vec<(K, Vec<Taken>)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
