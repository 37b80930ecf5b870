//! Raft, without I/O: one group ([`Raft`]), and the many groups of a process ([`Multi`]).
//!
//! A *group* is one replicated log with its state machine. An entry is named by (group, term,
//! index); a node's promise to its group is its [`HardState`]. Section numbers (§) refer to the
//! extended Raft paper (Ongaro and Ousterhout, 2014).
//!
//! # The caller's contract
//!
//! 1. Feed inputs: [`Raft::tick`], [`Raft::receive`], [`Raft::propose`], [`Raft::change`],
//!    [`Raft::read`], [`Raft::transfer`], and the `handle_*` methods for what the host has done.
//! 2. Call [`Raft::flush`] after one input or after many: it appends to a list of [`Effect`]s.
//! 3. Carry the effects out in their order. Persisting may take its time: go on feeding inputs, and
//!    tell [`Raft::handle_persisted`] when it is done. Nobody waits for anything else.
//!
//! Pre-vote and check-quorum are always on. The leader sends while its own disk writes, and counts
//! itself like any follower: when it is durable. Whatever promises state leaves only when that
//! state is durable: the core holds it back, so that no host can get that wrong.
//!
//! An idle group costs nothing: a follower whose leader's node is alive has no timer, and a leader
//! whose followers have everything sends nothing. Liveness is watched per pair of nodes, by
//! [`Multi`]; safety never rests on it.
//!
//! A [`NodeId`] names one life of a data directory: it is drawn when the directory is made. A node
//! that lost its disk comes back under another id, as a learner, and whatever still travels to or
//! from its former life is not for it.
//!
//! **Invariant:** nothing in here reads a clock, draws a random number or does I/O: time and seeds
//! are inputs, and the same inputs give the same effects.
//! **Invariant:** at most one leader per term; a committed entry never changes; the commit index,
//! the term and what a follower has confirmed never go back.
//! **Absent:** forwarding of commands (there is a hint who leads), reads by lease, witnesses.

mod ids;
mod sorted;

mod entry;
mod membership;
mod message;
mod quorum;

mod effect;

mod log;
mod progress;
mod raft;

mod multi;

#[cfg(feature = "mutants")]
pub mod mutants;
#[cfg(not(feature = "mutants"))]
mod mutants;

pub use effect::{Effect, Persist, ReadId, Ticket};
pub use entry::{Entry, EntryKind};
pub use ids::{GroupId, HardState, Index, NodeId, Term};
pub use log::TermRun;
pub use membership::{Change, ChangeError, Membership};
pub use message::{
    Append, AppendOutcome, AppendReply, Confirm, Message, ReadIndex, ReadIndexReply, SnapshotMeta,
    SnapshotOffer, StepDown, TimeoutNow, Vote, VoteReply,
};
pub use multi::{GroupEffect, Heartbeat, Multi, MultiConfig, Output, PeerState};
pub use quorum::{VoteResult, majority, reached_by_majority, tally};
pub use raft::{
    ChangeRefused, Config, PeerStatus, ProposeRefused, Proposed, Raft, Restored, RoleName, Status,
    TransferRefused,
};
pub use sorted::{NodeMap, NodeSet};
