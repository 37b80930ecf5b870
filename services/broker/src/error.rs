//! Facts that several operations fail with.

use consensus::NodeId;
use messaging::catalog::CatalogRefused;
use messaging::dispatch::NotLeading;
use messaging::ids::Name;
use raft_node::{MemberError, ProposeError, QueryError, ReadError};
use serde::{Deserialize, Serialize};

/// A command did not go through the log of a group, or may not have. Brokers tell each other.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum LogError {
    /// Nothing was done: too many commands wait.
    #[error("too many requests are waiting for this node's disk; slow down and repeat")]
    Overloaded,
    /// Nothing was done: too long.
    #[error("the request makes an entry of {len} bytes, the limit is {max}; split it")]
    TooLarge {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// Nothing was done.
    #[error("the disk is full; delete topics or acknowledge queued messages")]
    DiskFull,
    /// Nothing was done: nobody here may decide.
    #[error("nobody leads this partition or queue right now; repeat shortly")]
    NoLeader {
        /// Who may, as far as the one that was asked knows.
        hint: Option<NodeId>,
    },
    /// Nothing was done: whoever was asked has no copy.
    #[error("this partition or queue is being moved; repeat shortly")]
    NotHere,
    /// Nothing was done: none of those that have a copy was reached.
    #[error("no broker that has this partition or queue can be reached ({reason}); repeat shortly")]
    OutOfReach {
        /// Why not the last one.
        reason: String,
    },
    /// Nothing was done: stopping, or its log is damaged.
    #[error("this partition or queue is not served here right now; repeat shortly")]
    Stopped,
    /// Its log was found damaged when the broker started.
    #[error("this partition or queue is not served: {reason}")]
    Damaged {
        /// File and offset.
        reason: String,
    },
    /// It could not start yet.
    #[error("this partition or queue is not served yet: {reason}; it is tried again every second")]
    NotYet {
        /// What is in the way.
        reason: String,
    },
    /// It may have been done.
    #[error("the outcome is unknown; repeat the request with the same Idempotency-Key")]
    Indeterminate,
    /// A message that must be in the log cannot be read.
    #[error("a stored message cannot be read")]
    Unreadable {
        /// File and offset.
        #[source]
        #[serde(skip)]
        source: Option<ReadError>,
    },
    /// A command of this very version was not understood.
    #[error("a command was not understood by its own version")]
    Misunderstood,
}

impl LogError {
    /// Nothing was done, and another broker may be asked, or this one a moment later.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::NoLeader { .. } | Self::NotHere | Self::OutOfReach { .. } | Self::Stopped
        )
    }
}

impl From<ProposeError> for LogError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Overloaded => Self::Overloaded,
            ProposeError::TooLarge { len, max } => Self::TooLarge { len, max },
            ProposeError::DiskFull => Self::DiskFull,
            ProposeError::NotLeader { leader } => Self::NoLeader { hint: leader },
            ProposeError::Stopped => Self::Stopped,
            ProposeError::Indeterminate => Self::Indeterminate,
        }
    }
}

impl From<NotLeading> for LogError {
    fn from(_: NotLeading) -> Self {
        Self::NoLeader { hint: None }
    }
}

impl From<QueryError> for LogError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::NotLeader { leader } => Self::NoLeader { hint: leader },
            QueryError::Overloaded => Self::Overloaded,
            QueryError::Stopped => Self::Stopped,
        }
    }
}

impl From<ReadError> for LogError {
    fn from(source: ReadError) -> Self {
        Self::Unreadable { source: Some(source) }
    }
}

/// A name that stands for nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum NotFound {
    /// Perhaps it exists.
    #[error(
        "this broker has just started and does not have all of the catalog yet; repeat shortly, or \
         ask another broker"
    )]
    Unsure,
    /// No such topic.
    #[error("topic `{0}` does not exist; create it with PUT /v1/topics/{0}")]
    Topic(Name),
    /// No such subscription.
    #[error(
        "topic `{topic}` has no subscription `{name}`; \
         create it with PUT /v1/topics/{topic}/subscriptions/{name}"
    )]
    Subscription {
        /// Its topic, which exists.
        topic: Name,
        /// Its name.
        name: Name,
    },
    /// No such queue.
    #[error("queue `{0}` does not exist; create it with PUT /v1/queues/{0}")]
    Queue(Name),
    /// No such partition.
    #[error("topic `{topic}` has partitions 0 to {last}, not {partition}")]
    Partition {
        /// The topic.
        topic: Name,
        /// The highest it has.
        last: u32,
        /// As asked.
        partition: u32,
    },
}

/// Why a topic, subscription or queue was not created, changed or deleted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    /// The catalog refused.
    #[error(transparent)]
    Refused(#[from] CatalogRefused),
    /// The log did not take it.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The brokers stay as they are.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// Too many changes at once.
    #[error("too many changes of topics and queues are waiting; repeat shortly")]
    Overloaded,
}

impl From<ProposeError> for AdminError {
    fn from(error: ProposeError) -> Self {
        Self::Log(error.into())
    }
}

impl From<QueryError> for AdminError {
    fn from(error: QueryError) -> Self {
        Self::Log(error.into())
    }
}

/// Why something was not published, sent, read, taken or settled.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum MessageError {
    /// A name that stands for nothing.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// The log did not take it, or cannot give it back.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A send does not fit.
    #[error(
        "queue `{queue}` takes no more: {refused}; receive and acknowledge, or raise its capacity"
    )]
    QueueFull {
        /// The queue.
        queue: Name,
        /// Which limit.
        refused: messaging::queue::Refused,
    },
    /// A send with a priority the queue does not have.
    #[error("{0}")]
    Priority(messaging::queue::Refused),
    /// A producer's publish that may not be appended.
    #[error("partition {partition}: {fenced}")]
    Fenced {
        /// Where.
        partition: u32,
        /// Why.
        fenced: messaging::partition::Fenced,
    },
    /// A producer's batch for several partitions.
    #[error(
        "a producer's sequence counts in one partition, and these messages go to several; give all messages of a request the same x-key, or none"
    )]
    SeveralPartitions,
    /// A position beyond the end of its partition.
    #[error("there is no offset {offset} yet; the partition's next message gets offset {next}")]
    Future {
        /// As asked.
        offset: u64,
        /// The end.
        next: u64,
    },
    /// A pattern that stands for too many topics.
    #[error("more than {max} topics match; use a narrower pattern, and several streams")]
    TooManyTopics {
        /// The limit.
        max: usize,
    },
    /// No task was begun: one runs.
    #[error("messages of queue `{queue}` are being moved by task {id}; wait for it or cancel it")]
    MoveRuns {
        /// The queue that the messages leave.
        queue: Name,
        /// The task.
        id: u64,
    },
    /// No such task.
    #[error("queue `{queue}` has no task {id}, or not any more")]
    NoMove {
        /// The queue that messages would leave.
        queue: Name,
        /// As asked.
        id: u64,
    },
    /// A command to a stream that was not carried out.
    #[error(transparent)]
    Stream(#[from] messaging::stream::StreamRefused),
    /// A position that this server has not given.
    #[error("this offset is none of this stream's; read from one that was given, or from `-1`")]
    NoSuchPosition,
    /// Too many requests wait for messages.
    #[error("{max} requests are waiting for messages here already; repeat shortly")]
    TooManyWaiting {
        /// The limit.
        max: usize,
    },
}

impl From<ProposeError> for MessageError {
    fn from(error: ProposeError) -> Self {
        Self::Log(error.into())
    }
}

impl From<QueryError> for MessageError {
    fn from(error: QueryError) -> Self {
        Self::Log(error.into())
    }
}

impl From<ReadError> for MessageError {
    fn from(error: ReadError) -> Self {
        Self::Log(error.into())
    }
}

impl From<NotLeading> for MessageError {
    fn from(error: NotLeading) -> Self {
        Self::Log(error.into())
    }
}

impl MessageError {
    /// As [`LogError::may_pass`].
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Log(error) if error.may_pass())
    }
}

impl From<MessageError> for AdminError {
    fn from(error: MessageError) -> Self {
        match error {
            MessageError::Log(error) => Self::Log(error),
            // What was just made has been deleted, or is not what it was.
            _ => Self::Log(LogError::NotHere),
        }
    }
}
