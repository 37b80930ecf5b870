//! A leader that cannot take what it is asked to makes way for a member that can.
//!
//! Heartbeats need no disk, so a member whose disk hangs or is full would lead for as long as it
//! stays so, while the others have all that it takes.

use consensus::{GroupId, NodeId, Raft};
use tokio::time::{Duration, Instant};

use super::Driver;
use crate::error::ProposeError;

/// If everybody's disk is full, leadership goes round no faster than this.
const PAUSE: Duration = Duration::from_secs(10);

/// Why this node should not lead.
pub(super) struct Way {
    /// A write that takes longer hangs.
    patience: Duration,
    /// The groups that had to refuse a command for want of space since the last look.
    full: Vec<GroupId>,
    last: Option<Instant>,
}

impl Way {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, full: Vec::new(), last: None }
    }

    /// A command for a group that is led here was refused.
    pub(super) fn note(&mut self, group: GroupId, error: &ProposeError) {
        if *error == ProposeError::DiskFull && !self.full.contains(&group) {
            self.full.push(group);
        }
    }
}

impl Driver {
    pub(super) fn make_way(&mut self) {
        let now = Instant::now();
        let full = std::mem::take(&mut self.way.full);
        let patience = self.way.patience;
        let hangs = self.disk.oldest().is_some_and(|since| patience < now - since);
        let is_too_soon = self.way.last.is_some_and(|last| now < last + PAUSE);
        if is_too_soon || !hangs && full.is_empty() {
            return;
        }
        let groups = match hangs {
            true => self.leadership.keys().copied().collect(),
            false => full,
        };
        let here = self.multi.node();
        for group in groups {
            if let Some(raft) = self.multi.touch(group).filter(|raft| has_successor(raft, here)) {
                let reason = if hangs { "its disk hangs" } else { "its disk is full" };
                tracing::warn!(%group, reason, "this node gives up leading");
                raft.resign();
                self.way.last = Some(now);
            }
        }
    }
}

/// Whether somebody else could lead what this node leads.
fn has_successor(raft: &Raft, here: NodeId) -> bool {
    let status = raft.status();
    let can_lead = |peer: &consensus::PeerStatus| {
        peer.reachable && peer.node != here && status.membership.is_voter(peer.node)
    };
    raft.is_leader() && status.peers.iter().any(can_lead)
}
