//! Commands: to the log where this node leads, else to the leader.

use std::collections::BTreeMap;

use consensus::{Entry, GroupId, Index, ProposeRefused};

use super::{Driver, Proposal};
use crate::apply::{ApplyInput, Waiter};
use crate::error::ProposeError;

impl Driver {
    pub(super) fn propose_all(&mut self, proposals: BTreeMap<GroupId, Vec<Proposal>>) {
        for (group, proposals) in proposals {
            self.propose(group, proposals);
        }
    }

    fn propose(&mut self, group: GroupId, proposals: Vec<Proposal>) {
        let Some(raft) = self.multi.group(group) else {
            return refuse(proposals, &ProposeError::Stopped);
        };
        let (leads, leader) = (raft.is_leader(), raft.leader());
        match leader {
            _ if !self.apply_backlog.is_empty() => refuse(proposals, &ProposeError::Overloaded),
            _ if leads => self.place(group, proposals),
            Some(leader) => self.forward(leader, proposals),
            None => refuse(proposals, &ProposeError::NotLeader { leader: None }),
        }
    }

    /// Gives commands their places in the log of a group that this node leads.
    fn place(&mut self, group: GroupId, proposals: Vec<Proposal>) {
        let (taken, refused) = self.disk.admit(proposals);
        for (proposal, error) in refused {
            self.way.note(group, &error);
            drop(proposal.reply.send(Err(error)));
        }
        if taken.is_empty() {
            return;
        }
        let raft = self.multi.touch(group).expect("the group was just there");
        let commands = taken.iter().map(|proposal| proposal.command.clone()).collect();
        match raft.propose(commands) {
            Ok(placed) => {
                let place = |(proposal, index): (Proposal, u64)| {
                    Waiter::new(Index(index), placed.term, proposal.reply, proposal.span)
                };
                let waiters = taken.into_iter().zip(placed.first.0..).map(place).collect();
                self.hand_to_apply(ApplyInput::Await { group, waiters });
            }
            Err(refused) => refuse(taken, &refused.into()),
        }
    }
}

pub(super) fn refuse(proposals: Vec<Proposal>, error: &ProposeError) {
    for proposal in proposals {
        // The proposer may have left; then nobody is told.
        let _ = proposal.reply.send(Err(error.clone()));
    }
}

impl From<ProposeRefused> for ProposeError {
    fn from(refused: ProposeRefused) -> Self {
        match refused {
            ProposeRefused::NotLeader { leader } => Self::NotLeader { leader },
            // The next leader is about to be known.
            ProposeRefused::Transferring => Self::NotLeader { leader: None },
            ProposeRefused::Overloaded => Self::Overloaded,
        }
    }
}

/// What a command takes in the log.
pub(super) fn cost(command: &[u8]) -> usize {
    command.len() + Entry::OVERHEAD
}
