//! What only a leader does: commands that are worth nothing once somebody else leads, and giving up
//! everything at once.

use consensus::{GroupId, Raft};

use super::{Driver, Proposal};
use crate::error::ProposeError;

impl Driver {
    /// Where this command stands: this node leads in the term in which it makes sense, or it makes
    /// sense in any.
    pub(super) fn is_in_time(&self, proposal: &Proposal) -> Result<(), ProposeError> {
        let Some(term) = proposal.leading else { return Ok(()) };
        let raft = self.multi.group(proposal.group);
        match raft {
            Some(raft) if raft.is_leader() && raft.term() == term => Ok(()),
            _ => Err(ProposeError::NotLeader { leader: raft.and_then(Raft::leader) }),
        }
    }

    /// Hands over whatever this node leads.
    pub(super) fn resign_all(&mut self) {
        let led: Vec<GroupId> = self
            .multi
            .groups()
            .filter(|(_, raft)| raft.is_leader())
            .map(|(group, _)| group)
            .collect();
        for group in led {
            if let Some(raft) = self.multi.touch(group) {
                raft.resign();
            }
        }
    }
}
