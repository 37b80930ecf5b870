//! Watching: reading the history forward.
//!
//! A watcher keeps nothing here but its next revision. Woken by a newer store, it reads what it
//! missed from a clone; a slow one costs no memory, loses nothing, and holds up nobody. Only
//! compaction can overtake it, and then it is told so.

use std::sync::Arc;

use super::ids::{KeyRange, Revision};
use super::mvcc::{Mvcc, Record};

/// Revisions looked at in one read, so that a watcher far behind lets others have their turn.
const SCAN_MAX: usize = 4096;

/// What a watcher wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchFilter {
    pub range: KeyRange,
    pub puts: bool,
    pub deletes: bool,
    /// Also what was there before each change.
    pub previous: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub record: Arc<Record>,
    /// The value at the revision before, if it was asked for and is not compacted.
    pub previous: Option<Arc<Record>>,
}

/// Events of whole revisions, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub events: Vec<Event>,
    /// Where to read on.
    pub next: Revision,
    /// Of keys and values, those before a change included.
    pub bytes: usize,
}

/// The history the watcher needs is gone; it must read the keys anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the history before revision {oldest} has been compacted; read the keys again and watch from there"
)]
pub struct HistoryCompacted {
    /// A watch can start here.
    pub oldest: Revision,
}

impl Mvcc {
    /// Reads events from revision `from` on, until `max_bytes` are exceeded or history ends. A
    /// revision is never split.
    pub fn events(
        &self,
        from: Revision,
        filter: &WatchFilter,
        max_bytes: usize,
    ) -> Result<Batch, HistoryCompacted> {
        if from < self.compacted {
            return Err(HistoryCompacted { oldest: self.compacted });
        }
        let mut batch = Batch { events: Vec::new(), next: from, bytes: 0 };
        let mut log = self.log.since(from);
        for (revision, changes) in log.by_ref().take(SCAN_MAX) {
            for record in changes.iter().filter(|record| filter.wants(record)) {
                let previous = filter.previous.then(|| self.before(record)).flatten();
                batch.bytes += record.key.len() + record.value.len();
                batch.bytes += previous.as_ref().map_or(0, |previous| previous.value.len());
                batch.events.push(Event { record: Arc::clone(record), previous });
            }
            batch.next = revision.next();
            if max_bytes <= batch.bytes {
                return Ok(batch);
            }
        }
        if log.next().is_none() {
            // Not every revision has changes: the first one has none, nor has a restored store.
            batch.next = batch.next.max(self.revision.next());
        }
        Ok(batch)
    }

    /// The first change of a revision that can still be read.
    pub(crate) fn first_change(&self, revision: Revision) -> Option<&Arc<Record>> {
        let (found, changes) = self.log.since(revision).next()?;
        changes.first().filter(|_| found == revision)
    }

    fn before(&self, record: &Record) -> Option<Arc<Record>> {
        let before = Revision(record.mod_revision.0 - 1);
        if before < self.compacted {
            return None;
        }
        self.get_at(&record.key, before).cloned()
    }
}

impl WatchFilter {
    fn wants(&self, record: &Record) -> bool {
        let kind = if record.is_delete() { self.deletes } else { self.puts };
        kind && self.range.contains(&record.key)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::ids::LeaseId;
    use super::*;

    fn filter(range: KeyRange) -> WatchFilter {
        WatchFilter { range, puts: true, deletes: true, previous: true }
    }

    /// Revision 2: a=1 and b=1 together. 3: a=2. 4: both deleted.
    fn sample() -> Mvcc {
        let mut mvcc = Mvcc::new();
        let mut writer = mvcc.write();
        writer.put(b"b", Bytes::from("1"), LeaseId::NONE);
        writer.put(b"a", Bytes::from("1"), LeaseId::NONE);
        writer.finish();
        let mut writer = mvcc.write();
        writer.put(b"a", Bytes::from("2"), LeaseId::NONE);
        writer.finish();
        let mut writer = mvcc.write();
        writer.delete(&KeyRange::all());
        writer.finish();
        mvcc
    }

    fn names(batch: &Batch) -> Vec<(u64, &str)> {
        let name = |event: &Event| event.record.mod_revision.0;
        batch
            .events
            .iter()
            .map(|event| (name(event), str::from_utf8(&event.record.key).unwrap()))
            .collect()
    }

    #[test]
    fn events_come_in_the_order_of_their_transaction() {
        let batch = sample().events(Revision(1), &filter(KeyRange::all()), usize::MAX).unwrap();
        assert_eq!(names(&batch), [(2, "b"), (2, "a"), (3, "a"), (4, "a"), (4, "b")]);
        assert_eq!(batch.next, Revision(5));
    }

    #[test]
    fn a_full_batch_ends_behind_a_whole_revision() {
        let mvcc = sample();
        let batch = mvcc.events(Revision(2), &filter(KeyRange::all()), 1).unwrap();
        assert_eq!(names(&batch), [(2, "b"), (2, "a")]);
        let batch = mvcc.events(batch.next, &filter(KeyRange::all()), 1).unwrap();
        assert_eq!(names(&batch), [(3, "a")]);
    }

    #[test]
    fn the_previous_value_is_the_one_of_the_revision_before() {
        let batch = sample().events(Revision(3), &filter(KeyRange::One("a".into())), 100).unwrap();
        let previous: Vec<_> = batch
            .events
            .iter()
            .map(|event| event.previous.as_ref().unwrap().value.clone())
            .collect();
        assert_eq!(previous, ["1", "2"]);
    }

    #[test]
    fn a_filter_drops_its_kind_only() {
        let puts = WatchFilter { deletes: false, ..filter(KeyRange::all()) };
        assert_eq!(sample().events(Revision(3), &puts, 100).unwrap().events.len(), 1);
        let deletes = WatchFilter { puts: false, ..filter(KeyRange::all()) };
        assert_eq!(sample().events(Revision(1), &deletes, 100).unwrap().events.len(), 2);
    }

    #[test]
    fn a_watch_from_the_compacted_revision_sees_its_deletion() {
        let mut mvcc = sample();
        mvcc.compact(Revision(4)).unwrap();
        let batch = mvcc.events(Revision(4), &filter(KeyRange::all()), 100).unwrap();
        assert_eq!(names(&batch), [(4, "a"), (4, "b")]);
        assert_eq!(
            mvcc.events(Revision(3), &filter(KeyRange::all()), 100),
            Err(HistoryCompacted { oldest: Revision(4) })
        );
    }

    #[test]
    fn revisions_without_a_change_are_passed() {
        let all = filter(KeyRange::all());
        let nothing = Batch { events: vec![], next: Revision(2), bytes: 0 };
        assert_eq!(Mvcc::new().events(Revision(1), &all, 100), Ok(nothing));
        let mut jumped = sample();
        jumped.revision = Revision(1000);
        let batch = jumped.events(Revision(5), &all, 100).unwrap();
        assert_eq!((batch.events.len(), batch.next), (0, Revision(1001)));
        let full = jumped.events(Revision(4), &all, 1).unwrap();
        assert_eq!(full.next, Revision(5), "whoever stopped early goes on from there");
    }

    #[test]
    fn a_watch_of_the_future_waits_there() {
        let batch = sample().events(Revision(9), &filter(KeyRange::all()), 100).unwrap();
        assert_eq!(batch, Batch { events: vec![], next: Revision(9), bytes: 0 });
    }
}
