//! What a leader does besides sending: takes proposals, counts, commits, and notices when a
//! majority is gone.

use bytes::Bytes;

use super::read::Reads;
use super::transfer::Transfer;
use super::{Raft, Role};
use crate::entry::{Entry, EntryKind};
use crate::ids::{Index, NodeId, Term};
use crate::membership::Membership;
use crate::message::{AppendOutcome, AppendReply, Message, StepDown};
use crate::mutants::{self, Mutant};
use crate::progress::{Mode, Progress};
use crate::quorum::VoteResult;
use crate::sorted::NodeMap;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leader {
    /// The first entry of the term.
    pub(super) term_start: Index,
    /// All members but this node.
    pub(super) peers: NodeMap<Progress>,
    pub(super) reads: Reads,
    pub(super) transfer: Option<Transfer>,
    /// An open [`Effect::Load`](crate::Effect::Load), and what it has brought.
    pub(super) loading: Option<Index>,
    pub(super) loaded: Vec<Entry>,
}

/// Where proposals stand in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// Of all of them. An entry of another term at one of these indexes is not the proposal.
    pub term: Term,
    /// Of the first; the others follow.
    pub first: Index,
}

/// A proposal that was not taken: nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeRefused {
    /// Only the leader takes proposals.
    #[error("this node does not lead; ask the leader")]
    NotLeader {
        /// If known.
        leader: Option<NodeId>,
    },
    /// Leadership is being handed over.
    #[error("leadership is being handed over; repeat shortly")]
    Transferring,
    /// Too much is not committed yet.
    #[error("too many proposals wait to be committed; repeat later")]
    Overloaded,
}

impl Leader {
    pub(super) fn peer(&mut self, node: NodeId) -> Option<&mut Progress> {
        self.peers.get_mut(&node)
    }

    pub(super) fn progress(&self, node: NodeId) -> Option<&Progress> {
        self.peers.get(&node)
    }

    /// This member should hear something soon.
    pub(super) fn poke(&mut self, node: NodeId) {
        if let Some(progress) = self.peer(node) {
            progress.reachable = true;
            progress.retry();
        }
    }

    /// What this member was sent may not have arrived.
    pub(super) fn retry(&mut self, node: NodeId) {
        if let Some(progress) = self.peer(node).filter(|progress| progress.reachable) {
            progress.retry();
        }
    }

    pub(super) fn handle_unreachable(&mut self, node: NodeId) {
        if let Some(progress) = self.peer(node) {
            progress.reachable = false;
        }
    }
}

impl Raft {
    /// §5.2, §8: leads from here on, beginning with a blank entry.
    pub(super) fn become_leader(&mut self) {
        let me = self.node();
        let term_start = self.log.last().next();
        let peers = self
            .membership()
            .members()
            .into_iter()
            .filter(|node| *node != me)
            .map(|node| (node, Progress::new(term_start, !self.unreachable.contains(&node))))
            .collect();
        self.role = Role::Leader(Box::new(Leader {
            term_start,
            peers,
            reads: Reads::default(),
            transfer: None,
            loading: None,
            loaded: Vec::new(),
        }));
        self.leader = Some(me);
        self.deadline_ms = None;
        self.append_own(EntryKind::Blank, Bytes::new());
        self.advance_commit();
    }

    pub(super) fn propose_entries(
        &mut self,
        payloads: Vec<Bytes>,
    ) -> Result<Proposed, ProposeRefused> {
        let leader = self.leader;
        let Role::Leader(role) = &self.role else {
            return Err(ProposeRefused::NotLeader { leader });
        };
        if role.transfer.is_some() {
            return Err(ProposeRefused::Transferring);
        }
        if self.config.max_uncommitted_bytes <= self.log.bytes_after(self.commit()) {
            return Err(ProposeRefused::Overloaded);
        }
        let proposed = Proposed { term: self.term(), first: self.log.last().next() };
        for payload in payloads {
            self.append_own(EntryKind::Command, payload);
        }
        Ok(proposed)
    }

    /// The next entry of this leader's term.
    pub(super) fn append_own(&mut self, kind: EntryKind, payload: Bytes) {
        let entry = Entry { term: self.term(), index: self.log.last().next(), kind, payload };
        self.push(entry);
    }

    /// §5.3, §5.4.2: what a majority has on disk is committed, if it is of this term; and with it
    /// everything before.
    pub(super) fn advance_commit(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let (me, durable) = (self.node(), self.log.durable());
        let reached = self.membership().reached(|voter| match voter == me {
            true if mutants::is(Mutant::LeaderCountsEarly) => self.log.last().0,
            true => durable.0,
            false => leader.progress(voter).map_or(0, |progress| progress.matched.0),
        });
        let reached = Index(reached.min(self.log.last().0));
        let is_own = self.log.term(reached) == Some(self.term());
        if self.commit() < reached && (is_own || mutants::is(Mutant::CommitsOldTerms)) {
            self.hard_state.commit = reached;
            self.handle_membership_committed();
        }
    }

    pub(super) fn handle_append_reply(&mut self, from: NodeId, reply: AppendReply) {
        let (last, commit) = (self.log.last(), self.commit());
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.peer(from) else { return };
        progress.reachable = true;
        progress.heard = true;
        progress.known_commit = progress.known_commit.max(reply.commit);
        match reply.outcome {
            AppendOutcome::Matched(matched) if last < matched => {
                self.poison("a follower has confirmed entries that its leader does not have");
            }
            AppendOutcome::Matched(matched) => {
                let news = progress.handle_matched(matched);
                // It has heard something after it missed the last news: tell it again.
                if progress.known_commit < commit.min(matched) {
                    progress.sent_commit = progress.known_commit;
                }
                if news {
                    self.advance_commit();
                }
            }
            AppendOutcome::Rejected { prev_index, hint_index, hint_term } => {
                // An answer to something that was overtaken says nothing.
                let is_news = match progress.mode {
                    Mode::Probe => progress.next == prev_index.next(),
                    Mode::Replicate => progress.matched < prev_index,
                    Mode::Snapshot(_) => false,
                };
                if is_news {
                    // Below the base nobody can agree: the next is one that is gone, which means
                    // the snapshot (B25).
                    let agreed =
                        match hint_index < self.log.base() && !mutants::is(Mutant::ProbesForever) {
                            true => hint_index,
                            false => self.log.agreement(hint_index, hint_term),
                        };
                    progress.probe_from(agreed.next());
                }
            }
        }
    }

    /// §6.2 of the dissertation: a leader that cannot reach a majority does not lead.
    pub(super) fn check_quorum(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let me = self.node();
        let reaches = |voter| {
            Some(voter == me || leader.progress(voter).is_some_and(|progress| progress.reachable))
        };
        let is_lost = self.membership().tally(reaches) != VoteResult::Won;
        if is_lost && !mutants::is(Mutant::NoCheckQuorum) {
            self.step_down();
        }
    }

    /// Gives leadership up and says so. Does nothing to others.
    pub fn step_down(&mut self) {
        if self.is_leader() {
            self.become_follower(self.term(), None);
        }
    }

    /// What a leader leaves behind.
    pub(super) fn end_leadership(&mut self) {
        let Role::Leader(leader) = std::mem::replace(&mut self.role, Role::Follower) else {
            return;
        };
        // Followers watch the node, and the node lives: it has to say that it ended. A leader's
        // last entry is always of its term.
        let term = self.log.last_term();
        for (node, progress) in &leader.peers {
            if progress.reachable {
                self.send(*node, Message::StepDown(StepDown { term }));
            }
        }
        self.fail_reads(leader.reads);
    }

    /// A change of the membership changes who is sent to.
    pub(super) fn follow_membership(&mut self, membership: &Membership) {
        let (me, next) = (self.node(), self.log.last().next());
        let unreachable = &self.unreachable;
        let Role::Leader(leader) = &mut self.role else { return };
        leader.peers.retain(|node, _| membership.is_member(*node));
        for node in membership.members() {
            if node != me && leader.progress(node).is_none() {
                let progress = Progress::new(next, !unreachable.contains(&node));
                leader.peers.insert(node, progress);
            }
        }
    }
}
