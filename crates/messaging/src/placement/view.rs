//! A group, as its leader sees it.

use std::collections::{BTreeMap, BTreeSet};

use consensus::{Index, NodeId};

/// What [`step`](super::step) has to know of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupView {
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// Who only gets the log.
    pub learners: BTreeSet<NodeId>,
    /// The membership is not joint, and it and an entry of this leader's term are committed.
    pub settled: bool,
    /// What is committed.
    pub commit: Index,
    /// What was committed when this leader first saw the learner of the move under way. While
    /// writes go on nobody but the leader has what is committed now, so this is what a learner
    /// must have to be promoted.
    pub asked: Index,
    /// What each other member has durable, and whether it is heard.
    pub matched: BTreeMap<NodeId, (Index, bool)>,
    /// How long this leader has led, in milliseconds. A node that is being emptied says
    /// `u64::MAX`: it hands over at once.
    pub term_age_ms: u64,
}

impl GroupView {
    /// Whether this member is heard. The leader hears itself.
    pub(super) fn hears(&self, here: NodeId, node: NodeId) -> bool {
        node == here || self.matched.get(&node).is_some_and(|(_, reachable)| *reachable)
    }

    /// Whether this member is heard and has all up to here.
    pub(super) fn has(&self, node: NodeId, index: Index) -> bool {
        self.matched.get(&node).is_some_and(|(matched, reachable)| *reachable && index <= *matched)
    }
}
