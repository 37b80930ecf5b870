//! What can go wrong, one enum per operation.

use std::sync::Arc;

use consensus::{GroupId, NodeId};

use crate::machine::RestoreError;

/// Why the host of groups did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log did not open.
    #[error(transparent)]
    Wal(#[from] storage::OpenError),
    /// A command could be longer than what the log takes at once.
    #[error(
        "commands of {max} bytes do not fit the log's queue; allow {most} at most, or make \
         queue_bytes larger"
    )]
    Commands {
        /// As configured.
        max: usize,
        /// The most that is possible with this queue.
        most: usize,
    },
    /// The snapshot directory did not open.
    #[error(transparent)]
    Snapshots(#[from] storage::snapshot::SnapshotError),
    /// The id of this node cannot be read or written. A new one would make it another member.
    #[error("cannot use {}, which holds the id of this node; restore it, or start with an empty data directory as a new member", path.display())]
    Identity {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        source: std::io::Error,
    },
}

/// Why the process has to end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// A write whose fsync failed may or may not survive, and nothing after it can be promised.
    #[error("the log failed: {0}")]
    Log(Arc<storage::WriteError>),
    /// Whoever waits for it would wait for ever.
    #[error("the {0} task has panicked; report it with the log of this process")]
    Task(&'static str),
    /// The only group of this process has ended here: its log or its machine is of no use.
    #[error("group {0} cannot go on here, the log of this process says why")]
    Group(GroupId),
}

/// Why a group did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The group runs already.
    #[error("group {group} runs already")]
    Running {
        /// Which one.
        group: GroupId,
    },
    /// Its part of the log is damaged. It is not served: what is missing may have been
    /// acknowledged.
    #[error("group {group} is not served, its log is damaged: {detail}; restore it from a backup")]
    Damaged {
        /// Which one.
        group: GroupId,
        /// File and offset.
        detail: String,
    },
    /// The founders it should begin with do not include this node.
    #[error("group {group} does not begin here: this node is not one of its founders")]
    NotFounder {
        /// Which one.
        group: GroupId,
    },
    /// Its snapshot is damaged.
    #[error("group {group} is not served, its snapshot cannot be loaded")]
    Snapshot {
        /// Which one.
        group: GroupId,
        /// What is wrong.
        source: storage::snapshot::SnapshotError,
    },
    /// Its snapshot is of another kind or version.
    #[error("group {group} is not served, its snapshot is not of this kind or version")]
    Restore {
        /// Which one.
        group: GroupId,
        /// What is wrong.
        source: RestoreError,
    },
    /// Its entries could not be read back.
    #[error("group {group} is not served, its log cannot be read back")]
    Read {
        /// Which one.
        group: GroupId,
        /// What is wrong.
        source: storage::ReadError,
    },
    /// The disk is full.
    #[error("the disk is full; free space, then start again")]
    DiskFull,
    /// Too much waits for the disk.
    #[error("too many writes wait for the disk; repeat shortly")]
    Overloaded,
    /// The host has stopped.
    #[error("this node is stopping")]
    Stopped,
}

/// Why a command was not applied, or may not have been.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProposeError {
    /// Nothing was done: too many commands wait.
    #[error("too many commands are waiting on this node; slow down and repeat")]
    Overloaded,
    /// Nothing was done: the command is too long.
    #[error("a command is {len} bytes, the limit is {max}; send less at once")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// Nothing was done: the disk is full.
    #[error("the disk is full; delete or acknowledge something, or free space")]
    DiskFull,
    /// Nothing was done: another node leads the group.
    #[error("another node leads this group")]
    NotLeader {
        /// Who, if known.
        leader: Option<NodeId>,
    },
    /// Nothing was done: the group does not run here.
    #[error("this node is stopping or does not serve this group; repeat elsewhere or shortly")]
    Stopped,
    /// It may have been done or not.
    #[error("the command may or may not have been applied; repeat it with the same key")]
    Indeterminate,
}

/// Why applied state could not be read.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum QueryError {
    /// Nobody has said up to where to read: there is no leader, or it is out of reach.
    #[error("no leader of this group can be reached; repeat shortly")]
    NotLeader {
        /// Who, if known.
        leader: Option<NodeId>,
    },
    /// Too many reads wait.
    #[error("too many reads are waiting on this node; slow down and repeat")]
    Overloaded,
    /// The group does not run here.
    #[error("this node is stopping or does not serve this group; repeat elsewhere or shortly")]
    Stopped,
}

/// Why a group could not be asked.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ControlError {
    /// The group does not run here.
    #[error("this node is stopping or does not serve this group; repeat elsewhere or shortly")]
    Stopped,
}

/// Why a group was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// Nothing was done: too much waits for the log.
    #[error("too many commands are waiting on this node; slow down and repeat")]
    Overloaded,
    /// The host has stopped; the group may or may not be gone.
    #[error("this node is stopping; the group may or may not be removed, repeat shortly")]
    Stopped,
    /// The group is gone from the log; its snapshot file is not.
    #[error(transparent)]
    Snapshot(#[from] storage::snapshot::SnapshotError),
}
