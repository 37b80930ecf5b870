//! What a host may want to know.

use std::sync::Arc;

use super::{Raft, Role};
use crate::ids::{HardState, Index, NodeId, Term};
use crate::membership::Membership;
use crate::progress::Mode;

/// What a node is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoleName {
    /// Follows a leader, or waits for one.
    Follower,
    /// Campaigns, or asks whether it should.
    Candidate,
    /// Leads.
    Leader,
    /// Gets the log and does not vote.
    Learner,
}

/// A moment in the life of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This node's part.
    pub role: RoleName,
    /// The current term.
    pub term: Term,
    /// If known.
    pub leader: Option<NodeId>,
    /// Known to be committed.
    pub commit: Index,
    /// The last entry, and the last that is durable here.
    pub last: Index,
    /// See `last`.
    pub durable: Index,
    /// The last entry that was compacted away.
    pub base: Index,
    /// Who belongs to the group, and since which entry.
    pub membership: Arc<Membership>,
    /// See `membership`.
    pub membership_index: Index,
    /// The newest one that is known to be committed, and since which entry.
    pub settled: (Index, Arc<Membership>),
    /// Of a leader: what each member has, and whether it is heard.
    pub peers: Vec<PeerStatus>,
    /// The group met the impossible and takes part no more.
    pub poisoned: bool,
}

/// A member, as its leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub node: NodeId,
    /// Durable there.
    pub matched: Index,
    /// The host hears it.
    pub reachable: bool,
    /// It fetches this snapshot.
    pub snapshot: Option<Index>,
}

impl Raft {
    /// This node's part.
    #[must_use]
    pub fn role(&self) -> RoleName {
        match &self.role {
            Role::Leader(_) => RoleName::Leader,
            Role::Candidate(_) => RoleName::Candidate,
            Role::Follower if self.membership().is_voter(self.node()) => RoleName::Follower,
            Role::Follower => RoleName::Learner,
        }
    }

    /// That node is a member, or leads.
    pub(crate) fn knows(&self, node: NodeId) -> bool {
        self.leader == Some(node) || self.membership().is_member(node)
    }

    /// Who leads, if known: a hint.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// The promise as of the last flush.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The term of an entry, if the log still knows it.
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.log.term(index)
    }

    /// There are entries in memory.
    #[cfg(test)]
    pub(crate) fn holds_entries(&self) -> bool {
        self.log.holds_entries()
    }

    /// Of a leader: how many entries each member lacks.
    pub fn lags(&self) -> impl Iterator<Item = (NodeId, u64)> + '_ {
        let last = self.log.last().0;
        let peers = match &self.role {
            Role::Leader(leader) => Some(leader.peers.iter()),
            _ => None,
        };
        let lag = move |matched: Index| last.saturating_sub(matched.0);
        peers.into_iter().flatten().map(move |(node, progress)| (*node, lag(progress.matched)))
    }

    /// Everything at once.
    #[must_use]
    pub fn status(&self) -> Status {
        let peers = match &self.role {
            Role::Leader(leader) => leader
                .peers
                .iter()
                .map(|(node, progress)| PeerStatus {
                    node: *node,
                    matched: progress.matched,
                    reachable: progress.reachable,
                    snapshot: match progress.mode {
                        Mode::Snapshot(index) => Some(index),
                        _ => None,
                    },
                })
                .collect(),
            _ => Vec::new(),
        };
        Status {
            role: self.role(),
            term: self.term(),
            leader: self.leader,
            commit: self.commit(),
            last: self.log.last(),
            durable: self.log.durable(),
            base: self.log.base(),
            membership: self.membership().clone(),
            membership_index: self.memberships.current_index(),
            settled: self.memberships.settled(self.commit()),
            peers,
            poisoned: self.poisoned,
        }
    }
}
