//! §5.1: every message meets the receiver's term first, whatever it is about.

use std::cmp::Ordering;

use super::{Raft, Role};
use crate::ids::{Index, NodeId, Term};
use crate::message::{AppendOutcome, AppendReply, Message, VoteReply};
use crate::mutants::{self, Mutant};

impl Raft {
    /// A message from another member. It may be late, doubled or out of order.
    pub fn receive(&mut self, from: NodeId, message: Message) {
        if self.poisoned {
            return;
        }
        match message.term().cmp(&self.term()) {
            Ordering::Less => self.handle_stale(from, &message),
            Ordering::Equal => self.handle(from, message),
            Ordering::Greater => {
                self.handle_newer(from, &message);
                self.handle(from, message);
            }
        }
    }

    /// A newer term ends whatever this node was; but only if somebody really is in that term. Who
    /// asks for votes while a leader lives is not worth it.
    fn handle_newer(&mut self, from: NodeId, message: &Message) {
        match message {
            Message::Vote(_) => {}
            Message::VoteReply(reply) if reply.granted => {}
            Message::VoteReply(_) if mutants::is(Mutant::RefusalIgnored) => {}
            Message::Append(_)
            | Message::Snapshot(_)
            | Message::Confirm(_)
            | Message::TimeoutNow(_) => self.become_follower(message.term(), Some(from)),
            _ => self.become_follower(message.term(), None),
        }
    }

    /// The sender lives in the past: it has to learn the term.
    fn handle_stale(&mut self, from: NodeId, message: &Message) {
        match message {
            Message::Vote(vote) => {
                let reply = VoteReply { term: self.term(), pre: vote.pre, granted: false };
                self.send_after_promise(from, Message::VoteReply(reply));
            }
            Message::VoteReply(reply) if reply.pre => self.handle_vote_reply(from, *reply),
            Message::Append(append) => self.reject_stale(from, append.prev_index),
            Message::Snapshot(offer) => self.reject_stale(from, offer.snapshot.index),
            Message::Confirm(_) => self.reject_stale(from, self.log.last()),
            _ => {}
        }
    }

    fn reject_stale(&mut self, from: NodeId, prev_index: Index) {
        let (hint_index, hint_term) = (self.log.last(), self.log.last_term());
        let outcome = AppendOutcome::Rejected { prev_index, hint_index, hint_term };
        let reply = AppendReply { term: self.term(), outcome, commit: self.commit() };
        self.send_after_promise(from, Message::AppendReply(reply));
    }

    fn handle(&mut self, from: NodeId, message: Message) {
        match message {
            Message::Vote(vote) => self.handle_vote(from, vote),
            Message::VoteReply(reply) => self.handle_vote_reply(from, reply),
            Message::Append(append) => self.handle_append(from, append),
            Message::AppendReply(reply) => self.handle_append_reply(from, reply),
            Message::Snapshot(offer) => self.handle_offer(from, offer),
            Message::Confirm(confirm) => self.handle_confirm(from, confirm),
            Message::ConfirmReply(confirm) => self.handle_confirm_reply(from, confirm),
            Message::ReadIndex(read) => self.handle_read_index(from, read),
            Message::ReadIndexReply(reply) => self.handle_read_index_reply(reply),
            Message::TimeoutNow(now) => self.handle_timeout_now(from, now),
            Message::StepDown(_) => self.handle_step_down(from),
        }
    }

    /// A leader of this term has spoken. False if that cannot be.
    pub(super) fn follow(&mut self, leader: NodeId) -> bool {
        if self.is_leader() {
            self.poison("two leaders in one term");
            return false;
        }
        if self.leader != Some(leader) {
            self.become_follower(self.term(), Some(leader));
        }
        true
    }

    /// Follows `leader` in `term`, or waits for one.
    pub(super) fn become_follower(&mut self, term: Term, leader: Option<NodeId>) {
        if self.term() < term || mutants::is(Mutant::ForgetsVote) {
            self.promise(term, None);
        }
        if self.is_leader() {
            self.end_leadership();
        }
        self.role = Role::Follower;
        self.ack = None;
        self.fail_remote_reads();
        self.leader = leader;
        match leader {
            // The host watches its node.
            Some(_) => self.deadline_ms = None,
            None => self.arm_election(),
        }
    }

    /// The leader is gone, and that took an election timeout to see or was told: a successor is
    /// looked for soon.
    pub(super) fn lose_leader(&mut self) {
        self.become_follower(self.term(), None);
        self.arm_election_soon();
    }

    pub(super) fn forget_leader(&mut self) {
        self.leader = None;
        self.ack = None;
        self.fail_remote_reads();
    }

    fn handle_step_down(&mut self, from: NodeId) {
        if self.leader == Some(from) && !self.is_leader() {
            self.lose_leader();
        }
    }
}
