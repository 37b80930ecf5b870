//! §8, linearizable reads without a log entry: the leader notes its commit index, proves that it
//! still leads, and everything applied up to that index may be read.
//!
//! One round is under way at a time and confirms every read that came before it; reads that come
//! meanwhile share the next one. Followers pass theirs on the same way, as one question.

use std::collections::VecDeque;

use super::{Raft, Role};
use crate::effect::{Effect, ReadId};
use crate::ids::{Index, NodeId};
use crate::message::{Confirm, Message, ReadIndex, ReadIndexReply, StepDown};
use crate::mutants::{self, Mutant};

/// The leader's reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Reads {
    /// They wait for the next round.
    waiting: Origins,
    round: u64,
    /// The round under way: its number is `round`.
    under_way: Option<(Index, Origins)>,
}

/// Who asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Origins {
    own: Vec<ReadId>,
    /// Members, and their names for their batches.
    others: Vec<(NodeId, u64)>,
}

impl Origins {
    fn is_empty(&self) -> bool {
        self.own.is_empty() && self.others.is_empty()
    }
}

impl Reads {
    pub(super) fn is_waiting(&self) -> bool {
        self.under_way.is_some() || !self.waiting.is_empty()
    }
}

/// A follower's reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RemoteReads {
    waiting: Vec<ReadId>,
    /// Random at the start of each life, then rising.
    batch: u64,
    asked: VecDeque<(u64, Vec<ReadId>)>,
}

impl RemoteReads {
    pub(super) fn new(seed: u64) -> Self {
        Self { waiting: Vec::new(), batch: seed, asked: VecDeque::new() }
    }
}

impl Raft {
    pub(super) fn take_read(&mut self, read: ReadId) {
        let knows_leader = self.leader.is_some() && !self.poisoned;
        match &mut self.role {
            Role::Leader(leader) => leader.reads.waiting.own.push(read),
            _ if knows_leader => self.remote_reads.waiting.push(read),
            _ => self.effects.push(Effect::ReadFailed { reads: vec![read] }),
        }
    }

    pub(super) fn handle_read_index(&mut self, from: NodeId, read: ReadIndex) {
        let is_member = self.membership().is_member(from);
        match &mut self.role {
            Role::Leader(leader) if is_member => {
                leader.reads.waiting.others.push((from, read.batch));
            }
            _ => self.send(from, Message::StepDown(StepDown { term: read.term })),
        }
    }

    /// Starts a round if none is under way. Before the first commit of its term a leader does not
    /// know what is committed (§8).
    pub(super) fn start_reads(&mut self) {
        let commit = self.commit();
        let Role::Leader(leader) = &mut self.role else { return };
        let reads = &mut leader.reads;
        let is_ready = leader.term_start <= commit || mutants::is(Mutant::ReadsTooEarly);
        if reads.waiting.is_empty() || reads.under_way.is_some() || !is_ready {
            return;
        }
        reads.round += 1;
        reads.under_way = Some((commit, std::mem::take(&mut reads.waiting)));
        self.send_confirms();
        self.finish_reads();
    }

    fn send_confirms(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let confirm = Confirm { term: self.hard_state.term, round: leader.reads.round };
        let missing: Vec<NodeId> = leader
            .peers
            .iter()
            .filter(|(node, progress)| {
                self.membership().is_voter(*node) && progress.confirmed < confirm.round
            })
            .map(|(node, _)| *node)
            .collect();
        for to in missing {
            self.send(to, Message::Confirm(confirm));
        }
    }

    pub(super) fn resend_confirms(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        if leader.reads.under_way.is_some() {
            self.send_confirms();
            // Whoever was missing may not be a voter any more.
            if !mutants::is(Mutant::ReadsWaitForTheGone) {
                self.finish_reads();
            }
        }
    }

    pub(super) fn handle_confirm(&mut self, from: NodeId, confirm: Confirm) {
        if self.follow(from) {
            self.send_after_promise(from, Message::ConfirmReply(confirm));
        }
    }

    pub(super) fn handle_confirm_reply(&mut self, from: NodeId, confirm: Confirm) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.peer(from) else { return };
        progress.reachable = true;
        progress.confirmed = match mutants::is(Mutant::AnyRoundConfirms) {
            true => u64::MAX,
            false => progress.confirmed.max(confirm.round),
        };
        self.finish_reads();
    }

    /// A majority has confirmed the round: its reads see everything that was committed before it.
    fn finish_reads(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let (me, round) = (self.node(), leader.reads.round);
        let confirmed = self.membership().reached(|voter| match voter == me {
            true => round,
            false => leader.progress(voter).map_or(0, |progress| progress.confirmed),
        });
        if confirmed < round && !mutants::is(Mutant::ReadsUnconfirmed) {
            return;
        }
        let Role::Leader(leader) = &mut self.role else { return };
        let Some((index, origins)) = leader.reads.under_way.take() else { return };
        if !origins.own.is_empty() {
            self.effects.push(Effect::ReadReady { reads: origins.own, index });
        }
        let term = self.term();
        for (to, batch) in origins.others {
            self.send(to, Message::ReadIndexReply(ReadIndexReply { term, batch, index }));
        }
    }

    /// Reads of a leader that does not lead any more. Members that asked it learn that by
    /// themselves.
    pub(super) fn fail_reads(&mut self, reads: Reads) {
        let mut own = reads.waiting.own;
        own.extend(reads.under_way.into_iter().flat_map(|(_, origins)| origins.own));
        if !own.is_empty() {
            self.effects.push(Effect::ReadFailed { reads: own });
        }
    }

    /// Asks the leader, once for all reads that wait; the next question follows the answer.
    pub(super) fn flush_remote_reads(&mut self) {
        let Some(leader) = self.leader.filter(|_| !self.is_leader()) else { return };
        let reads = &mut self.remote_reads;
        if reads.waiting.is_empty() || !reads.asked.is_empty() {
            return;
        }
        reads.batch = reads.batch.wrapping_add(1);
        reads.asked.push_back((reads.batch, std::mem::take(&mut reads.waiting)));
        let message = ReadIndex { term: self.hard_state.term, batch: reads.batch };
        self.send(leader, Message::ReadIndex(message));
        self.deadline_ms = Some(self.now_ms + self.config.election_ms);
    }

    pub(super) fn handle_read_index_reply(&mut self, reply: ReadIndexReply) {
        let reads = &mut self.remote_reads;
        let Some((_, asked)) = reads.asked.pop_front_if(|(batch, _)| *batch == reply.batch) else {
            return;
        };
        if self.leader.is_some() && !self.is_leader() {
            self.deadline_ms = None;
        }
        self.effects.push(Effect::ReadReady { reads: asked, index: reply.index });
    }

    /// The leader that was asked is gone, or silent: the caller may ask again.
    pub(super) fn fail_remote_reads(&mut self) {
        let reads = &mut self.remote_reads;
        let mut failed = std::mem::take(&mut reads.waiting);
        failed.extend(reads.asked.drain(..).flat_map(|(_, asked)| asked));
        if !failed.is_empty() {
            self.effects.push(Effect::ReadFailed { reads: failed });
        }
    }
}
