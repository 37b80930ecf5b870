//! What the driver is told.

use bytes::Bytes;
use consensus::{
    Change, ChangeRefused, Entry, GroupId, Index, NodeId, Raft, SnapshotMeta, Status, Term, Ticket,
    TransferRefused,
};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use telemetry::trace::ActiveSpan;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::fill::{Install, Resume};
use crate::apply::AnyApplied;
use crate::error::{ProposeError, QueryError, RemoveError};
use crate::group::Leadership;
use crate::member::MemberInfo;
use crate::members::{Begun, MemberError, MemberRequest, Rules};

/// Whoever waits for a command.
pub(crate) type ReplySender = oneshot::Sender<Result<AnyApplied, ProposeError>>;

pub(crate) enum Input {
    /// Name and addresses of this node, and the digest of what it begins with.
    Introduce(MemberInfo, Option<String>),
    /// Whom this node has met as a founder, as a digest.
    Met(String),
    /// Base URLs of nodes, told by the service: in place of what it told before.
    Know(BTreeMap<NodeId, String>),
    /// Hands over whatever this node leads.
    ResignAll,
    Propose(Proposal),
    Read(PendingRead),
    /// Takes a group's name; false if it is taken.
    Reserve {
        group: GroupId,
        done: oneshot::Sender<bool>,
    },
    Start(Box<Start>),
    /// Lets a group go and keeps its data: it did not come up.
    Abandon {
        group: GroupId,
    },
    /// A group cannot go on here: its machine or its log is of no use.
    Broken {
        group: GroupId,
    },
    Remove {
        group: GroupId,
        /// What was promised stays: the node may come back to the group.
        is_left: bool,
        done: oneshot::Sender<Result<(), RemoveError>>,
    },
    Control(GroupId, Control),
    /// A snapshot of this node is on disk.
    Snapshotted(Snapshotted),
    /// Entries that were asked for; none if they could not be read.
    Loaded {
        group: GroupId,
        from: Index,
        entries: Vec<Entry>,
    },
    /// A snapshot of the leader is here.
    Fetched {
        group: GroupId,
        snapshot: SnapshotMeta,
        bytes: Bytes,
    },
    /// A fetched snapshot is on disk and in the machine: the log may go on behind it.
    Installed {
        group: GroupId,
        install: Install,
    },
    /// Nothing is missing any more below a fetched snapshot.
    Filled {
        group: GroupId,
        ticket: Ticket,
    },
}

/// A group begins to run, from what is on disk.
pub(crate) struct Start {
    pub(crate) group: GroupId,
    pub(crate) raft: Raft,
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) applied: watch::Receiver<Index>,
    /// Its snapshot is still being installed.
    pub(crate) resume: Option<Resume>,
    pub(crate) done: oneshot::Sender<()>,
}

/// What operators ask of a group.
pub(crate) enum Control {
    Status(oneshot::Sender<Status>),
    /// In this term only.
    Change(Term, Vec<Change>, oneshot::Sender<Result<Index, ChangeRefused>>),
    /// The request, the commit index when it was first made, and what the operator has set.
    Members(Box<(MemberRequest, Index, Rules)>, oneshot::Sender<Result<Begun, MemberError>>),
    Transfer(NodeId, oneshot::Sender<Result<(), TransferRefused>>),
    Resign,
}

pub(crate) struct Snapshotted {
    pub(crate) group: GroupId,
    pub(crate) snapshot: SnapshotMeta,
    /// Entries below it whose payloads are still read from the log.
    pub(crate) keep: Vec<RangeInclusive<Index>>,
}

/// A command on its way into the log.
pub(crate) struct Proposal {
    pub(crate) group: GroupId,
    pub(crate) command: Bytes,
    pub(crate) reply: ReplySender,
    /// When it was handed over.
    pub(crate) since: Instant,
    /// It lets others go: it may use the reserve of a full disk.
    pub(crate) freeing: bool,
    /// It makes sense only if this node leads in this term.
    pub(crate) leading: Option<Term>,
    /// The proposer's span, if anybody will see it: it travels along and notes what it waited for.
    pub(crate) span: Option<Box<ActiveSpan>>,
}

/// A read that waits until it may be served.
pub(crate) struct PendingRead {
    pub(crate) group: GroupId,
    /// Told when it may begin. Dropped: the group does not run here.
    pub(crate) done: oneshot::Sender<Result<(), QueryError>>,
}
