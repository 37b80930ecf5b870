//! Leadership handed over on purpose (dissertation, 3.10).

use super::{Raft, Role};
use crate::ids::NodeId;
use crate::message::{Message, TimeoutNow};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Transfer {
    to: NodeId,
    deadline_ms: u64,
    asked: bool,
}

impl Transfer {
    pub(super) fn forget_time(&mut self) {
        self.deadline_ms = 1;
    }
}

/// A transfer that was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferRefused {
    /// Only the leader hands over.
    #[error("this node does not lead; ask the leader")]
    NotLeader {
        /// If known.
        leader: Option<NodeId>,
    },
    /// Only a voter can lead.
    #[error("node {0} is not a voter")]
    NotVoter(NodeId),
    /// It would not get there.
    #[error("node {0} does not answer")]
    Unreachable(NodeId),
}

impl Raft {
    /// Lets `to` campaign as soon as it has everything. Proposals are refused meanwhile; if it
    /// does not lead after an election timeout, this node goes on. To itself: nothing to do.
    ///
    /// # Errors
    ///
    /// When this node does not lead, or `to` cannot.
    pub fn transfer(&mut self, to: NodeId) -> Result<(), TransferRefused> {
        let leader = self.leader;
        let (me, membership) = (self.node(), self.membership().clone());
        let deadline_ms = self.now_ms + self.config.election_ms;
        let Role::Leader(role) = &mut self.role else {
            return Err(TransferRefused::NotLeader { leader });
        };
        if !membership.voters.contains(&to) {
            return Err(TransferRefused::NotVoter(to));
        }
        if to == me {
            return Ok(());
        }
        if !role.progress(to).is_some_and(|progress| progress.reachable) {
            return Err(TransferRefused::Unreachable(to));
        }
        role.transfer = Some(Transfer { to, deadline_ms, asked: false });
        Ok(())
    }

    /// Hands leadership to whoever has most, or gives it up if nobody is there. Among equals it is
    /// drawn, so that what one node led does not all go to the same other one.
    pub fn resign(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let can_lead = |node: NodeId| self.membership().voters.contains(&node);
        let others = || {
            let peers = leader.peers.iter();
            peers.filter(|(node, progress)| progress.reachable && can_lead(*node))
        };
        let most = others().map(|(_, progress)| progress.matched).max();
        let best: Vec<NodeId> = others()
            .filter(|(_, progress)| Some(progress.matched) == most)
            .map(|(node, _)| *node)
            .collect();
        match best.len() {
            0 => self.step_down(),
            count => {
                let drawn = self.draw(count as u64) as usize;
                // It leads, and the other one is a voter that is reached.
                let _ = self.transfer(best[drawn]);
            }
        }
    }

    pub(super) fn flush_transfer(&mut self) {
        let (last_index, last_term) = (self.log.last(), self.log.last_term());
        let term = self.term();
        let Role::Leader(role) = &mut self.role else { return };
        let Some(transfer) = role.transfer else { return };
        let has_all =
            role.progress(transfer.to).is_some_and(|progress| progress.matched == last_index);
        if has_all && !transfer.asked {
            role.transfer = Some(Transfer { asked: true, ..transfer });
            let now = TimeoutNow { term, last_index, last_term };
            self.send(transfer.to, Message::TimeoutNow(now));
        }
    }

    pub(super) fn expire_transfer(&mut self) {
        let now_ms = self.now_ms;
        if let Role::Leader(role) = &mut self.role
            && role.transfer.is_some_and(|transfer| transfer.deadline_ms <= now_ms)
        {
            role.transfer = None;
        }
    }

    pub(super) fn handle_timeout_now(&mut self, from: NodeId, now: TimeoutNow) {
        // An old request must not elect somebody who lacks what came since.
        if self.follow(from) && self.log.matches(now.last_index, now.last_term) {
            self.campaign(false, true);
        }
    }
}
