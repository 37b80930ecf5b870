//! What is logged in the catalog's group.

use consensus::{GroupId, NodeId};
use serde::{Deserialize, Serialize};

use super::brokers::Announced;
use super::push::{NewPush, Secret};
use crate::config::{QueueConfig, Retention, Start, SubscriptionConfig};
use crate::ids::Name;

/// How many copies are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copies {
    /// `None`: as it is, and for a new one the default.
    pub asked: Option<u8>,
    /// For a new one, if nothing is asked for. With fewer brokers there are fewer copies, and
    /// more as soon as there are more brokers.
    pub default: u8,
}

impl Default for Copies {
    fn default() -> Self {
        Self { asked: None, default: 3 }
    }
}

/// A change of the catalog. Each may be repeated: what is done already changes nothing. Variants
/// are only ever added, at the end.
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
        /// How many copies of each partition.
        copies: Copies,
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
        /// Where its messages go by themselves, if they do.
        push: Option<NewPush>,
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
        /// How many copies.
        copies: Copies,
    },
    /// Deletes a queue with everything in it.
    DeleteQueue {
        /// Its name.
        name: Name,
    },
    /// A broker is there, or has another address.
    Announce {
        /// Which: one life of a data directory.
        node: NodeId,
        /// What it says of itself.
        announced: Announced,
    },
    /// A broker has fallen silent or was heard again, as the catalog's leader saw it.
    SetUp {
        /// Which.
        node: NodeId,
        /// Whether it was heard.
        up: bool,
    },
    /// A broker is to be emptied, or is not any more.
    SetDraining {
        /// Which.
        node: NodeId,
        /// Whether.
        on: bool,
    },
    /// A broker will not come back. Refused while a group needs it.
    Forget {
        /// Which.
        node: NodeId,
    },
    /// A group's members are to change. At least one of the two is given.
    BeginMove {
        /// Which group.
        group: GroupId,
        /// The generation that this was planned for. Nothing is done if it is another.
        expect: u64,
        /// Who gets a copy.
        add: Option<NodeId>,
        /// Whose copy goes.
        remove: Option<NodeId>,
    },
    /// The group's members have changed, or are as they were: see
    /// [`Step::End`](crate::placement::Step::End) for who may say so.
    EndMove {
        /// Which group.
        group: GroupId,
        /// The generation of the move.
        generation: u64,
        /// Whether they have changed. Only a cancelled move ends without.
        done: bool,
    },
    /// A move is to be undone, if that is still possible.
    CancelMove {
        /// Which group.
        group: GroupId,
        /// The generation of the move.
        generation: u64,
    },
    /// Who should lead. Whoever has no copy is passed over.
    SetPreferred {
        /// At most [`MAX_PREFERRED`](super::MAX_PREFERRED).
        moves: Vec<(GroupId, NodeId)>,
    },
    /// A node has removed its copies.
    Left {
        /// Which node.
        node: NodeId,
        /// Which groups, each with the generation under which it was told to.
        copies: Vec<(GroupId, u64)>,
    },
    /// A node cannot use its copy.
    ReportDamaged {
        /// Which node.
        node: NodeId,
        /// Of which group.
        group: GroupId,
        /// Which copy: see [`Replica::since`](super::Replica).
        since: u64,
    },
    /// Creates a queue, or changes exactly the one that was looked at: nothing is overwritten that
    /// its proposer has not seen.
    PutQueueAs {
        /// Its name.
        name: Name,
        /// The queue as it was seen: its group and version. `None`: there was none.
        seen: Option<(GroupId, u64)>,
        /// Its settings.
        config: QueueConfig,
        /// See [`QueueEntry::notes`](super::QueueEntry). At most [`MAX_NOTES`](super::MAX_NOTES)
        /// bytes.
        notes: String,
        /// How many copies.
        copies: Copies,
    },
    /// Makes the groups in which streams live, unless there are some.
    FoundStreams {
        /// How many: 1 to [`MAX_STREAM_GROUPS`](super::MAX_STREAM_GROUPS).
        groups: u32,
        /// How many copies of each.
        copies: Copies,
    },
    /// A subscription stops pushing, or goes on. Nothing is done if it pushes elsewhere by now.
    SetPaused {
        /// Of which topic.
        topic: Name,
        /// Its name.
        name: Name,
        /// Where it pushed when this was decided.
        url: String,
        /// Why it stops. `None`: it goes on.
        reason: Option<String>,
    },
    /// A subscription signs with another secret.
    RotateSecret {
        /// Of which topic.
        topic: Name,
        /// Its name.
        name: Name,
        /// The new one.
        secret: Secret,
        /// How long it signs with the former one too.
        keep_ms: u64,
    },
}
