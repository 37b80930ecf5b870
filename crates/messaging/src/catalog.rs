//! What exists: topics with their partitions and subscriptions, queues, and the groups they live
//! in.
//!
//! The catalog is a group of its own, [`CATALOG`]. It decides names and identities; a partition
//! or queue then takes its settings into its own log. Every setting has a version, so that after
//! a crash between the two the one can be brought up to the other.
//!
//! **Invariant:** a group id is given out once, also when what it stood for is deleted.

mod apply;

use std::collections::{BTreeMap, BTreeSet};

use consensus::GroupId;
use serde::{Deserialize, Serialize};

use crate::config::{QueueConfig, Retention, Start, SubscriptionConfig};
use crate::ids::{Millis, Name, SubscriptionId};

pub use apply::{CatalogRefused, CatalogReply, Changed};

/// The catalog's own group.
pub const CATALOG: GroupId = GroupId(1);
/// Most topics.
pub const MAX_TOPICS: usize = 10_000;
/// Most queues.
pub const MAX_QUEUES: usize = 10_000;
/// Most subscriptions of one topic.
pub const MAX_SUBSCRIPTIONS: usize = 64;
/// Most partitions of one topic.
pub const MAX_PARTITIONS: u32 = 64;
/// Most partitions and queues together: each is a group with a log of its own.
pub const MAX_GROUPS: usize = 20_000;

/// What is logged in the catalog's group. Variants are only ever added, at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CatalogCommand {
    /// Creates a topic or changes its settings.
    PutTopic {
        /// Its name.
        name: Name,
        /// How many partitions. `None`: as many as there are, or 1.
        partitions: Option<u32>,
        /// When old messages go.
        retention: Retention,
    },
    /// Deletes a topic with everything in it.
    DeleteTopic {
        /// Its name.
        name: Name,
    },
    /// Creates a subscription or changes its settings.
    PutSubscription {
        /// Of which topic.
        topic: Name,
        /// Its name.
        name: Name,
        /// Its settings.
        config: SubscriptionConfig,
        /// Where a new one begins.
        start: Start,
    },
    /// Deletes a subscription.
    DeleteSubscription {
        /// Of which topic.
        topic: Name,
        /// Its name.
        name: Name,
    },
    /// Creates a queue or changes its settings.
    PutQueue {
        /// Its name.
        name: Name,
        /// Its settings.
        config: QueueConfig,
    },
    /// Deletes a queue with everything in it.
    DeleteQueue {
        /// Its name.
        name: Name,
    },
    /// The log of a deleted group is gone.
    Removed {
        /// Which.
        group: GroupId,
    },
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Counts the changes of its settings, from 1.
    pub version: u64,
    /// Its partitions, in order.
    pub partitions: Vec<GroupId>,
    /// When old messages go.
    pub retention: Retention,
    /// When it was created.
    pub created_ms: Millis,
    /// Its subscriptions.
    pub subscriptions: BTreeMap<Name, SubscriptionEntry>,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionEntry {
    /// Its identity.
    pub id: SubscriptionId,
    /// Counts the changes of its settings, from 1.
    pub version: u64,
    /// Its settings.
    pub config: SubscriptionConfig,
    /// Where it began.
    pub start: Start,
    /// Partitions the topic had then. It begins at the beginning of later ones.
    pub partitions: u32,
    /// When it was created.
    pub created_ms: Millis,
}

impl SubscriptionEntry {
    /// Where it begins in this partition.
    #[must_use]
    pub fn start_in(&self, partition: u32) -> Start {
        if partition < self.partitions { self.start } else { Start::Earliest }
    }
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueEntry {
    /// Where it lives.
    pub group: GroupId,
    /// Counts the changes of its settings, from 1.
    pub version: u64,
    /// Its settings.
    pub config: QueueConfig,
    /// When it was created.
    pub created_ms: Millis,
}

/// Everything that exists; what a snapshot holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    next_group: u64,
    next_subscription: u64,
    topics: BTreeMap<Name, Topic>,
    queues: BTreeMap<Name, QueueEntry>,
    /// Deleted, their logs not gone yet.
    removing: BTreeSet<GroupId>,
    /// The highest time seen.
    now: Millis,
}

impl Default for Catalog {
    fn default() -> Self {
        Self {
            next_group: CATALOG.0 + 1,
            next_subscription: 1,
            topics: BTreeMap::new(),
            queues: BTreeMap::new(),
            removing: BTreeSet::new(),
            now: 0,
        }
    }
}

impl Catalog {
    /// The topics, by name.
    #[must_use]
    pub fn topics(&self) -> &BTreeMap<Name, Topic> {
        &self.topics
    }

    /// The queues, by name.
    #[must_use]
    pub fn queues(&self) -> &BTreeMap<Name, QueueEntry> {
        &self.queues
    }

    /// Groups whose logs are to be removed.
    #[must_use]
    pub fn removing(&self) -> &BTreeSet<GroupId> {
        &self.removing
    }

    /// A copy of everything, to be encoded later and elsewhere.
    pub fn snapshot(&self) -> impl FnOnce() -> Vec<u8> + Send + 'static {
        let state = self.clone();
        move || crate::snapshot::encode(&state)
    }

    /// Takes the place of everything so far.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<(), crate::snapshot::SnapshotError> {
        *self = crate::snapshot::decode(snapshot)?;
        Ok(())
    }

    /// Who sends its dead letters to this queue, apart from the queue itself.
    fn dead_letter_users(&self, queue: &Name) -> Vec<String> {
        let queues = self.queues.iter().filter(|(name, entry)| {
            *name != queue && entry.config.dead_letter.as_ref() == Some(queue)
        });
        let subscriptions = self.topics.iter().flat_map(|(topic, entry)| {
            entry.subscriptions.iter().map(move |(name, subscription)| (topic, name, subscription))
        });
        let subscriptions = subscriptions
            .filter(|(.., entry)| entry.config.dead_letter.as_ref() == Some(queue))
            .map(|(topic, name, _)| format!("topic/{topic}/subscription/{name}"));
        queues.map(|(name, _)| format!("queue/{name}")).chain(subscriptions).collect()
    }
}
