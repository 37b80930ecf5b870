//! §5.3, the follower's side: take what fits, say what does not, confirm what is durable.

use super::Raft;
use crate::entry::{Entry, EntryKind};
use crate::ids::{Index, NodeId, Term};
use crate::message::{Append, AppendOutcome, AppendReply, Message};
use crate::mutants::{self, Mutant};

/// What a follower knows to equal its leader's log, and what it has said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ack {
    leader: NodeId,
    matched: Index,
    said: Index,
    /// The leader waits for an answer, also without news.
    due: bool,
}

impl Raft {
    pub(super) fn handle_append(&mut self, from: NodeId, append: Append) {
        if !self.follow(from) {
            return;
        }
        let Append { prev_index, prev_term, commit, entries, .. } = append;
        let has_entries = !entries.is_empty();
        let Some((prev_index, prev_term, entries)) =
            self.skip_committed(prev_index, prev_term, entries)
        else {
            return;
        };
        if !self.log.matches(prev_index, prev_term) {
            return self.reject(from, prev_index, prev_term);
        }
        let matched = Index(prev_index.0 + entries.len() as u64);
        if self.take_entries(entries) {
            let known =
                if mutants::is(Mutant::CommitBeyondMatch) { self.log.last() } else { matched };
            self.learn_commit(commit.min(known));
            // What was appended is confirmed when it is durable.
            let due = !has_entries || matched <= self.log.durable();
            self.acknowledge(from, matched, due);
        }
    }

    /// What is committed here is committed there, so it is equal; the log may not even have it any
    /// more. What is left starts behind it. `None` if it was not equal.
    fn skip_committed(
        &mut self,
        prev_index: Index,
        prev_term: Term,
        mut entries: Vec<Entry>,
    ) -> Option<(Index, Term, Vec<Entry>)> {
        let commit = self.commit();
        let known_term = self.log.term(commit).expect("the log reaches back to the commit index");
        if commit < prev_index {
            return Some((prev_index, prev_term, entries));
        }
        let known = entries.partition_point(|entry| entry.index <= commit);
        let differs =
            |entry: &Entry| self.log.term(entry.index).is_some_and(|term| term != entry.term);
        let prev_differs = commit == prev_index && prev_term != known_term;
        if prev_differs || entries[..known].iter().any(differs) {
            self.poison("a leader's log differs from what is committed");
            return None;
        }
        entries.drain(..known);
        Some((commit, known_term, entries))
    }

    /// Appends what is new. False if that would rewrite what is committed.
    fn take_entries(&mut self, entries: Vec<Entry>) -> bool {
        for entry in entries {
            match self.log.term(entry.index) {
                Some(term) if term == entry.term && !mutants::is(Mutant::TruncatesAlways) => {
                    continue;
                }
                Some(_) if entry.index <= self.commit() => {
                    self.poison("a leader's log differs from what is committed");
                    return false;
                }
                // §5.3: a conflict, and only a conflict, drops what follows.
                Some(_) => self.truncate(entry.index),
                None => {}
            }
            if !self.push(entry) {
                return false;
            }
        }
        true
    }

    /// The next entry of the log. A membership is in force from here on. False if the group ended.
    pub(super) fn push(&mut self, entry: Entry) -> bool {
        if entry.kind == EntryKind::Membership && !self.take_membership(&entry) {
            return false;
        }
        self.log.push(entry);
        true
    }

    fn reject(&mut self, from: NodeId, prev_index: Index, prev_term: Term) {
        let at = Index(prev_index.0 - 1);
        let hint_index = self.log.agreement(at, prev_term).max(self.commit());
        let hint_term = self.log.term(hint_index).expect("the hint lies in the log");
        let outcome = AppendOutcome::Rejected { prev_index, hint_index, hint_term };
        let reply = AppendReply { term: self.term(), outcome, commit: self.commit() };
        self.send_after_promise(from, Message::AppendReply(reply));
    }

    pub(super) fn learn_commit(&mut self, commit: Index) {
        self.hard_state.commit = self.commit().max(commit);
    }

    /// The log equals the leader's up to `matched`. It is told when that is durable.
    pub(super) fn acknowledge(&mut self, leader: NodeId, matched: Index, due: bool) {
        let fresh = Ack { leader, matched, said: Index::ZERO, due };
        let ack = self.ack.get_or_insert(fresh);
        ack.matched = ack.matched.max(matched);
        ack.due |= due;
    }

    pub(super) fn flush_ack(&mut self) {
        let durable = self.log.durable();
        let Some(ack) = &mut self.ack else { return };
        let sayable = match mutants::is(Mutant::ConfirmsTooEarly) {
            true => ack.matched,
            false => ack.matched.min(durable),
        };
        if sayable <= ack.said && !ack.due {
            return;
        }
        ack.said = sayable;
        ack.due = false;
        let to = ack.leader;
        let outcome = AppendOutcome::Matched(sayable);
        let reply = AppendReply { term: self.term(), outcome, commit: self.commit() };
        self.send_after_promise(to, Message::AppendReply(reply));
    }
}
