//! Why a change of the catalog was refused.

use consensus::{GroupId, NodeId};

use crate::catalog::{MAX_BROKER_TEXT, MAX_NOTES, MAX_PARTITIONS, MAX_PREFERRED, MAX_REPLICAS};
use crate::ids::Name;

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogRefused {
    /// No such topic.
    #[error("topic `{0}` does not exist; create it with PUT /v1/topics/{0}")]
    NoTopic(Name),
    /// No such subscription.
    #[error("topic `{topic}` has no subscription `{name}`")]
    NoSubscription {
        /// The topic, which exists.
        topic: Name,
        /// The name.
        name: Name,
    },
    /// It has no webhook.
    #[error("subscription `{name}` of topic `{topic}` does not push; give it `push` first")]
    NoPush {
        /// The topic.
        topic: Name,
        /// The subscription, which exists.
        name: Name,
    },
    /// No such queue.
    #[error("queue `{0}` does not exist; create it with PUT /v1/queues/{0}")]
    NoQueue(Name),
    /// It is not as its proposer saw it.
    #[error("queue `{0}` was created, changed or deleted by somebody else just now; repeat")]
    QueueChanged(Name),
    /// Notes that are too long.
    #[error("a queue's tags, policies and other notes have at most {MAX_NOTES} bytes")]
    Notes,
    /// The dead-letter queue must exist.
    #[error("the dead-letter queue `{0}` does not exist; create it first")]
    NoDeadLetterQueue(Name),
    /// A queue cannot be its own dead-letter queue.
    #[error("queue `{0}` cannot be its own dead-letter queue")]
    OwnDeadLetterQueue(Name),
    /// Others send their dead letters to the queue.
    #[error("queue `{name}` takes the dead letters of {users}; change those first")]
    InUse {
        /// The queue.
        name: Name,
        /// Who, as text.
        users: String,
    },
    /// Partitions hold messages, so there are never fewer.
    #[error("topic `{name}` has {has} partitions; there cannot be fewer")]
    FewerPartitions {
        /// The topic.
        name: Name,
        /// How many it has.
        has: u32,
    },
    /// Zero or too many.
    #[error("a topic has 1 to {MAX_PARTITIONS} partitions")]
    Partitions,
    /// Zero or too many.
    #[error("there are 1 to {MAX_REPLICAS} replicas")]
    Replicas,
    /// More copies than brokers.
    #[error("{asked} replicas need as many brokers, and there are {has}; leave `replicas` out")]
    TooFewBrokers {
        /// Copies.
        asked: u8,
        /// Brokers that are not being emptied.
        has: usize,
    },
    /// Nowhere to put it.
    #[error("no broker takes anything new right now; start one, or end a drain, and repeat")]
    NoBrokers,
    /// Too many of something.
    #[error("there can be at most {max} {what}; delete some first")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many.
        max: usize,
    },
    /// A text that a broker says of itself is empty or too long.
    #[error("a broker's name and addresses have 1 to {MAX_BROKER_TEXT} bytes")]
    BrokerText,
    /// No such broker.
    #[error("no broker has the id {0}")]
    NoBroker(NodeId),
    /// Brokers are told apart by name.
    #[error("another broker is called `{name}`: {node}; forget that one or choose another name")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        node: NodeId,
    },
    /// It has been given up, and others have what it had.
    #[error("broker {0} was forgotten; empty its data directory and start it anew")]
    Forgotten(NodeId),
    /// It would not understand what the others have logged.
    #[error("the broker understands version {version}, and {min} is in use; upgrade it")]
    TooOld {
        /// Of the broker.
        version: u32,
        /// In use.
        min: u32,
    },
    /// It has copies, or gets one.
    #[error("broker {node} still has {copies} copies; drain it first, or delete what is lost")]
    StillNeeded {
        /// Which.
        node: NodeId,
        /// How many.
        copies: u32,
    },
    /// No such group.
    #[error("no group has the id {0}")]
    NoGroup(GroupId),
    /// A move that must not begin.
    #[error("the move of group {group} cannot begin: {why}")]
    NoMove {
        /// Which group.
        group: GroupId,
        /// What is in the way.
        why: &'static str,
    },
    /// Only a cancelled move ends where it began.
    #[error("the move of group {0} was not cancelled")]
    NotCancelled(GroupId),
    /// Too long a command.
    #[error("at most {MAX_PREFERRED} groups get another leader at a time")]
    TooManyPreferred,
    /// The entry is not a command of this version.
    #[error("the command was not understood")]
    NotUnderstood,
}
