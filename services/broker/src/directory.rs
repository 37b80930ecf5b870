//! What exists, with the handles to reach it: the catalog as this node serves it.
//!
//! A directory never changes; a change makes another one and puts it in the place of the first.
//! Whoever holds a handle of a deleted thing finds its group stopped.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use consensus::{GroupId, NodeId, Term};
use imbl::OrdMap;
use messaging::catalog::{QueueEntry, StreamsEntry, SubscriptionEntry, Topic};
use messaging::dispatch::Taken;
use messaging::ids::{Epoch, Name, SubscriptionId};
use tokio::sync::Semaphore;

use crate::error::NotFound;
use crate::metrics::Destination;
use crate::route::Port;
use crate::state_machine::{PartitionMachine, QueueMachine, StreamsMachine};

/// Everything that exists. A clone shares what it can, and costs next to nothing.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    /// The catalog's, of which this is made.
    pub(crate) revision: u64,
    /// Subscriptions below this exist here, or not any more.
    pub(crate) next_subscription: SubscriptionId,
    pub(crate) topics: OrdMap<Name, Arc<TopicHandle>>,
    pub(crate) queues: OrdMap<Name, Arc<QueueHandle>>,
    /// Where streams live: by the hash of their path in one of these. None before there is one.
    pub(crate) streams: Arc<[Arc<StreamsHandle>]>,
    /// What lives in each group.
    pub(crate) groups: OrdMap<GroupId, Home>,
    pub(crate) whole: Whole,
}

/// Whether this broker has seen everything that was acknowledged before it started. Until then it
/// cannot say that something does not exist.
#[derive(Clone, Debug, Default)]
pub(crate) struct Whole(Arc<AtomicBool>);

impl Whole {
    /// From now on.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Refuses to list what may be more.
    fn check(&self) -> Result<(), NotFound> {
        if self.0.load(Ordering::Acquire) { Ok(()) } else { Err(NotFound::Unsure) }
    }

    /// What is said of something that is not here.
    fn or_unsure(&self, not_found: NotFound) -> NotFound {
        if self.0.load(Ordering::Acquire) { not_found } else { NotFound::Unsure }
    }
}

/// What lives in a group.
#[derive(Clone, Debug)]
pub(crate) enum Home {
    Partition(Arc<PartitionHandle>),
    Queue(Arc<QueueHandle>),
    Streams(Arc<StreamsHandle>),
}

/// A topic.
#[derive(Debug)]
pub(crate) struct TopicHandle {
    pub(crate) name: Name,
    pub(crate) entry: Arc<Topic>,
    pub(crate) partitions: Vec<Arc<PartitionHandle>>,
    pub(crate) subscriptions: BTreeMap<Name, Arc<SubscriptionHandle>>,
    pub(crate) metrics: Destination,
    /// Where the next batch without a key goes.
    turn: AtomicU32,
    whole: Whole,
}

/// One partition.
#[derive(Debug)]
pub(crate) struct PartitionHandle {
    pub(crate) port: Arc<Port<PartitionMachine>>,
    pub(crate) topic: Name,
    pub(crate) number: u32,
    /// What did not reach a consumer, for the keeper to take back.
    pub(crate) returned: Arc<Returned<Part>>,
}

/// What was handed out of: a subscription, its generation, and the life of the leader.
pub(crate) type Part = (SubscriptionId, u32, Epoch);

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
    pub(crate) port: Arc<Port<QueueMachine>>,
    pub(crate) returned: Arc<Returned<Epoch>>,
    pub(crate) line: Arc<Line>,
    pub(crate) metrics: Destination,
}

/// Streams, those that live in one group.
#[derive(Debug)]
pub(crate) struct StreamsHandle {
    pub(crate) number: u32,
    pub(crate) entry: Arc<StreamsEntry>,
    pub(crate) port: Arc<Port<StreamsMachine>>,
    /// Live readers that may wait at a time.
    pub(crate) places: Arc<Semaphore>,
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
    /// For lists of what exists: while this broker may not know all of it, there is none.
    pub(crate) fn check_whole(&self) -> Result<(), NotFound> {
        self.whole.check()
    }

    /// The topic of this name.
    pub(crate) fn topic(&self, name: &Name) -> Result<Arc<TopicHandle>, NotFound> {
        let unknown = || self.whole.or_unsure(NotFound::Topic(name.clone()));
        self.topics.get(name).cloned().ok_or_else(unknown)
    }

    /// The queue of this name.
    pub(crate) fn queue(&self, name: &Name) -> Result<Arc<QueueHandle>, NotFound> {
        let unknown = || self.whole.or_unsure(NotFound::Queue(name.clone()));
        self.queues.get(name).cloned().ok_or_else(unknown)
    }

    /// Why partitions and queues are not served here, if some are not.
    pub(crate) fn unserved(&self) -> impl Iterator<Item = String> + '_ {
        let reasons = self.groups.values().filter_map(|home| match home {
            Home::Partition(partition) => partition.port.unserved(),
            Home::Queue(queue) => queue.port.unserved(),
            Home::Streams(streams) => streams.port.unserved(),
        });
        reasons.map(|reason| reason.to_string())
    }

    /// Whether some group is led here.
    pub(crate) fn leads(&self) -> bool {
        self.groups.values().any(Home::is_led)
    }

    /// The queue that lives in this group.
    pub(crate) fn queue_in(&self, group: GroupId) -> Option<Arc<QueueHandle>> {
        match self.groups.get(&group)? {
            Home::Queue(queue) => Some(queue.clone()),
            Home::Partition(_) | Home::Streams(_) => None,
        }
    }

    /// The partition that lives in this group.
    pub(crate) fn partition_in(&self, group: GroupId) -> Option<Arc<PartitionHandle>> {
        match self.groups.get(&group)? {
            Home::Partition(partition) => Some(partition.clone()),
            Home::Queue(_) | Home::Streams(_) => None,
        }
    }

    /// The streams that live in this group.
    pub(crate) fn streams_in(&self, group: GroupId) -> Option<Arc<StreamsHandle>> {
        match self.groups.get(&group)? {
            Home::Streams(streams) => Some(streams.clone()),
            Home::Partition(_) | Home::Queue(_) => None,
        }
    }
}

impl Home {
    /// This node leads it.
    pub(crate) fn is_led(&self) -> bool {
        match self {
            Self::Partition(partition) => partition.port.led().is_some(),
            Self::Queue(queue) => queue.port.led().is_some(),
            Self::Streams(streams) => streams.port.led().is_some(),
        }
    }

    /// Who leads it, as far as is known on this node.
    pub(crate) fn leader(&self, me: NodeId) -> Option<NodeId> {
        match self {
            Self::Partition(partition) => partition.port.leader(me),
            Self::Queue(queue) => queue.port.leader(me),
            Self::Streams(streams) => streams.port.leader(me),
        }
    }

    /// Its group.
    pub(crate) fn id(&self) -> GroupId {
        match self {
            Self::Partition(partition) => partition.port.id,
            Self::Queue(queue) => queue.port.id,
            Self::Streams(streams) => streams.port.id,
        }
    }

    /// That node has a copy.
    pub(crate) fn is_on(&self, node: NodeId) -> bool {
        let placement = match self {
            Self::Partition(partition) => partition.port.placement(),
            Self::Queue(queue) => queue.port.placement(),
            Self::Streams(streams) => streams.port.placement(),
        };
        placement.replica(node).is_some()
    }

    /// The term of its copy on this node.
    pub(crate) fn term(&self) -> Option<Term> {
        match self {
            Self::Partition(partition) => partition.port.term(),
            Self::Queue(queue) => queue.port.term(),
            Self::Streams(streams) => streams.port.term(),
        }
    }
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            revision: 0,
            next_subscription: SubscriptionId(0),
            topics: OrdMap::new(),
            queues: OrdMap::new(),
            streams: Arc::default(),
            groups: OrdMap::new(),
            whole: Whole::default(),
        }
    }
}

impl PartitionHandle {
    /// Its topic, unless that is deleted.
    pub(crate) fn topic_in(&self, directory: &Directory) -> Option<Arc<TopicHandle>> {
        let topic = directory.topics.get(&self.topic)?;
        let is_same = |one: &Arc<Self>| one.port.id == self.port.id;
        topic.partitions.iter().any(is_same).then(|| topic.clone())
    }
}

impl TopicHandle {
    pub(crate) fn new(
        name: Name,
        entry: Arc<Topic>,
        partitions: Vec<Arc<PartitionHandle>>,
        (subscriptions, whole): (BTreeMap<Name, Arc<SubscriptionHandle>>, Whole),
        metrics: Destination,
    ) -> Self {
        Self { name, entry, partitions, subscriptions, metrics, turn: AtomicU32::new(0), whole }
    }

    /// The subscription of this name.
    pub(crate) fn subscription(&self, name: &Name) -> Result<Arc<SubscriptionHandle>, NotFound> {
        let unknown = || {
            let (topic, name) = (self.name.clone(), name.clone());
            self.whole.or_unsure(NotFound::Subscription { topic, name })
        };
        self.subscriptions.get(name).cloned().ok_or_else(unknown)
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

    /// The partition that is next, if nobody takes it.
    pub(crate) fn coming_partition(&self) -> u32 {
        self.turn.load(Ordering::Relaxed) % self.partition_count()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_not_to_exist_before_all_is_known() {
        let directory = Directory::default();
        let name: Name = "orders".parse().expect("a name");
        // What is built on it knows as soon as it does.
        let later = directory.clone();
        assert_eq!(later.queue(&name).unwrap_err(), NotFound::Unsure);
        assert_eq!(later.topic(&name).unwrap_err(), NotFound::Unsure);
        assert_eq!(later.check_whole().unwrap_err(), NotFound::Unsure);
        directory.whole.set();
        later.check_whole().unwrap();
        assert_eq!(later.queue(&name).unwrap_err(), NotFound::Queue(name.clone()));
        assert_eq!(later.topic(&name).unwrap_err(), NotFound::Topic(name));
    }
}
