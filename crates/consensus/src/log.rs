//! What a member knows of its log: the term of every entry, by runs; the newest entries
//! themselves; and how much of it is durable.
//!
//! Older entries stay on disk only. What is not durable yet is always in memory.

use std::collections::VecDeque;

use crate::entry::Entry;
use crate::ids::{Index, Term};
use crate::mutants::{self, Mutant};

/// A stretch of entries of one term. It ends where the next run starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TermRun {
    /// The first entry.
    pub first: Index,
    /// The term of all of them.
    pub term: Term,
}

/// What [`Log::slice`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Slice {
    Entries(Vec<Entry>),
    /// On disk only.
    OnDisk,
    /// Compacted away.
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Log {
    /// The entry before the first one, and its term: covered by a snapshot.
    base: (Index, Term),
    runs: VecDeque<TermRun>,
    last: Index,
    durable: Index,
    /// The newest entries; the last of them is `last`.
    recent: VecDeque<Entry>,
    recent_bytes: usize,
}

impl Log {
    /// A log on disk with nothing in memory.
    pub(crate) fn new(base: (Index, Term), runs: VecDeque<TermRun>, last: Index) -> Self {
        Self { base, runs, last, durable: last, recent: VecDeque::new(), recent_bytes: 0 }
    }

    /// The entry before the first: neither it nor what lies below can be read.
    pub(crate) fn base(&self) -> Index {
        self.base.0
    }

    pub(crate) fn last(&self) -> Index {
        self.last
    }

    pub(crate) fn last_term(&self) -> Term {
        self.runs.back().map_or(self.base.1, |run| run.term)
    }

    pub(crate) fn durable(&self) -> Index {
        self.durable
    }

    /// The term of an entry; `None` beyond the end and below the base.
    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        if index < self.base.0 || self.last < index {
            return None;
        }
        let after = self.runs.partition_point(|run| run.first <= index);
        Some(self.runs[after - 1].term)
    }

    /// The logs agree here, so they agree on everything before (§5.3, Log Matching).
    pub(crate) fn matches(&self, index: Index, term: Term) -> bool {
        self.term(index) == Some(term)
    }

    /// §5.4.1: whether a candidate with this last entry has all that this log may have committed.
    pub(crate) fn is_behind_or_equal(&self, last_term: Term, last_index: Index) -> bool {
        if mutants::is(Mutant::LongerLogWins) {
            return (self.last, self.last_term()) <= (last_index, last_term);
        }
        (self.last_term(), self.last) <= (last_term, last_index)
    }

    /// The highest index up to `at` whose term is at most `term`: where a log that has `term`
    /// there may still agree.
    pub(crate) fn agreement(&self, at: Index, term: Term) -> Index {
        let at = at.min(self.last);
        let after = self.runs.partition_point(|run| run.first <= at && run.term <= term);
        match self.runs.get(after) {
            Some(newer) if newer.first <= at => Index(newer.first.0 - 1).max(self.base.0),
            _ => at.max(self.base.0),
        }
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        assert_eq!(entry.index, self.last.next(), "the log has no gaps");
        if self.last_term() != entry.term || self.runs.is_empty() {
            self.runs.push_back(TermRun { first: entry.index, term: entry.term });
        }
        self.last = entry.index;
        self.recent_bytes += entry.cost();
        self.recent.push_back(entry);
    }

    /// Drops the entries from `from` on.
    pub(crate) fn truncate(&mut self, from: Index) {
        while self.recent.back().is_some_and(|entry| from <= entry.index) {
            self.recent_bytes -= self.recent.pop_back().expect("there is a last one").cost();
        }
        while self.runs.back().is_some_and(|run| from <= run.first) {
            self.runs.pop_back();
        }
        self.last = Index(from.0 - 1);
        self.durable = self.durable.min(self.last);
    }

    /// The entries up to here are on disk.
    pub(crate) fn set_durable(&mut self, through: Index) {
        self.durable = self.durable.max(through.min(self.last));
    }

    /// Forgets entries up to `through`, which a snapshot covers.
    pub(crate) fn compact(&mut self, through: Index) {
        let Some(term) = self.term(through) else { return };
        if through <= self.base.0 {
            return;
        }
        self.base = (through, term);
        while self.runs.get(1).is_some_and(|next| next.first <= through.next()) {
            self.runs.pop_front();
        }
        if through == self.last {
            self.runs.clear();
        } else if let Some(run) = self.runs.front_mut() {
            run.first = run.first.max(through.next());
        }
        self.drop_recent_through(through);
    }

    /// The log goes on behind a snapshot; nothing before it is left. Nothing is durable until the
    /// snapshot is.
    pub(crate) fn reset(&mut self, index: Index, term: Term) {
        *self = Self::new((index, term), VecDeque::new(), index);
        self.durable = Index::ZERO;
    }

    /// What the log begins behind is not durable (any more).
    pub(crate) fn forget_durable(&mut self) {
        self.durable = Index::ZERO;
    }

    /// Lets entries go from memory, oldest first, down to `max_bytes`; but none that is not
    /// durable, and none behind `settled`.
    pub(crate) fn shrink(&mut self, max_bytes: usize, settled: Index) {
        let settled = settled.min(self.durable);
        while max_bytes < self.recent_bytes
            && self.recent.front().is_some_and(|entry| entry.index <= settled)
        {
            self.recent_bytes -= self.recent.pop_front().expect("there is a first one").cost();
        }
        if self.recent.is_empty() {
            self.recent = VecDeque::new();
        }
    }

    fn drop_recent_through(&mut self, through: Index) {
        while self.recent.front().is_some_and(|entry| entry.index <= through) {
            self.recent_bytes -= self.recent.pop_front().expect("there is a first one").cost();
        }
    }

    /// Entries from `from` on: at most `max_bytes` of them, but one at least; none beyond the end.
    pub(crate) fn slice(&self, from: Index, max_bytes: usize) -> Slice {
        if from <= self.base.0 {
            return Slice::Gone;
        }
        if self.last < from {
            return Slice::Entries(Vec::new());
        }
        let first = Index(self.last.0 + 1 - self.recent.len() as u64);
        if from < first {
            return Slice::OnDisk;
        }
        let mut entries = Vec::new();
        let mut bytes = 0;
        for entry in self.recent.range((from.0 - first.0) as usize..) {
            bytes += entry.cost();
            if max_bytes < bytes && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        Slice::Entries(entries)
    }

    #[cfg(test)]
    pub(crate) fn holds_entries(&self) -> bool {
        !self.recent.is_empty()
    }

    /// Bytes of the entries behind `index` that are in memory.
    pub(crate) fn bytes_after(&self, index: Index) -> usize {
        self.recent.iter().rev().take_while(|entry| index < entry.index).map(Entry::cost).sum()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn log(terms: &[u64]) -> Log {
        let mut log = Log::new((Index::ZERO, Term(0)), VecDeque::new(), Index::ZERO);
        for (at, term) in terms.iter().enumerate() {
            log.push(Entry::command(Term(*term), Index(at as u64 + 1), Bytes::from_static(b"x")));
        }
        log
    }

    fn terms(log: &Log) -> Vec<u64> {
        (log.base().0..=log.last().0).map(|at| log.term(Index(at)).unwrap().0).collect()
    }

    #[test]
    fn terms_are_kept_by_runs() {
        let log = log(&[1, 1, 2, 2, 2, 5]);
        assert_eq!(terms(&log), [0, 1, 1, 2, 2, 2, 5]);
        assert_eq!(log.runs.len(), 3);
        assert_eq!(log.term(Index(7)), None);
    }

    #[test]
    fn what_is_compacted_keeps_the_term_at_its_edge() {
        for through in 1..=6 {
            let mut log = log(&[1, 1, 2, 2, 2, 5]);
            log.compact(Index(through));
            assert_eq!(terms(&log), [0, 1, 1, 2, 2, 2, 5][through as usize..], "{through}");
            assert_eq!(log.slice(Index(through), 10), Slice::Gone);
            log.push(Entry::command(Term(5), Index(7), Bytes::new()));
            log.push(Entry::command(Term(6), Index(8), Bytes::new()));
            assert_eq!(log.term(Index(8)), Some(Term(6)));
        }
    }

    #[test]
    fn truncating_forgets_terms_entries_and_durability() {
        let mut log = log(&[1, 1, 2, 3]);
        log.set_durable(Index(4));
        log.truncate(Index(2));
        assert_eq!((log.last(), log.durable(), log.last_term()), (Index(1), Index(1), Term(1)));
        log.push(Entry::command(Term(9), Index(2), Bytes::new()));
        assert_eq!(terms(&log), [0, 1, 9]);
        assert_eq!(log.durable(), Index(1));
    }

    /// §5.3, the accelerated backtracking: never above an index where the logs may agree.
    #[test]
    fn agreement_is_looked_for_by_term() {
        let log = log(&[1, 1, 2, 2, 5, 5]);
        for (at, term, expected) in
            [(6, 5, 6), (6, 4, 4), (6, 1, 2), (3, 9, 3), (9, 9, 6), (6, 0, 0), (2, 1, 2)]
        {
            assert_eq!(log.agreement(Index(at), Term(term)), Index(expected), "{at} {term}");
        }
    }

    #[test]
    fn only_what_is_durable_leaves_memory() {
        let mut log = log(&[1, 1, 1]);
        log.shrink(0, Index(9));
        assert!(matches!(log.slice(Index(1), 1000), Slice::Entries(entries) if entries.len() == 3));
        log.set_durable(Index(2));
        log.shrink(0, Index(9));
        assert_eq!(log.slice(Index(2), 1000), Slice::OnDisk);
        assert!(matches!(log.slice(Index(3), 0), Slice::Entries(entries) if entries.len() == 1));
        assert_eq!(log.slice(Index(4), 1000), Slice::Entries(Vec::new()));
    }
}
