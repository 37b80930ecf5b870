//! Commands: to the log where this node leads, else to the leader.
//!
//! While the disk writes, commands wait here and become one batch: one submission to the log, one
//! frame to each member, one fsync on each. Placed one by one they would wait for the same fsync,
//! and cost every member as many wake-ups as there are commands.

use std::collections::BTreeMap;

use consensus::{Entry, GroupId, Index, NodeId, ProposeRefused, Raft};

use telemetry::trace::TraceContext;

use super::{Driver, Proposal};
use crate::apply::Waiter;
use crate::error::ProposeError;
use crate::transport::{Forward, ForwardOutcome, ForwardReply};

/// Commands that may wait for the disk.
const HELD_MAX: usize = 16 << 10;
/// More than this does not wait: it is a batch.
const HELD_BYTES: usize = 1 << 20;

/// Commands for groups that this node leads, in the order of their arrival.
#[derive(Default)]
pub(super) struct Held {
    by_group: BTreeMap<GroupId, Vec<Placing>>,
    count: usize,
    bytes: usize,
}

/// A command that is about to get its place.
pub(super) enum Placing {
    Own(Proposal),
    /// A follower has passed it on.
    Forwarded {
        from: NodeId,
        forward: Forward,
    },
}

impl Placing {
    fn command(&self) -> &bytes::Bytes {
        match self {
            Self::Own(proposal) => &proposal.command,
            Self::Forwarded { forward, .. } => &forward.command,
        }
    }

    pub(super) fn cost(&self) -> usize {
        cost(self.command())
    }

    pub(super) fn is_freeing(&self) -> bool {
        match self {
            Self::Own(proposal) => proposal.freeing,
            Self::Forwarded { forward, .. } => forward.freeing,
        }
    }
}

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
        match raft.leader() {
            _ if raft.is_leader() => {
                proposals.into_iter().for_each(|own| self.hold(group, Placing::Own(own)));
            }
            Some(leader) => self.forward(leader, proposals),
            None => refuse(proposals, &ProposeError::NotLeader { leader: None }),
        }
    }

    pub(super) fn hold(&mut self, group: GroupId, placing: Placing) {
        if HELD_MAX <= self.held.count || !self.apply_backlog.is_empty() {
            return self.decline(placing, &ProposeError::Overloaded);
        }
        self.held.count += 1;
        self.held.bytes += placing.cost();
        self.held.by_group.entry(group).or_default().push(placing);
    }

    /// Places what waits, unless the disk is busy: then it waits on, where this node still leads.
    pub(super) fn place_held(&mut self) {
        let may_wait = self.disk.is_writing() && self.held.bytes < HELD_BYTES;
        let leads = |group| self.multi.group(group).is_some_and(Raft::is_leader);
        if may_wait && self.held.by_group.keys().all(|group| leads(*group)) {
            return;
        }
        self.place_all();
    }

    pub(super) fn place_all(&mut self) {
        for (group, placing) in std::mem::take(&mut self.held).by_group {
            self.place(group, placing);
        }
    }

    /// Gives commands their places in the log of a group that this node leads.
    fn place(&mut self, group: GroupId, placing: Vec<Placing>) {
        let (taken, refused) = self.disk.admit(placing);
        for (placing, error) in refused {
            self.way.note(group, &error);
            self.decline(placing, &error);
        }
        if taken.is_empty() {
            return;
        }
        let command = |placing: &Placing| match placing {
            Placing::Own(proposal) => proposal.command.clone(),
            Placing::Forwarded { forward, .. } => self.adopt.adopt(forward.command.clone()),
        };
        let commands = taken.iter().map(command).collect();
        let placed = match self.multi.touch(group) {
            Some(raft) => raft.propose(commands).map_err(ProposeError::from),
            None => Err(ProposeError::Stopped),
        };
        match placed {
            Ok(placed) => {
                for (placing, index) in taken.into_iter().zip(placed.first.0..) {
                    self.note_placed(placing, placed.term, Index(index));
                }
            }
            Err(error) => taken.into_iter().for_each(|placing| self.decline(placing, &error)),
        }
    }

    fn note_placed(&mut self, placing: Placing, term: consensus::Term, index: Index) {
        match placing {
            Placing::Own(Proposal { group, reply, span, since, .. }) => {
                if let Some(span) = &span {
                    self.trace(group, index, span.context());
                }
                let waiter = Waiter::new((index, term), since, reply, span);
                self.waiters.entry(group).or_default().push(waiter);
            }
            Placing::Forwarded { from, forward } => {
                if let Ok(trace) = TraceContext::parse(&forward.trace) {
                    self.trace(forward.group, index, trace);
                }
                let outcome = ForwardOutcome::Placed { term, index };
                self.frame_for(from).replies.push(ForwardReply { id: forward.id, outcome });
            }
        }
    }

    /// Nothing was done.
    fn decline(&mut self, placing: Placing, error: &ProposeError) {
        match placing {
            Placing::Own(proposal) => refuse(vec![proposal], error),
            Placing::Forwarded { from, forward } => {
                let outcome = ForwardOutcome::of(error);
                self.frame_for(from).replies.push(ForwardReply { id: forward.id, outcome });
            }
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
