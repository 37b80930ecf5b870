//! What the cores ask of their caller.

use crate::{Entry, Epoch, Head, Index, Ticket};

/// A write handed to the log. The caller reports it durable in the order of the tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IoToken(pub u64);

/// To be carried out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Keep the epoch. Durable before anything that is logged after it.
    KeepEpoch {
        /// Reported when durable.
        token: IoToken,
        /// Never lower than the one kept before.
        epoch: Epoch,
    },
    /// Append to the log.
    Append {
        /// Reported when durable.
        token: IoToken,
        /// Consecutive, following the log's last.
        entries: Vec<Entry>,
    },
    /// Drop what the log holds after `last`. None of it is committed.
    Truncate {
        /// Reported when durable.
        token: IoToken,
        /// Where the log ends from now on.
        last: Head,
    },
    /// Entries up to here may reach the engine.
    Commit {
        /// Never lower than before.
        through: Index,
    },
    /// Answer a writer: its level is reached.
    Acked {
        /// Whose.
        ticket: Ticket,
        /// How many members had confirmed it, the primary included.
        acked_by: u32,
    },
    /// Answer a writer: a newer primary exists, so nobody will confirm this write any more.
    Lost {
        /// Whose.
        ticket: Ticket,
    },
    /// The replica's progress changed: tell the primary at once.
    Report,
    /// Fetch and install the primary's snapshot, then call [`crate::Replica::installed`].
    Install {
        /// What state it is of.
        at: Head,
    },
    /// End the connection to this primary and look for another.
    Leave,
    /// Stop following anybody until an operator has looked at it.
    Halt(Fault),
}

/// Why a replica stopped for good. Each names two facts that cannot both be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The primary's history parts from ours before our commit index.
    #[error(
        "the primary's history parts from this node's after index {common}, but this node knows \
         entries up to {commit} to be committed; if the primary is right, remove this node's data \
         directory"
    )]
    WouldLoseCommitted {
        /// The last common index.
        common: Index,
        /// Known to be committed here.
        commit: Index,
    },
    /// Another history of the same name.
    #[error(
        "the primary has another history of the same name, as if it had been set up anew; if the \
         primary is right, remove this node's data directory"
    )]
    ForeignHistory,
    /// Equal positions, different states.
    #[error(
        "the state at index {at} is not the primary's: it is corrupt here or there; compare \
         /v1/digest of all nodes, then remove the data directory of the odd one"
    )]
    DigestMismatch {
        /// Where they were compared.
        at: Index,
    },
}
