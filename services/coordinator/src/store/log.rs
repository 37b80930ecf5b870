//! The changes by revision, to be watched.
//!
//! Revisions follow each other, so their number is their place: a persistent vector, which takes a
//! third of what a map takes.

use std::sync::Arc;

use imbl::Vector;

use super::ids::Revision;
use super::mvcc::Record;
use super::records::Records;

#[derive(Clone, Debug)]
pub(super) struct Log {
    /// Of the first changes, if there are any.
    first: Revision,
    changes: Vector<Records>,
}

impl Log {
    pub(super) fn new() -> Self {
        Self { first: Revision::FIRST, changes: Vector::new() }
    }

    /// Room for the changes of these revisions, both included, in any order.
    pub(super) fn spanning(first: Revision, last: Revision) -> Self {
        let revisions = first.0..=last.0;
        Self { first, changes: revisions.map(|_| Records::None).collect() }
    }

    /// The changes of the next revision.
    pub(super) fn push(&mut self, revision: Revision, changes: Records) {
        if self.changes.is_empty() {
            self.first = revision;
        }
        debug_assert_eq!(revision.0, self.first.0 + self.changes.len() as u64, "without a hole");
        self.changes.push_back(changes);
    }

    /// Puts back one change. Those of revisions out of the span are left out.
    pub(super) fn insert(&mut self, record: Arc<Record>) {
        let changes = self.place(record.mod_revision).and_then(|at| self.changes.get_mut(at));
        if let Some(changes) = changes {
            changes.insert_in_order(record);
        }
    }

    /// By revision, from this one on.
    pub(super) fn since(&self, from: Revision) -> impl Iterator<Item = (Revision, &Records)> {
        let from = from.max(self.first);
        let len = self.changes.len();
        let skipped = self.place(from).map_or(len, |at| at.min(len));
        let changes = self.changes.focus().narrow(skipped..).into_iter();
        changes.zip(from.0..).map(|(changes, revision)| (Revision(revision), changes))
    }

    /// Forgets the changes before a revision.
    pub(super) fn drop_before(&mut self, revision: Revision) {
        while self.first < revision && self.changes.pop_front().is_some() {
            self.first = self.first.next();
        }
    }

    fn place(&self, revision: Revision) -> Option<usize> {
        usize::try_from(revision.0.checked_sub(self.first.0)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::LeaseId;
    use super::*;

    fn record(revision: u64, order: u32) -> Arc<Record> {
        let mod_revision = Revision(revision);
        Arc::new(Record {
            key: "k".into(),
            value: "v".into(),
            create_revision: mod_revision,
            mod_revision,
            version: 1,
            lease: LeaseId::NONE,
            order,
        })
    }

    fn changes(revision: u64) -> Records {
        let mut changes = Records::default();
        changes.push(record(revision, 0));
        changes
    }

    fn since(log: &Log, from: u64) -> Vec<u64> {
        let check = |(revision, changes): (Revision, &Records)| {
            assert!(changes.iter().all(|record| record.mod_revision == revision));
            revision.0
        };
        log.since(Revision(from)).map(check).collect()
    }

    #[test]
    fn it_is_read_from_any_revision_on() {
        let mut log = Log::new();
        assert!(since(&log, 0).is_empty());
        (2..=200).for_each(|revision| log.push(Revision(revision), changes(revision)));
        for from in [0, 1, 2, 77, 200, 201, u64::MAX] {
            assert!(since(&log, from).into_iter().eq(from.max(2)..=200), "{from}");
        }
        log.drop_before(Revision(150));
        assert!(since(&log, 0).into_iter().eq(150..=200));
    }

    #[test]
    fn after_everything_is_forgotten_it_begins_anywhere() {
        let mut log = Log::new();
        log.push(Revision(2), changes(2));
        log.drop_before(Revision(1_000));
        assert!(since(&log, 0).is_empty());
        log.push(Revision(1_001), changes(1_001));
        assert_eq!(since(&log, 3), [1_001]);
    }

    #[test]
    fn changes_are_put_back_in_any_order() {
        let mut log = Log::spanning(Revision(5), Revision(7));
        for (revision, order) in [(7, 0), (5, 1), (4, 0), (5, 0), (6, 0), (8, 0)] {
            log.insert(record(revision, order));
        }
        assert_eq!(since(&log, 0), [5, 6, 7]);
        let (_, five) = log.since(Revision(5)).next().unwrap();
        assert!(five.iter().map(|record| record.order).eq(0..2));
        log.push(Revision(8), changes(8));
        assert_eq!(since(&log, 7), [7, 8]);
    }
}
