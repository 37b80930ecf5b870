//! Which nodes live, by one heartbeat per pair.
//!
//! A heartbeat says when it was sent, by the sender's clock, and what the sender has last heard
//! from the receiver. So each side knows two things: whether it hears the other, and whether the
//! other hears it. A follower needs the first of its leader; a leader needs both of a majority,
//! for a leader that nobody hears, or that hears nobody, does not lead.

use std::collections::BTreeMap;

use super::MultiConfig;
use crate::ids::NodeId;
use crate::mutants::{self, Mutant};

/// Tells another node that this one lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Heartbeat {
    /// The sender's life.
    pub epoch: u64,
    /// When it was sent, by the sender's clock in milliseconds; 0 is an answer to a stranger, which
    /// is not answered.
    pub sent_ms: u64,
    /// The receiver's life that the sender has last heard; 0 is none.
    pub echo_epoch: u64,
    /// And its time.
    pub echo_ms: u64,
}

/// What a node knows of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// It is heard.
    pub is_heard: bool,
    /// It is heard, and it hears.
    pub is_up: bool,
    /// Milliseconds from a heartbeat to its echo, half a heartbeat interval on average included;
    /// 0 before the first.
    pub round_trip_ms: u64,
}

/// What the groups have to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Up { node: NodeId, is_new_life: bool },
    Down { node: NodeId },
    Silent { node: NodeId },
}

impl Change {
    pub(super) fn node(self) -> NodeId {
        match self {
            Self::Up { node, .. } | Self::Down { node } | Self::Silent { node } => node,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Liveness {
    config: MultiConfig,
    peers: BTreeMap<NodeId, Peer>,
    /// For nodes that share a group with this one and are ahead: it does not know yet.
    answers: BTreeMap<NodeId, Heartbeat>,
    beat_at_ms: u64,
    now_ms: u64,
}

#[derive(Clone, Debug)]
struct Peer {
    /// Groups shared with it.
    groups: usize,
    epoch: u64,
    /// By its clock, to be echoed.
    heard_sent_ms: u64,
    /// By this node's clock. Also set when it is first watched: it gets that much time.
    heard_ms: u64,
    echoed_ms: u64,
    round_trip_ms: u64,
    is_heard: bool,
    is_up: bool,
}

impl Liveness {
    pub(super) fn new(config: MultiConfig, now_ms: u64) -> Self {
        let (peers, answers) = (BTreeMap::new(), BTreeMap::new());
        Self { config, peers, answers, beat_at_ms: now_ms, now_ms }
    }

    /// A group shares this node. Until proven otherwise it lives.
    pub(super) fn retain(&mut self, node: NodeId, now_ms: u64) {
        let peer = self.peers.entry(node).or_insert(Peer {
            groups: 0,
            epoch: 0,
            heard_sent_ms: 0,
            heard_ms: now_ms,
            echoed_ms: now_ms,
            round_trip_ms: 0,
            is_heard: true,
            is_up: true,
        });
        peer.groups += 1;
    }

    pub(super) fn release(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.groups -= 1;
            if peer.groups == 0 {
                self.peers.remove(&node);
            }
        }
    }

    pub(super) fn is_heard(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.is_heard)
    }

    pub(super) fn is_up(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.is_up)
    }

    pub(super) fn down(&self) -> Vec<NodeId> {
        self.peers.iter().filter(|(_, peer)| !peer.is_up).map(|(node, _)| *node).collect()
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = (NodeId, PeerState)> {
        self.peers.iter().map(|(node, peer)| {
            let Peer { is_heard, is_up, round_trip_ms, .. } = *peer;
            (*node, PeerState { is_heard, is_up, round_trip_ms })
        })
    }

    pub(super) fn receive(&mut self, from: NodeId, heartbeat: Heartbeat) -> Vec<Change> {
        let (now_ms, own) = (self.now_ms, self.config.epoch);
        let is_answer = heartbeat.sent_ms == 0;
        let Some(peer) = self.peers.get_mut(&from) else {
            // A member that was added counts on it before it knows: without an answer it would be
            // taken for dead, and never be told.
            if !is_answer && !mutants::is(Mutant::StrangersIgnored) {
                let Heartbeat { epoch: echo_epoch, sent_ms: echo_ms, .. } = heartbeat;
                let answer = Heartbeat { epoch: own, sent_ms: 0, echo_epoch, echo_ms };
                self.answers.insert(from, answer);
            }
            return Vec::new();
        };
        let is_new_life = peer.epoch != heartbeat.epoch;
        if !is_new_life && !is_answer && heartbeat.sent_ms < peer.heard_sent_ms {
            // Overtaken on the way.
            return Vec::new();
        }
        let is_known = peer.epoch != 0;
        peer.epoch = heartbeat.epoch;
        peer.heard_sent_ms =
            if is_new_life { heartbeat.sent_ms } else { heartbeat.sent_ms.max(peer.heard_sent_ms) };
        peer.heard_ms = now_ms;
        peer.is_heard = true;
        let echoes = heartbeat.echo_epoch == own;
        if echoes {
            peer.echoed_ms = peer.echoed_ms.max(heartbeat.echo_ms.min(now_ms));
            peer.round_trip_ms = now_ms.saturating_sub(heartbeat.echo_ms);
        }
        let was_up = peer.is_up;
        peer.is_up = now_ms < peer.echoed_ms + self.config.election_ms;
        match (was_up, peer.is_up) {
            (true, false) => vec![Change::Down { node: from }],
            (false, true) => vec![Change::Up { node: from, is_new_life }],
            (true, true) if is_new_life && is_known => vec![Change::Up { node: from, is_new_life }],
            // What it led, it does not lead any more.
            (false, false) if is_new_life && is_known => vec![Change::Silent { node: from }],
            _ => Vec::new(),
        }
    }

    pub(super) fn handle_refused(&mut self, node: NodeId) -> Vec<Change> {
        let Some(peer) = self.peers.get_mut(&node) else { return Vec::new() };
        let mut changes = Vec::new();
        if std::mem::replace(&mut peer.is_heard, false) {
            changes.push(Change::Silent { node });
        }
        if std::mem::replace(&mut peer.is_up, false) {
            changes.push(Change::Down { node });
        }
        changes
    }

    pub(super) fn tick(&mut self, now_ms: u64) -> Vec<Change> {
        self.now_ms = now_ms;
        let mut changes = Vec::new();
        for (node, peer) in &mut self.peers {
            if peer.is_heard && peer.heard_ms + self.config.election_ms <= now_ms {
                peer.is_heard = false;
                changes.push(Change::Silent { node: *node });
            }
            if peer.is_up && peer.echoed_ms + self.config.election_ms <= now_ms {
                peer.is_up = false;
                changes.push(Change::Down { node: *node });
            }
        }
        changes
    }

    pub(super) fn deadline_ms(&self) -> Option<u64> {
        (!self.peers.is_empty()).then_some(self.beat_at_ms)
    }

    pub(super) fn flush(&mut self, now_ms: u64, heartbeats: &mut Vec<(NodeId, Heartbeat)>) {
        heartbeats.extend(std::mem::take(&mut self.answers));
        if now_ms < self.beat_at_ms || self.peers.is_empty() {
            return;
        }
        // A fixed grid, also when a beat comes late.
        let missed = (now_ms - self.beat_at_ms) / self.config.heartbeat_ms;
        self.beat_at_ms += (missed + 1) * self.config.heartbeat_ms;
        for (node, peer) in &self.peers {
            let heartbeat = Heartbeat {
                epoch: self.config.epoch,
                sent_ms: now_ms,
                echo_epoch: peer.epoch,
                echo_ms: peer.heard_sent_ms,
            };
            heartbeats.push((*node, heartbeat));
        }
    }
}
