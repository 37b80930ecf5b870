//! Where groups live, and where they are moving.
//!
//! ```text
//! Put… ─▶ founded on `founders` ─▶ BeginMove ─▶ (the group's leader changes its members)
//!                                     │  └────── CancelMove: it undoes what it has begun
//!                                     └─▶ EndMove: who has to go is `leaving`
//! Delete… ─▶ all copies are `leaving` ─▶ Left, by each node that has removed its copy
//! ```
//!
//! **Invariant:** a node removes a copy only while the catalog lists it as leaving, or when it runs
//! one again after it has said that it left: see [`Catalog::has_no_copy`](super::Catalog::has_no_copy).
//! **Invariant:** a group has one move at a time, and `generation` tells moves apart.

use std::collections::BTreeMap;

use consensus::NodeId;
use serde::{Deserialize, Serialize};

use crate::ids::{Millis, Name};

/// Most copies of a group.
pub const MAX_REPLICAS: u8 = 7;
/// How long a node that has removed its copy does not get another one: longer than any message
/// of its former life is under way.
pub const COMEBACK_MS: u64 = 60_000;

/// What lives in a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A partition of a topic.
    Partition {
        /// Of which topic.
        topic: Name,
        /// Its number there.
        number: u32,
    },
    /// A queue.
    Queue {
        /// Which.
        name: Name,
    },
    /// Streams: those whose paths hash to this number.
    Streams {
        /// Which of the groups of streams.
        number: u32,
    },
}

/// One copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// Where.
    pub node: NodeId,
    /// The move that brought it; 0 for founders. A copy that was brought begins empty.
    pub since: u64,
    /// The node cannot use it.
    pub damaged: bool,
}

/// A change of a group's members that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Who gets a copy.
    pub add: Option<NodeId>,
    /// Whose copy goes.
    pub remove: Option<NodeId>,
    /// When it began.
    pub since_ms: Millis,
    /// It is to be undone, unless it is done already.
    pub cancelled: bool,
}

/// Where a group lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// What lives there.
    pub kind: Kind,
    /// How many copies there should be.
    pub wanted: u8,
    /// Who founded it: fixed for ever, as each of them writes it into its log.
    pub founders: Vec<NodeId>,
    /// Its copies. Never none.
    pub replicas: Vec<Replica>,
    /// Who should lead.
    pub preferred: NodeId,
    /// The move under way.
    pub move_: Option<Move>,
    /// Counts the steps of moves.
    pub generation: u64,
    /// Who has removed a copy lately, and when.
    pub left: Vec<(NodeId, Millis)>,
}

/// How a node begins its copy of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// With the founding entry.
    Found,
    /// Empty: its leader sends everything.
    Join,
}

impl Placement {
    /// Its copy on this node.
    #[must_use]
    pub fn replica(&self, node: NodeId) -> Option<&Replica> {
        self.replicas.iter().find(|replica| replica.node == node)
    }

    /// The nodes that have a copy.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.replicas.iter().map(|replica| replica.node)
    }

    /// The nodes that will have a copy when the move is over.
    pub fn planned(&self) -> impl Iterator<Item = NodeId> + '_ {
        let moving = self.move_.filter(|moving| !moving.cancelled);
        let remove = moving.and_then(|moving| moving.remove);
        let add = moving.and_then(|moving| moving.add);
        self.nodes().filter(move |node| Some(*node) != remove).chain(add)
    }

    /// What this node has to do for the group: nothing, if `None`.
    #[must_use]
    pub fn duty(&self, node: NodeId) -> Option<Duty> {
        match self.replica(node) {
            Some(Replica { since: 0, .. }) => Some(Duty::Found),
            Some(_) => Some(Duty::Join),
            None => (self.move_?.add == Some(node)).then_some(Duty::Join),
        }
    }

    /// Whether the node has removed a copy so lately that it must not get another one yet.
    #[must_use]
    pub fn has_just_left(&self, node: NodeId, now: Millis) -> bool {
        self.left.iter().any(|(left, at)| *left == node && now < at.saturating_add(COMEBACK_MS))
    }
}

/// What a broker carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Copies, with those on their way and without those about to go.
    pub replicas: u32,
    /// Groups it should lead.
    pub preferred: u32,
}

/// What each broker carries. Kept up with every change, so that placing a group does not have to
/// look at the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load(BTreeMap<NodeId, Share>);

impl Load {
    /// What this broker carries.
    #[must_use]
    pub fn of(&self, node: NodeId) -> Share {
        self.0.get(&node).copied().unwrap_or_default()
    }

    /// Counts a group.
    pub fn add(&mut self, placement: &Placement) {
        for node in placement.planned() {
            self.change(node, |share| share.replicas += 1);
        }
        self.change(placement.preferred, |share| share.preferred += 1);
    }

    /// No longer counts a group.
    pub fn remove(&mut self, placement: &Placement) {
        for node in placement.planned() {
            self.change(node, |share| share.replicas -= 1);
        }
        self.change(placement.preferred, |share| share.preferred -= 1);
    }

    /// Counts a move that is planned.
    pub(crate) fn move_copy(&mut self, add: Option<NodeId>, remove: Option<NodeId>) {
        if let Some(node) = add {
            self.change(node, |share| share.replicas += 1);
        }
        if let Some(node) = remove {
            self.change(node, |share| share.replicas -= 1);
        }
    }

    /// Counts that another leads.
    pub(crate) fn move_lead(&mut self, from: NodeId, to: NodeId) {
        self.change(from, |share| share.preferred -= 1);
        self.change(to, |share| share.preferred += 1);
    }

    fn change(&mut self, node: NodeId, change: impl FnOnce(&mut Share)) {
        let share = self.0.entry(node).or_default();
        change(share);
        if *share == Share::default() {
            self.0.remove(&node);
        }
    }
}
