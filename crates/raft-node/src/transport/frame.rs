//! What peers tell each other, as the driver sees it.

use bytes::Bytes;
use consensus::{GroupId, Heartbeat, Index, Message, NodeId, Term};
use telemetry::trace::TraceContext;

/// Everything that goes to one peer at once, of all groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeerFrame {
    /// At most one: a newer one replaces an older one that still waits.
    pub(crate) heartbeat: Option<Heartbeat>,
    /// Consensus messages. The core survives their loss, so the transport may drop them.
    pub(crate) messages: Vec<(GroupId, Message)>,
    /// Commands for groups that the receiver is believed to lead.
    pub(crate) forwards: Vec<Forward>,
    /// Answers to the receiver's forwards.
    pub(crate) replies: Vec<ForwardReply>,
    /// Entries in these messages that somebody traces.
    pub(crate) marks: Vec<Mark>,
}

/// An entry that is part of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Where it belongs.
    pub(crate) group: GroupId,
    /// Its place in the log.
    pub(crate) index: Index,
    /// Its proposer's span.
    pub(crate) trace: TraceContext,
}

/// A command that a follower passes on to the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    /// Made by the follower, to find the caller when the answer comes. Never used twice in one
    /// life of the process.
    pub(crate) id: u64,
    /// Where it belongs.
    pub(crate) group: GroupId,
    /// Opaque.
    pub(crate) command: Bytes,
    /// It lets others go: it may use the reserve of a full disk.
    pub(crate) freeing: bool,
    /// The proposer's trace context in text form, or empty. Opaque.
    pub(crate) trace: Bytes,
}

/// The answer to a [`Forward`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ForwardReply {
    /// Of the forward.
    pub(crate) id: u64,
    /// What became of it.
    pub(crate) outcome: ForwardOutcome,
}

/// What became of a [`Forward`]. All but the first and the last mean that nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ForwardOutcome {
    /// It stands in the leader's log. Whether it is committed shows when this index is applied: it
    /// is, if the entry there has this term.
    Placed {
        /// The leader's.
        term: Term,
        /// Where.
        index: Index,
    },
    /// Another node leads.
    NotLeader {
        /// Who, if known.
        leader: Option<NodeId>,
    },
    /// Too many commands wait at the leader.
    Overloaded,
    /// The leader's disk is full.
    DiskFull,
    /// The leader takes shorter commands only.
    TooLarge {
        /// Its limit in bytes.
        max: u64,
    },
    /// The group does not run there.
    Stopped,
    /// It may have been placed or not. Also what an answer means that this release does not know.
    Indeterminate,
}

/// What the transport tells the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A peer says this.
    Frame {
        /// Who.
        from: NodeId,
        /// What.
        frame: PeerFrame,
    },
    /// A node has opened a stream and says where it is reached.
    Met {
        /// Who.
        node: NodeId,
        /// Base URL.
        url: String,
    },
    /// From now on what is sent to this node travels.
    Connected {
        /// Which.
        node: NodeId,
    },
    /// The stream to this node has ended. What was written to it may have arrived or not.
    Disconnected {
        /// Which.
        node: NodeId,
        /// Forwards that were never written: nothing was done.
        unsent: Vec<u64>,
    },
    /// The stream that this node had opened has ended, behind its last frame: what it had still to
    /// say may be lost.
    Unheard {
        /// Which.
        node: NodeId,
    },
    /// The process there is gone: its machine refuses the connection, and nothing of what it sent
    /// is still to come. Never told of timeouts or failed name lookups, which prove nothing.
    Refused {
        /// Which.
        node: NodeId,
    },
}

/// What a message beyond its payload counts for in a frame and in an outbox.
const OVERHEAD: usize = 64;

/// Bytes that limits count for a message.
pub(super) fn cost((_, message): &(GroupId, Message)) -> usize {
    let membership = match message {
        Message::Snapshot(offer) => {
            let info = &offer.snapshot.membership.info;
            info.values().map(|info| OVERHEAD + info.len()).sum()
        }
        _ => 0,
    };
    message.cost() + membership
}

impl Forward {
    /// Bytes that limits count.
    pub(super) fn cost(&self) -> usize {
        OVERHEAD + self.command.len() + self.trace.len()
    }
}

impl ForwardReply {
    /// Bytes that limits count.
    pub(super) const COST: usize = OVERHEAD;
}

impl PeerFrame {
    /// Bytes that limits count, heartbeat aside.
    pub(super) fn cost(&self) -> usize {
        let messages: usize = self.messages.iter().map(cost).sum();
        let forwards: usize = self.forwards.iter().map(Forward::cost).sum();
        messages + forwards + self.replies.len() * ForwardReply::COST
    }

    /// How many messages, forwards and answers it has.
    pub(super) fn parts(&self) -> usize {
        self.messages.len() + self.forwards.len() + self.replies.len()
    }

    /// It says nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.heartbeat.is_none() && self.parts() == 0
    }
}
