//! What a group wants done. The host carries effects out in their order; it may go on stepping
//! meanwhile.

use std::sync::Arc;

use crate::entry::Entry;
use crate::ids::{HardState, Index, NodeId, Term};
use crate::membership::Membership;
use crate::message::{Message, SnapshotMeta};

/// Names one [`Persist`] or [`Install`](Effect::Install) of a group; rising.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Names one read of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// What has to become durable, atomically.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Persist {
    /// Acknowledged by [`Raft::handle_persisted`](crate::Raft::handle_persisted), which may skip
    /// tickets: one stands for all before it.
    pub ticket: Ticket,
    /// The new promise, if it changed.
    pub hard_state: Option<HardState>,
    /// Drop the entries from here on, before `entries` are added.
    pub truncate_from: Option<Index>,
    /// At the end of the log, without gaps.
    pub entries: Vec<Entry>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Write to the log, in order with the other persists of the group.
    Persist(Persist),
    /// The fetched snapshot becomes the state: make it durable, then let the log go on behind it,
    /// then acknowledge the ticket. The state machine gets it before any later commit.
    Install {
        /// See [`Persist::ticket`].
        ticket: Ticket,
        /// Which.
        snapshot: SnapshotMeta,
    },
    /// Send, now or never: the core never relies on delivery, and it holds back whatever must wait
    /// for the disk until the ticket was acknowledged.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Every entry up to here is committed and in the log of this node, durably.
    Commit {
        /// Inclusive.
        through: Index,
    },
    /// These reads may be served once everything up to `index` is applied.
    ReadReady {
        /// As given to [`Raft::read`](crate::Raft::read).
        reads: Vec<ReadId>,
        /// Inclusive.
        index: Index,
    },
    /// These reads cannot be served here and now; nothing was done.
    ReadFailed {
        /// As given to [`Raft::read`](crate::Raft::read).
        reads: Vec<ReadId>,
    },
    /// Entries are needed that are no longer in memory: read them from the log and hand them to
    /// [`Raft::handle_loaded`](crate::Raft::handle_loaded). One such question is open at a time.
    Load {
        /// The first.
        from: Index,
        /// The last one, at most.
        through: Index,
        /// But not more than this, except for one entry.
        max_bytes: usize,
    },
    /// Fetch this snapshot from that node, then call
    /// [`Raft::handle_fetched`](crate::Raft::handle_fetched). A newer one replaces an older one.
    Fetch {
        /// From whom.
        from: NodeId,
        /// Which.
        snapshot: SnapshotMeta,
    },
    /// Who leads has changed.
    Leader {
        /// The current term.
        term: Term,
        /// If known.
        leader: Option<NodeId>,
    },
    /// Who belongs to the group has changed: in force from now on, though maybe not committed.
    Membership {
        /// The entry that says so.
        index: Index,
        /// Who.
        membership: Arc<Membership>,
    },
    /// The group met what cannot happen and takes part no more. Its data needs a look.
    Poison {
        /// What.
        reason: &'static str,
    },
}
