//! A group as Raft would have it, without its messages: who votes, what is committed, who has it.

use std::collections::{BTreeMap, BTreeSet};

use consensus::NodeId;

/// Who belongs to a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Members {
    pub(super) voters: BTreeSet<NodeId>,
    pub(super) learners: BTreeSet<NodeId>,
}

impl Members {
    pub(super) fn change(mut self, promote: Option<NodeId>, remove: Option<NodeId>) -> Self {
        if let Some(node) = promote {
            self.learners.remove(&node);
            self.voters.insert(node);
        }
        if let Some(node) = remove {
            self.learners.remove(&node);
            self.voters.remove(&node);
        }
        self
    }

    pub(super) fn contains(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.learners.contains(&node)
    }
}

#[derive(Debug, Default)]
pub(super) struct Toy {
    pub(super) members: Members,
    /// Logged by the leader, not committed yet.
    pub(super) next: Option<Members>,
    pub(super) commit: u64,
    pub(super) term: u64,
    pub(super) leader: Option<NodeId>,
    /// What the leader knows of the others.
    pub(super) matched: BTreeMap<NodeId, u64>,
    /// The learner it sees, and what was committed when it saw it first.
    pub(super) asked: Option<(NodeId, u64)>,
}

impl Toy {
    pub(super) fn founded(founders: &[NodeId]) -> Self {
        let members = Members { voters: founders.iter().copied().collect(), ..Members::default() };
        Self { members, commit: 1, ..Self::default() }
    }

    pub(super) fn is_led_by(&self, node: NodeId, term: u64) -> bool {
        self.leader == Some(node) && self.term == term
    }

    /// Everybody who must have a say now.
    pub(super) fn configurations(&self) -> Vec<&BTreeSet<NodeId>> {
        let next = self.next.iter().map(|next| &next.voters);
        std::iter::once(&self.members.voters).chain(next).collect()
    }

    /// Whether these are a majority of every configuration in force.
    pub(super) fn decides(&self, nodes: &BTreeSet<NodeId>) -> bool {
        let mut all = self.configurations().into_iter();
        all.all(|voters| voters.len() < 2 * voters.intersection(nodes).count())
    }

    /// Whether this node gets the log.
    pub(super) fn contains(&self, node: NodeId) -> bool {
        self.members.contains(node) || self.newest().contains(node)
    }

    /// The one that is in force in the end.
    pub(super) fn newest(&self) -> &Members {
        self.next.as_ref().unwrap_or(&self.members)
    }
}
