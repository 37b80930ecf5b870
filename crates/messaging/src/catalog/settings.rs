//! Topics, subscriptions and queues, as the catalog knows them.

use std::collections::BTreeMap;
use std::sync::Arc;

use consensus::GroupId;
use serde::{Deserialize, Serialize};

use super::push::Push;
use crate::config::{QueueConfig, Retention, Start, SubscriptionConfig};
use crate::ids::{Millis, Name, SubscriptionId};

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Counts the changes of its settings, from 1.
    pub version: u64,
    /// Its partitions, in order.
    pub partitions: Vec<GroupId>,
    /// How many copies of each there should be.
    pub replicas: u8,
    /// When old messages go.
    pub retention: Retention,
    /// When it was created.
    pub created_ms: Millis,
    /// Its subscriptions.
    pub subscriptions: BTreeMap<Name, SubscriptionEntry>,
}

impl Topic {
    /// How many partitions it has.
    #[must_use]
    pub fn partition_count(&self) -> u32 {
        u32::try_from(self.partitions.len()).expect("at most 64")
    }
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
    /// Where its messages go by themselves, if they do.
    pub push: Option<Push>,
}

impl SubscriptionEntry {
    /// Where it begins in this partition.
    #[must_use]
    pub fn start_in(&self, partition: u32) -> Start {
        if partition < self.partitions { self.start } else { Start::Earliest }
    }
}

/// Where streams live: by the hash of their path in one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamsEntry {
    /// As many for ever.
    pub groups: Vec<GroupId>,
    /// How many copies of each there should be.
    pub replicas: u8,
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueEntry {
    /// Where it lives.
    pub group: GroupId,
    /// Counts the changes of its settings, from 1.
    pub version: u64,
    /// How many copies there should be.
    pub replicas: u8,
    /// Its settings.
    pub config: QueueConfig,
    /// What a compatible face keeps with it, such as tags. Opaque here.
    pub notes: Arc<str>,
    /// When it was created.
    pub created_ms: Millis,
}
