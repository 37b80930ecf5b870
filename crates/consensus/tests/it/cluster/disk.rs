//! What a node has on disk, what is on its way there, and what a crash leaves.

use std::collections::VecDeque;
use std::sync::Arc;

use consensus::{
    Entry, EntryKind, HardState, Index, Membership, Persist, Restored, SnapshotMeta, Term, TermRun,
    Ticket,
};

use super::machine::Machine;

/// One write of a group, atomic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Write {
    HardState(HardState),
    Truncate(Index),
    Entries(Vec<Entry>),
    Install(Snapshot),
}

/// A state with what goes with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Snapshot {
    pub(crate) meta: SnapshotMeta,
    pub(crate) machine: Machine,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    /// The last entry that was cut, and the membership in force there.
    pub(crate) base: (Index, Term),
    base_membership: Option<(Index, Arc<Membership>)>,
    log: Vec<Entry>,
    pub(crate) snapshot: Option<Snapshot>,
    /// Submitted, not durable.
    pub(crate) pending: VecDeque<(Ticket, Vec<Write>)>,
    /// What it had before it left the group, and confirmed then.
    former: Vec<(Index, Term)>,
}

impl Disk {
    /// Of a founder, or of a node that will join.
    pub(crate) fn new(founders: Option<&Membership>) -> Self {
        let Some(founders) = founders else { return Self::default() };
        let (hard_state, first) = Restored::founding(founders);
        Self { hard_state, log: vec![first], ..Self::default() }
    }

    pub(crate) fn submit(&mut self, persist: Persist) {
        let Persist { ticket, hard_state, truncate_from, entries, .. } = persist;
        let mut writes: Vec<Write> = hard_state.map(Write::HardState).into_iter().collect();
        writes.extend(truncate_from.map(Write::Truncate));
        if !entries.is_empty() {
            writes.push(Write::Entries(entries));
        }
        self.pending.push_back((ticket, writes));
    }

    pub(crate) fn submit_install(&mut self, ticket: Ticket, snapshot: Snapshot) {
        self.pending.push_back((ticket, vec![Write::Install(snapshot)]));
    }

    pub(crate) fn is_installing(&self) -> bool {
        self.pending
            .iter()
            .any(|(_, writes)| writes.iter().any(|write| matches!(write, Write::Install(_))))
    }

    /// The oldest write becomes durable.
    pub(crate) fn sync_one(&mut self) -> Option<Ticket> {
        let (ticket, writes) = self.pending.pop_front()?;
        for write in writes {
            self.write(write);
        }
        Some(ticket)
    }

    fn write(&mut self, write: Write) {
        match write {
            Write::HardState(hard_state) => self.hard_state = hard_state,
            Write::Truncate(from) => self.log.truncate((from.0 - self.base.0.0 - 1) as usize),
            Write::Entries(entries) => {
                for entry in entries {
                    assert_eq!(entry.index, self.last().next(), "a log on disk has no gaps");
                    self.log.push(entry);
                }
            }
            Write::Install(snapshot) => {
                let SnapshotMeta { index, term, membership } = snapshot.meta.clone();
                self.log.clear();
                self.base = (index, term);
                self.base_membership = Some((index, membership));
                self.snapshot = Some(snapshot);
            }
        }
    }

    /// The power goes: what is on its way is lost.
    pub(crate) fn crash(&mut self) {
        self.pending.clear();
    }

    pub(crate) fn last(&self) -> Index {
        Index(self.base.0.0 + self.log.len() as u64)
    }

    pub(crate) fn entry(&self, index: Index) -> Option<&Entry> {
        let at = index.0.checked_sub(self.base.0.0 + 1)?;
        self.log.get(at as usize)
    }

    /// The term of a durable entry.
    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        self.entry(index).map(|entry| entry.term)
    }

    /// Whether this entry is in the durable log, or under its snapshot.
    pub(crate) fn has(&self, index: Index, term: Term) -> bool {
        index < self.base.0 || self.term(index) == Some(term)
    }

    /// Whether it has this entry, or had it when it left.
    pub(crate) fn had(&self, index: Index, term: Term) -> bool {
        self.has(index, term) || self.former.contains(&(index, term))
    }

    /// The node is no member any more: the log goes, what was promised stays.
    pub(crate) fn leave(&mut self) {
        let last = self.last();
        let last_term = self.term(last).unwrap_or_default();
        let mut former = std::mem::take(&mut self.former);
        former.extend(self.log.iter().map(|entry| (entry.index, entry.term)));
        *self =
            Self { hard_state: self.hard_state.left(last_term, last), former, ..Self::default() };
    }

    /// Entries through `through` go; a snapshot covers them.
    pub(crate) fn compact(&mut self, through: Index) {
        let Some(count) = through.0.checked_sub(self.base.0.0) else { return };
        let term = self.term(through).expect("only what is durable is cut");
        for entry in self.log.drain(..count as usize) {
            if entry.kind == EntryKind::Membership {
                let membership = Membership::decode(&entry.payload).expect("it was encoded");
                self.base_membership = Some((entry.index, Arc::new(membership)));
            }
        }
        self.base = (through, term);
    }

    /// The membership in force with everything durable, and the entry that made it so.
    pub(crate) fn memberships(&self) -> Vec<(Index, Arc<Membership>)> {
        let decode = |entry: &Entry| {
            let membership = Membership::decode(&entry.payload).expect("it was encoded");
            (entry.index, Arc::new(membership))
        };
        let in_log = self.log.iter().filter(|entry| entry.kind == EntryKind::Membership);
        self.base_membership.iter().cloned().chain(in_log.map(decode)).collect()
    }

    /// What the core starts from.
    pub(crate) fn restored(&self) -> Restored {
        let mut runs: VecDeque<TermRun> = VecDeque::new();
        for entry in &self.log {
            if runs.back().is_none_or(|run| run.term != entry.term) {
                runs.push_back(TermRun { first: entry.index, term: entry.term });
            }
        }
        Restored {
            hard_state: self.hard_state,
            snapshot: self.snapshot.as_ref().map(|snapshot| snapshot.meta.clone()),
            base: self.base,
            runs,
            last: self.last(),
            memberships: self.memberships(),
        }
    }

    /// At least one entry, at most `max_bytes` of them.
    pub(crate) fn read(&self, from: Index, through: Index, max_bytes: usize) -> Vec<Entry> {
        let mut bytes = 0;
        let mut entries = Vec::new();
        for index in from.0..=through.0 {
            let Some(entry) = self.entry(Index(index)) else { break };
            bytes += entry.cost();
            if max_bytes < bytes && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        entries
    }
}
