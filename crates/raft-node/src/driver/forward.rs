//! Commands passed on to the leader.
//!
//! The leader answers only where it has placed a command. Whether and with which reply it was
//! applied, this node sees by itself: its own machine applies the same entry. So no reply is ever
//! encoded, and whoever is answered here can read here what he wrote.

use std::collections::BTreeMap;

use bytes::Bytes;
use consensus::{GroupId, NodeId};

use super::propose::{Placing, refuse};
use super::{Driver, Proposal};
use crate::apply::Waiter;
use crate::error::ProposeError;
use crate::transport::{Forward, ForwardOutcome, ForwardReply};

/// Commands that may be on their way to leaders.
const MAX: usize = 16 << 10;

pub(super) struct Forwards {
    next: u64,
    open: BTreeMap<u64, (NodeId, Proposal)>,
}

impl Forwards {
    pub(super) fn new() -> Self {
        Self { next: 0, open: BTreeMap::new() }
    }

    /// Nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

impl Driver {
    /// Passes a command on with the next frame.
    pub(super) fn forward(&mut self, leader: NodeId, proposal: Proposal) {
        if MAX <= self.forwards.open.len() {
            // Who asked may have left.
            self.forwards.open.retain(|_, (_, proposal)| !proposal.reply.is_closed());
        }
        if MAX <= self.forwards.open.len() {
            return refuse(vec![proposal], &ProposeError::Overloaded);
        }
        self.forwards.next += 1;
        let id = self.forwards.next;
        let trace = proposal.span.as_ref().map(|span| span.context().to_string());
        let forward = Forward {
            id,
            group: proposal.group,
            command: proposal.command.clone(),
            freeing: proposal.freeing,
            trace: trace.map_or_else(Bytes::new, Bytes::from),
        };
        self.frame_for(leader).forwards.push(forward);
        self.forwards.open.insert(id, (leader, proposal));
    }

    pub(super) fn fail_forward(&mut self, id: u64, error: ProposeError) {
        if let Some((_, proposal)) = self.forwards.open.remove(&id) {
            let _ = proposal.reply.send(Err(error));
        }
    }

    /// A follower passes a command on.
    pub(super) fn handle_forward(&mut self, from: NodeId, forward: Forward) {
        self.refer(from, forward.group);
        let (len, max) = (forward.command.len(), self.max_command_bytes);
        let (group, placing) = (forward.group, Placing::Forwarded { from, forward });
        match len <= max {
            true => self.hold(group, placing),
            // The nodes have different settings.
            false => self.decline(placing, &ProposeError::TooLarge { len, max }),
        }
    }

    pub(super) fn handle_forward_reply(&mut self, reply: ForwardReply) {
        let Some((_, proposal)) = self.forwards.open.remove(&reply.id) else { return };
        let error = match reply.outcome {
            // The group has ended here since: nobody will see what becomes of it.
            ForwardOutcome::Placed { .. } if self.multi.group(proposal.group).is_none() => {
                ProposeError::Indeterminate
            }
            ForwardOutcome::Placed { term, index } => {
                let Proposal { group, reply, span, since, .. } = proposal;
                let waiter = Waiter::new((index, term), since, reply, span);
                return self.waiters.entry(group).or_default().push(waiter);
            }
            ForwardOutcome::NotLeader { leader } => ProposeError::NotLeader { leader },
            ForwardOutcome::Overloaded => ProposeError::Overloaded,
            ForwardOutcome::DiskFull => ProposeError::DiskFull,
            ForwardOutcome::TooLarge { max } => {
                ProposeError::TooLarge { len: proposal.command.len(), max: max as usize }
            }
            ForwardOutcome::Stopped => ProposeError::Stopped,
            ForwardOutcome::Indeterminate => ProposeError::Indeterminate,
        };
        let _ = proposal.reply.send(Err(error));
    }

    /// What was on its way to this node may have arrived or not.
    pub(super) fn give_up_forwards_to(&mut self, node: NodeId) {
        let lost: Vec<u64> = self
            .forwards
            .open
            .iter()
            .filter(|(_, (to, _))| *to == node)
            .map(|(id, _)| *id)
            .collect();
        lost.into_iter().for_each(|id| self.fail_forward(id, ProposeError::Indeterminate));
    }

    /// Whoever was asked does not lead any more, or is gone: it may have placed what it was sent.
    pub(super) fn give_up_forwards(&mut self, group: GroupId, leader: Option<NodeId>) {
        let lost: Vec<u64> = self
            .forwards
            .open
            .iter()
            .filter(|(_, (to, proposal))| proposal.group == group && Some(*to) != leader)
            .map(|(id, _)| *id)
            .collect();
        lost.into_iter().for_each(|id| self.fail_forward(id, ProposeError::Indeterminate));
    }
}

impl ForwardOutcome {
    /// How a leader says that it has done nothing.
    pub(super) fn of(error: &ProposeError) -> Self {
        match error {
            ProposeError::NotLeader { leader } => Self::NotLeader { leader: *leader },
            ProposeError::DiskFull => Self::DiskFull,
            ProposeError::Overloaded => Self::Overloaded,
            ProposeError::TooLarge { max, .. } => Self::TooLarge { max: *max as u64 },
            ProposeError::Stopped => Self::NotLeader { leader: None },
            ProposeError::Indeterminate => Self::Indeterminate,
        }
    }
}
