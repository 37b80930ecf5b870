//! For the exhaustive exploration of small clusters only: what time and counting alone make
//! different is made equal.

use super::{Raft, Role};
use crate::effect::Ticket;
use crate::ids::{Index, NodeId};

impl Raft {
    /// Moves the clock back to its start, deadlines to the next moment, random numbers to their
    /// seed and tickets to 0. Returns by how much tickets were moved: whoever holds some has to do
    /// the same. Never for a group that runs: its timers would all be due.
    #[doc(hidden)]
    pub fn forget_time(&mut self) -> u64 {
        self.now_ms = 0;
        self.random = 0;
        self.deadline_ms = self.deadline_ms.map(|_| 1);
        if let Role::Leader(leader) = &mut self.role
            && let Some(transfer) = &mut leader.transfer
        {
            transfer.forget_time();
        }
        self.pending.forget_count()
    }

    /// What a leader knows of a member: what it has, and what it knows to be committed.
    #[doc(hidden)]
    #[must_use]
    pub fn known_of(&self, node: NodeId) -> Option<(Index, Index)> {
        let Role::Leader(leader) = &self.role else { return None };
        leader.progress(node).map(|progress| (progress.matched, progress.known_commit))
    }
}

/// A ticket as it would be if counting had begun later.
pub(super) fn earlier(ticket: Ticket, by: u64) -> Ticket {
    Ticket(ticket.0 - by)
}
