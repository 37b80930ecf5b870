//! What waits for the disk: promises, entries, and the messages that depend on them.

use std::collections::VecDeque;

use super::Raft;
use super::explore::earlier;
use crate::effect::{Effect, Persist, Ticket};
use crate::ids::{HardState, Index, NodeId, Term};
use crate::log::Slice;
use crate::message::Message;
use crate::mutants::{self, Mutant};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pending {
    /// The last ticket that was given out, and the last that is durable.
    issued: Ticket,
    durable: Ticket,
    /// Tickets under way, each with the last entry that it makes durable.
    writes: VecDeque<(Ticket, Index)>,
    /// Messages that wait for their ticket, in order.
    held: VecDeque<(Ticket, NodeId, Message)>,
    /// What the next persist has to say.
    promise_changed: bool,
    truncate_from: Option<Index>,
    /// The last entry that was handed to the disk.
    submitted: Index,
}

impl Pending {
    pub(super) fn new(last: Index) -> Self {
        Self {
            issued: Ticket(0),
            durable: Ticket(0),
            writes: VecDeque::new(),
            held: VecDeque::new(),
            promise_changed: false,
            truncate_from: None,
            submitted: last,
        }
    }

    fn issue(&mut self, last: Index) -> Ticket {
        self.issued = Ticket(self.issued.0 + 1);
        self.writes.push_back((self.issued, last));
        self.issued
    }

    /// The room of empty queues, which an idle group would keep.
    fn let_go(&mut self) {
        if self.writes.is_empty() {
            self.writes = VecDeque::new();
        }
        if self.held.is_empty() {
            self.held = VecDeque::new();
        }
    }

    /// See [`Raft::forget_time`].
    pub(super) fn forget_count(&mut self) -> u64 {
        let by = self.durable.0;
        self.issued = earlier(self.issued, by);
        self.durable = earlier(self.durable, by);
        for (ticket, _) in &mut self.writes {
            *ticket = earlier(*ticket, by);
        }
        for (ticket, _, _) in &mut self.held {
            *ticket = earlier(*ticket, by);
        }
        let mut held: VecDeque<(Ticket, NodeId, Message)> = VecDeque::new();
        for (ticket, to, message) in std::mem::take(&mut self.held) {
            if !held.iter().any(|(_, other, earlier)| (*other, earlier) == (to, &message)) {
                held.push_back((ticket, to, message));
            }
        }
        self.held = held;
        by
    }

    /// The ticket after which everything up to now is durable.
    fn next_durable(&self) -> Ticket {
        match self.promise_changed {
            true => Ticket(self.issued.0 + 1),
            false => self.issued,
        }
    }

    /// Nothing of the log before `from` waits, nothing from it on is on its way any more.
    fn truncate(&mut self, from: Index) {
        if !mutants::is(Mutant::OldWritesCount) {
            for (_, last) in &mut self.writes {
                *last = (*last).min(Index(from.0 - 1));
            }
        }
        if from <= self.submitted {
            let earliest = self.truncate_from.map_or(from, |earlier| earlier.min(from));
            self.truncate_from = Some(earliest);
            self.submitted = Index(from.0 - 1);
        }
    }
}

impl Raft {
    /// Everything up to this ticket is durable. Tickets may come late and out of order.
    pub fn handle_persisted(&mut self, ticket: Ticket) {
        if self.poisoned || ticket <= self.pending.durable {
            return;
        }
        self.pending.durable = ticket;
        while let Some((_, last)) = self.pending.writes.pop_front_if(|(of, _)| *of <= ticket) {
            self.log.set_durable(last);
        }
        while let Some((_, to, message)) =
            self.pending.held.pop_front_if(|(of, _, _)| *of <= ticket)
        {
            self.release(to, message);
        }
        self.pending.let_go();
        if self.is_leader() {
            self.advance_commit();
        }
    }

    fn release(&mut self, to: NodeId, message: Message) {
        if to == self.node() {
            self.receive(to, message);
        } else {
            self.send(to, message);
        }
    }

    /// Sends when everything that was promised so far is durable.
    pub(super) fn send_durably(&mut self, to: NodeId, message: Message) {
        let ticket = self.pending.next_durable();
        if ticket <= self.pending.durable {
            self.release(to, message);
        } else {
            self.pending.held.push_back((ticket, to, message));
        }
    }

    /// Sends at once, unless the term or the vote it may speak of is still to be written.
    pub(super) fn send_after_promise(&mut self, to: NodeId, message: Message) {
        match self.pending.promise_changed {
            true => self.send_durably(to, message),
            false => self.send(to, message),
        }
    }

    /// §5.1, §5.2: one record, so that a crash cannot keep the term without the vote.
    pub(super) fn promise(&mut self, term: Term, voted_for: Option<NodeId>) {
        if (self.hard_state.term, self.hard_state.voted_for) != (term, voted_for) {
            self.hard_state.term = term;
            self.hard_state.voted_for = voted_for;
            self.pending.promise_changed = true;
        }
    }

    /// Drops the entries from `from` on, which are not the leader's.
    pub(super) fn truncate(&mut self, from: Index) {
        self.log.truncate(from);
        self.pending.truncate(from);
        self.truncate_memberships(from);
    }

    pub(super) fn flush_persist(&mut self) {
        let pending = &mut self.pending;
        let has_entries = pending.submitted < self.log.last();
        if !has_entries && !pending.promise_changed && pending.truncate_from.is_none() {
            return;
        }
        let entries = match self.log.slice(pending.submitted.next(), usize::MAX) {
            Slice::Entries(entries) => entries,
            Slice::OnDisk | Slice::Gone => unreachable!("what is not on disk yet is in memory"),
        };
        if pending.promise_changed && mutants::is(Mutant::TwoRecords) {
            let ticket = pending.issue(Index::ZERO);
            let hard_state =
                Some(HardState { voted_for: Some(self.config.node), ..self.hard_state });
            let (truncate_from, entries) = (None, Vec::new());
            let persist = Persist { ticket, hard_state, truncate_from, entries };
            self.effects.push(Effect::Persist(persist));
        }
        let pending = &mut self.pending;
        let hard_state = pending.promise_changed.then_some(self.hard_state);
        let truncate_from = pending.truncate_from.take();
        pending.promise_changed = false;
        pending.submitted = self.log.last();
        let ticket = pending.issue(self.log.last());
        self.effects.push(Effect::Persist(Persist { ticket, hard_state, truncate_from, entries }));
    }

    /// The log is replaced by a snapshot: what was on its way to the disk no longer counts.
    pub(super) fn persist_reset(&mut self, index: Index) -> Ticket {
        for (_, last) in &mut self.pending.writes {
            *last = Index::ZERO;
        }
        self.pending.truncate_from = None;
        self.pending.submitted = index;
        self.pending.issue(index)
    }
}
