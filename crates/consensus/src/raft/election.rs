//! §5.2 leader election, §5.4.1 its restriction, and the pre-vote before it: a node asks whether
//! it would win before it disturbs anybody with a new term.

use super::{Raft, Role};
use crate::ids::{Index, NodeId, Term};
use crate::message::{Message, Vote, VoteReply};
use crate::mutants::{self, Mutant};
use crate::quorum::VoteResult;
use crate::sorted::NodeMap;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Candidate {
    pre: bool,
    votes: NodeMap<bool>,
}

impl Raft {
    /// Campaigns after one to two election timeouts. Drawn anew each time, so that two candidates
    /// do not meet forever.
    pub(super) fn arm_election(&mut self) {
        let timeout = self.config.election_ms + self.draw(self.config.election_ms);
        self.deadline_ms = Some(self.now_ms + timeout);
    }

    /// Campaigns within half an election timeout.
    pub(super) fn arm_election_soon(&mut self) {
        let delay = self.draw(self.config.election_ms / 2);
        self.deadline_ms = Some(self.now_ms + delay);
    }

    /// The election timeout has passed.
    pub(super) fn campaign_first(&mut self) {
        self.campaign(true, false);
    }

    /// Becomes a candidate; `pre` only asks. With `transfer` the leader itself wants it.
    pub(super) fn campaign(&mut self, pre: bool, transfer: bool) {
        if !self.may_campaign() {
            return;
        }
        let me = self.node();
        self.forget_leader();
        let term = Term(self.term().0 + 1);
        if !pre {
            self.promise(term, Some(me));
        }
        self.role = Role::Candidate(Candidate { pre, votes: NodeMap::default() });
        self.arm_election();
        self.keep_hurrying();
        let (last_index, last_term) = (self.log.last(), self.log.last_term());
        let vote = Vote { term, last_index, last_term, pre, transfer };
        for to in self.membership().members() {
            if to != me && self.membership().is_voter(to) {
                self.ask_for_vote(to, vote);
            }
        }
        let own = VoteReply { term, pre, granted: true };
        match pre {
            true => self.handle_vote_reply(me, own),
            // §5.2: its own vote counts when it is durable, like everybody's.
            false => self.send_durably(me, Message::VoteReply(own)),
        }
    }

    fn ask_for_vote(&mut self, to: NodeId, vote: Vote) {
        match vote.pre {
            true => self.send(to, Message::Vote(vote)),
            // A candidate that forgets its term could vote for another one in it.
            false => self.send_durably(to, Message::Vote(vote)),
        }
    }

    pub(super) fn handle_vote(&mut self, from: NodeId, vote: Vote) {
        if self.leader == Some(from) && !self.is_leader() {
            // A leader that campaigns does not lead.
            self.lose_leader();
        }
        if self.leader.is_some() && !vote.transfer {
            return self.defend_leader(from, vote);
        }
        if !vote.pre && self.term() < vote.term {
            self.become_follower(vote.term, None);
        }
        let up_to_date = self.log.is_behind_or_equal(vote.last_term, vote.last_index)
            && self.has_forgotten_no_more_than(vote.last_term, vote.last_index);
        let granted = up_to_date
            && if vote.pre { self.term() < vote.term } else { self.may_vote(from, vote) };
        let term = if granted { vote.term } else { self.term() };
        let reply = Message::VoteReply(VoteReply { term, pre: vote.pre, granted });
        if granted && !vote.pre {
            self.promise(vote.term, Some(from));
            self.arm_election();
            if mutants::is(Mutant::VoteTooEarly) {
                return self.send(from, reply);
            }
            self.send_durably(from, reply);
        } else {
            self.send_after_promise(from, reply);
        }
    }

    /// What this node had confirmed before it left the group counts as if it still had it.
    pub(super) fn has_forgotten_no_more_than(&self, last_term: Term, last_index: Index) -> bool {
        self.hard_state.forgotten <= (last_term, last_index)
            || mutants::is(Mutant::ForgottenIgnored)
    }

    /// Dissertation, 4.2.3 and 9.6: while there is a leader, nobody is elected.
    fn defend_leader(&mut self, from: NodeId, vote: Vote) {
        if let Role::Leader(leader) = &mut self.role {
            // It does not know that there is a leader, or has a higher term: an append finds out.
            leader.poke(from);
        }
        if vote.pre {
            let reply = VoteReply { term: self.term(), pre: true, granted: false };
            self.send_after_promise(from, Message::VoteReply(reply));
        }
    }

    fn may_vote(&self, candidate: NodeId, vote: Vote) -> bool {
        let voted_for = self.hard_state.voted_for;
        let is_free = voted_for.is_none_or(|voted_for| voted_for == candidate);
        vote.term == self.term() && (is_free || mutants::is(Mutant::VotesTwice))
    }

    pub(super) fn handle_vote_reply(&mut self, from: NodeId, reply: VoteReply) {
        let asked = Term(self.term().0 + u64::from(reply.pre));
        let membership = self.memberships.current().clone();
        let Role::Candidate(candidate) = &mut self.role else { return };
        if candidate.pre != reply.pre || (reply.granted && reply.term != asked) {
            return;
        }
        candidate.votes.insert_new(from, reply.granted);
        match membership.tally(|voter| candidate.votes.get(&voter).copied()) {
            VoteResult::Won if candidate.pre => self.campaign(false, false),
            VoteResult::Won => self.become_leader(),
            // Waits for its next turn.
            VoteResult::Lost => self.role = Role::Follower,
            VoteResult::Pending => {}
        }
    }
}
