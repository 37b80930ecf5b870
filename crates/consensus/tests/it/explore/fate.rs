//! Messages that nobody will ever listen to, and those that say no more than a simpler one.
//!
//! A message may arrive at any time, so what is said of it has to hold now and in every state that
//! can follow. It rests on what never goes back: the durable term of the receiver (the term in
//! memory, if there are no crashes left), what a leader knows of a member while it leads, and what
//! may still happen at all.

use consensus::{
    Append, AppendOutcome, AppendReply, Entry, Index, Message, NodeId, RoleName, Term, Vote,
    VoteReply,
};

use super::state::{Budget, Letter, Node};

/// What may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Left {
    campaigns: bool,
    crashes: bool,
}

impl Left {
    pub(super) fn of(budget: &Budget) -> Self {
        Self { campaigns: 0 < budget.timeouts, crashes: 0 < budget.crashes }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Alive,
    /// Whether it arrives or not makes no difference.
    Dead,
    /// This one makes the same difference, now and later.
    Like(Message),
}

impl Letter {
    pub(super) fn fate(&self, receiver: &Node, left: Left) -> Fate {
        let Node { raft, store, .. } = receiver;
        let promise = if left.crashes { store.disk.hard_state } else { raft.hard_state() };
        let (term, role) = (promise.term, raft.role());
        let is_candidate = role == RoleName::Candidate;
        let dead_if = |is_dead| if is_dead { Fate::Dead } else { Fate::Alive };
        match self.message.as_ref() {
            // A term is campaigned in once.
            Message::VoteReply(VoteReply { pre: false, term: of, .. }) => {
                dead_if(*of < term || *of == term && !is_candidate)
            }
            // It asks for the term after its own.
            Message::VoteReply(reply) if reply.granted => {
                dead_if(reply.term <= term || !left.campaigns && !is_candidate)
            }
            Message::VoteReply(reply) => {
                dead_if(!left.campaigns && !is_candidate && reply.term <= term)
            }
            // Only who campaigned in a term leads it.
            Message::AppendReply(AppendReply { term: of, .. }) if *of <= term => {
                match *of == term && (is_candidate || role == RoleName::Leader) {
                    true => self.reply_fate(receiver),
                    false => Fate::Dead,
                }
            }
            Message::ConfirmReply(confirm) => {
                let may_lead = is_candidate || role == RoleName::Leader;
                dead_if(confirm.term < term || confirm.term == term && !may_lead)
            }
            Message::TimeoutNow(_) | Message::StepDown(_) => dead_if(self.message.term() < term),
            message if message.term() < term => stale_fate(message),
            Message::Append(append) if !left.crashes => append_fate(append, receiver),
            _ => Fate::Alive,
        }
    }

    /// Of an answer to somebody who leads, or may lead, the term of it. While it leads, what it
    /// knows of a member only grows; when it ends, the answer is dead.
    fn reply_fate(&self, receiver: &Node) -> Fate {
        let Message::AppendReply(reply) = self.message.as_ref() else { return Fate::Alive };
        let from = NodeId(self.from as u64 + 1);
        let Some((matched, commit)) = receiver.raft.known_of(from) else { return Fate::Alive };
        let says_nothing = match reply.outcome {
            // It has what is committed; that it is still there may matter.
            AppendOutcome::Matched(index) => index <= matched && index <= commit,
            // Neither a probe nor anything on its way lies below what is matched.
            AppendOutcome::Rejected { prev_index, .. } => prev_index < matched,
        };
        if commit < reply.commit || !says_nothing {
            return Fate::Alive;
        }
        let outcome = match reply.outcome {
            AppendOutcome::Matched(_) => AppendOutcome::Matched(Index::ZERO),
            AppendOutcome::Rejected { .. } => AppendOutcome::Rejected {
                prev_index: Index::ZERO,
                hint_index: Index::ZERO,
                hint_term: Term(0),
            },
        };
        let commit = Index::ZERO;
        Fate::Like(Message::AppendReply(AppendReply { term: reply.term, outcome, commit }))
    }
}

/// Of something that is answered with the term of the receiver, whatever it says.
fn stale_fate(message: &Message) -> Fate {
    let append = |prev_index| {
        let (term, prev_term, commit) = (Term(0), Term(0), Index::ZERO);
        Fate::Like(Message::Append(Append { term, prev_index, prev_term, commit, entries: vec![] }))
    };
    match message {
        Message::Append(stale) => append(stale.prev_index),
        Message::Snapshot(stale) => append(stale.snapshot.index),
        Message::Vote(Vote { pre, .. }) => {
            let (term, last_index, last_term) = (Term(0), Index::ZERO, Term(0));
            let (pre, transfer) = (*pre, false);
            Fate::Like(Message::Vote(Vote { term, last_index, last_term, pre, transfer }))
        }
        _ => Fate::Alive,
    }
}

/// All of it is committed at the receiver, for good and on its disk: it says that there is a leader,
/// and whether that waits for an answer at once (it does without entries); and, when it is late one
/// day, where it began.
fn append_fate(append: &Append, receiver: &Node) -> Fate {
    let status = receiver.raft.status();
    let last = Index(append.prev_index.0 + append.entries.len() as u64);
    let is_known = last.max(append.commit) <= status.commit.min(status.durable);
    let is_equal =
        |entry: &Entry| receiver.raft.term_at(entry.index).is_none_or(|term| term == entry.term);
    if !is_known || status.term < append.term || !append.entries.iter().all(is_equal) {
        return Fate::Alive;
    }
    let mut like = Append { commit: Index::ZERO, ..append.clone() };
    like.entries.truncate(1);
    Fate::Like(Message::Append(like))
}
