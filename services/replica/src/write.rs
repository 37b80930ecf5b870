//! A write: what is asked, and how it ends.

use bytes::Bytes;
use replication::command::Change;
use replication::{AckLevel, Epoch, Index, Position};
use tokio::sync::oneshot;

/// Changes that happen together, if all conditions hold. Keys are with their space.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) compares: Vec<(Bytes, Condition)>,
    pub(crate) changes: Vec<Change>,
    pub(crate) request: Option<Request>,
    pub(crate) ack: AckLevel,
}

/// What must be true of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It exists, with one of these versions.
    AnyOf(Vec<Position>),
    /// It exists with none of these versions, or not at all.
    NoneOf(Vec<Position>),
    Exists,
    Absent,
}

impl Condition {
    /// Whether it holds for a key of this version.
    pub(crate) fn holds(&self, version: Option<Position>) -> bool {
        match (self, version) {
            (Self::AnyOf(versions), Some(version)) => versions.contains(&version),
            (Self::NoneOf(versions), Some(version)) => !versions.contains(&version),
            (Self::Exists, version) => version.is_some(),
            (Self::Absent, version) => version.is_none(),
            (Self::AnyOf(_), None) => false,
            (Self::NoneOf(_), None) => true,
        }
    }
}

/// A request that may be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The `Idempotency-Key`, with its space.
    pub(crate) key: Bytes,
    /// A hash of what was asked, to tell a repeat from a mistake.
    pub(crate) fingerprint: u128,
}

/// Accepted by the primary; now others have to confirm it.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// Where it stands, or what it waits for.
    pub(crate) position: Position,
    pub(crate) outcome: Outcome,
    /// How many members confirmed it, once the level is reached.
    pub(crate) acked: oneshot::Receiver<Acked>,
}

/// What is answered once the level is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Written {
        replayed: bool,
    },
    /// Nothing was written, because of a key that is as committed as the level asks.
    Failed {
        key: Bytes,
        version: Option<Position>,
    },
}

/// How the wait for others ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acked {
    By(u32),
    /// A newer primary took over.
    Lost,
    /// The log had no room: nothing happened.
    Refused(Refusal),
}

/// Why the log took nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    QueueFull,
    DiskFull,
}

/// A write was not carried out, or nobody knows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// Somebody else is.
    #[error("this node is not the primary, and the primary is not known yet; repeat shortly")]
    NoPrimary,
    /// The node is starting.
    #[error("the primary is just starting; repeat shortly")]
    NotOpen,
    #[error("a newer primary with epoch {by} has taken over; send the write to another node")]
    Fenced { by: Epoch },
    #[error("too many writes wait on this node; slow down and repeat")]
    Overloaded,
    #[error(
        "{bytes} bytes of writes wait to be confirmed by a quorum, which is the limit; check the replicas \
         with /v1/replication"
    )]
    TailFull { bytes: usize },
    #[error("the disk is full; free space or delete keys, then repeat")]
    DiskFull,
    #[error("a precondition does not hold; read the key again and decide anew")]
    Precondition { key: Bytes, version: Option<Position> },
    #[error("this Idempotency-Key was used for another request; choose a new key for each request")]
    IdempotencyMismatch,
    #[error(
        "the write is on the primary's disk or on its way there, but not confirmed as `ack` asks; it may still \
         take effect: repeat it with the same Idempotency-Key, or read the key"
    )]
    Indeterminate { position: Option<Position>, applied: bool, acked: u32 },
    #[error(transparent)]
    Engine(#[from] crate::engine::EngineError),
    #[error("the node is shutting down; repeat at another node")]
    Stopped,
}

/// What a caller is told of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) position: Position,
    pub(crate) acked_by: u32,
    pub(crate) replayed: bool,
}

/// The fingerprint of a request: its parts, each with its length in front.
pub(crate) fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u128 {
    replication::history::fingerprint(parts)
}

/// The highest index that a write depends on.
pub(crate) fn latest(left: Index, right: Option<Position>) -> Index {
    right.map_or(left, |version| left.max(version.index))
}
