//! Keys with their history: every change since the last compaction can be read again.
//!
//! Two persistent structures hold the same records: by key (to read at any revision) and by
//! revision (to watch). Cloning both is O(1), so a reader, a watcher and a backup each take a clone and
//! never hold up a write.
//!
//! **Invariant:** a key changes at most once per revision.
//! **Invariant:** the log holds every revision from the compacted one to now, without a hole.

use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::ids::{KeyRange, LeaseId, Revision};
use super::key::Key;
use super::log::Log;
use super::records::Records;

/// What one record costs besides its key and value: map nodes, counters, shared pointers.
const RECORD_OVERHEAD_BYTES: u64 = 160;

/// One change of one key: a value, or its deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub key: Key,
    /// Empty when deleted.
    pub value: Bytes,
    /// Where this life of the key began; 0 when deleted.
    pub create_revision: Revision,
    pub mod_revision: Revision,
    /// Changes in this life of the key, from 1; 0 when deleted.
    pub version: u64,
    pub lease: LeaseId,
    /// Place among the changes of its revision.
    pub order: u32,
}

impl Record {
    #[must_use]
    pub const fn is_delete(&self) -> bool {
        self.version == 0
    }

    pub(super) fn cost(&self) -> u64 {
        record_cost(self.key.len(), self.value.len())
    }
}

/// What a record of these lengths counts towards the quota, in bytes.
pub(super) const fn record_cost(key: usize, value: usize) -> u64 {
    key as u64 + value as u64 + RECORD_OVERHEAD_BYTES
}

/// The revision asked for cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevisionError {
    #[error("the history before revision {oldest} has been compacted; read at {oldest} or later")]
    Compacted { oldest: Revision },
    #[error("revision {asked} does not exist yet; the store is at {newest}")]
    Future { asked: Revision, newest: Revision },
}

#[derive(Clone, Debug)]
pub struct Mvcc {
    pub(super) revision: Revision,
    /// 0 when nothing was compacted.
    pub(super) compacted: Revision,
    /// All changes of each key that can still be read, oldest first.
    pub(super) keys: OrdMap<Key, Records>,
    pub(super) log: Log,
    /// Keys that exist now.
    live: u64,
    pub(super) bytes: u64,
}

impl Mvcc {
    pub(super) fn new() -> Self {
        Self {
            revision: Revision::FIRST,
            compacted: Revision(0),
            keys: OrdMap::new(),
            log: Log::new(),
            live: 0,
            bytes: 0,
        }
    }

    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Reads below this revision fail. 0 when nothing was compacted.
    #[must_use]
    pub const fn compacted(&self) -> Revision {
        self.compacted
    }

    /// How many keys exist now.
    #[must_use]
    pub const fn live_keys(&self) -> u64 {
        self.live
    }

    /// What keys, values and history take, as the quota counts it.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fails if history at `revision` is gone or has not happened. None is now.
    pub fn check_revision(&self, revision: Option<Revision>) -> Result<(), RevisionError> {
        match revision {
            Some(asked) if asked > self.revision => {
                Err(RevisionError::Future { asked, newest: self.revision })
            }
            Some(asked) if asked < self.compacted => {
                Err(RevisionError::Compacted { oldest: self.compacted })
            }
            _ => Ok(()),
        }
    }

    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Arc<Record>> {
        self.keys.get(key).and_then(|history| visible(history, None))
    }

    /// The value of `key` as it was at `revision`, which the caller has checked.
    #[must_use]
    pub fn get_at(&self, key: &[u8], revision: Revision) -> Option<&Arc<Record>> {
        self.keys.get(key).and_then(|history| visible(history, Some(revision)))
    }

    /// The keys of a range that existed at a checked `revision` (None: now), in key order.
    pub fn scan<'a>(
        &'a self,
        range: &'a KeyRange,
        revision: Option<Revision>,
    ) -> impl Iterator<Item = &'a Arc<Record>> {
        self.keys
            .range::<_, [u8]>(range.bounds())
            .filter_map(move |(_, history)| visible(history, revision))
    }

    /// Begins the changes of the next revision.
    pub(super) fn write(&mut self) -> Writer<'_> {
        let revision = self.revision.next();
        Writer { mvcc: self, revision, changes: Records::default() }
    }

    /// Without records yet: those from a snapshot follow, `count` of them. `None` if they cannot
    /// be so many as there have been revisions.
    pub(super) fn between(compacted: Revision, revision: Revision, count: u64) -> Option<Self> {
        let first = compacted.max(Revision::FIRST.next());
        // The one that was compacted may have no changes any more.
        let is_plausible = revision.0.saturating_sub(first.0) <= count;
        let log = is_plausible.then(|| Log::spanning(first, revision))?;
        Some(Self { revision, compacted, log, ..Self::new() })
    }

    /// Puts back a record from a snapshot. Records of one key come oldest first.
    pub(super) fn load(&mut self, record: Record) {
        let record = Arc::new(record);
        self.log.insert(Arc::clone(&record));
        let was_live = self.get(&record.key).is_some();
        self.count(was_live, !record.is_delete());
        self.bytes += record.cost();
        self.keys.entry(record.key.clone()).or_default().push(record);
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.keys.iter().flat_map(|(_, history)| history.iter().map(Arc::as_ref))
    }

    fn count(&mut self, was_live: bool, is_live: bool) {
        match (was_live, is_live) {
            (false, true) => self.live += 1,
            (true, false) => self.live -= 1,
            _ => {}
        }
    }
}

/// The last record not after `revision`, unless it is a deletion.
fn visible(history: &Records, revision: Option<Revision>) -> Option<&Arc<Record>> {
    let newest = history.last()?;
    let record = match revision {
        Some(revision) if revision < newest.mod_revision => history.at(revision)?,
        _ => newest,
    };
    (!record.is_delete()).then_some(record)
}

/// Collects the changes of one revision. Readers of [`Mvcc`] through it see them at once; the
/// revision itself moves in [`Writer::finish`], and only if anything changed.
pub(super) struct Writer<'a> {
    pub(super) mvcc: &'a mut Mvcc,
    revision: Revision,
    changes: Records,
}

impl Writer<'_> {
    /// The revision as seen from inside: the next one as soon as something has changed.
    pub(super) fn revision(&self) -> Revision {
        if self.changes.is_empty() { self.mvcc.revision } else { self.revision }
    }

    /// Writes a value, and returns what it replaces and what is there now. `None` keeps the value
    /// or the lease, if there is one. One descent in the map: this is what most commands are.
    pub(super) fn put(
        &mut self,
        key: &[u8],
        value: impl Into<Option<Bytes>>,
        lease: impl Into<Option<LeaseId>>,
    ) -> (Option<Arc<Record>>, Arc<Record>) {
        let (revision, order) = (self.revision, self.order());
        let (value, lease) = (value.into(), lease.into());
        let next = |key: Key, previous: Option<&Record>| {
            let kept = |record: &Record| (record.value.clone(), record.lease);
            let (old_value, old_lease) = previous.map_or_else(Default::default, kept);
            Arc::new(Record {
                key,
                value: value.unwrap_or(old_value),
                create_revision: previous.map_or(revision, |record| record.create_revision),
                mod_revision: revision,
                version: previous.map_or(1, |record| record.version + 1),
                lease: lease.unwrap_or(old_lease),
                order,
            })
        };
        let (previous, record) = match self.mvcc.keys.get_mut(key) {
            Some(history) => {
                let known = history.last().map_or_else(|| key.into(), |last| last.key.clone());
                let previous = visible(history, None).cloned();
                let record = next(known, previous.as_deref());
                history.push(Arc::clone(&record));
                (previous, record)
            }
            None => {
                let record = next(key.into(), None);
                let mut history = Records::default();
                history.push(Arc::clone(&record));
                self.mvcc.keys.insert(record.key.clone(), history);
                (None, record)
            }
        };
        self.note(&record, previous.is_some());
        (previous, record)
    }

    /// Deletes every key of the range and returns what they were, in key order.
    pub(super) fn delete(&mut self, range: &KeyRange) -> Vec<Arc<Record>> {
        let previous: Vec<_> = self.mvcc.scan(range, None).cloned().collect();
        for record in &previous {
            let deletion = Arc::new(Record {
                key: record.key.clone(),
                value: Bytes::new(),
                create_revision: Revision(0),
                mod_revision: self.revision,
                version: 0,
                lease: LeaseId::NONE,
                order: self.order(),
            });
            let history = self.mvcc.keys.get_mut(&*record.key).expect("it was just seen");
            history.push(Arc::clone(&deletion));
            self.note(&deletion, true);
        }
        previous
    }

    /// Ends the revision and returns where the store is now.
    pub(super) fn finish(self) -> Revision {
        if !self.changes.is_empty() {
            self.mvcc.revision = self.revision;
            self.mvcc.log.push(self.revision, self.changes);
        }
        self.mvcc.revision
    }

    fn order(&self) -> u32 {
        u32::try_from(self.changes.len()).expect("a transaction changes fewer than 2^32 keys")
    }

    fn note(&mut self, record: &Arc<Record>, was_live: bool) {
        self.mvcc.count(was_live, !record.is_delete());
        self.mvcc.bytes += record.cost();
        self.changes.push(Arc::clone(record));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(mvcc: &mut Mvcc, key: &'static str, value: &'static str) -> Revision {
        let mut writer = mvcc.write();
        writer.put(key.as_bytes(), Bytes::from(value), LeaseId::NONE);
        writer.finish()
    }

    fn delete(mvcc: &mut Mvcc, key: &'static str) -> Revision {
        let mut writer = mvcc.write();
        writer.delete(&KeyRange::One(Bytes::from(key)));
        writer.finish()
    }

    #[test]
    fn every_revision_can_be_read_again() {
        let mut mvcc = Mvcc::new();
        let (one, two) = (put(&mut mvcc, "a", "1"), put(&mut mvcc, "a", "2"));
        let gone = delete(&mut mvcc, "a");
        assert_eq!((one, two, gone), (Revision(2), Revision(3), Revision(4)));
        assert!(mvcc.get_at(b"a", Revision::FIRST).is_none());
        assert_eq!(mvcc.get_at(b"a", one).unwrap().value, "1");
        assert_eq!(mvcc.get_at(b"a", two).unwrap().value, "2");
        assert!(mvcc.get(b"a").is_none());
    }

    #[test]
    fn a_new_life_of_a_key_begins_at_version_1() {
        let mut mvcc = Mvcc::new();
        put(&mut mvcc, "a", "1");
        put(&mut mvcc, "a", "2");
        assert_eq!(mvcc.get(b"a").unwrap().version, 2);
        delete(&mut mvcc, "a");
        let reborn = put(&mut mvcc, "a", "3");
        let record = mvcc.get(b"a").unwrap();
        assert_eq!((record.version, record.create_revision), (1, reborn));
    }

    #[test]
    fn deleting_nothing_does_not_move_the_revision() {
        let mut mvcc = Mvcc::new();
        assert_eq!(delete(&mut mvcc, "a"), Revision::FIRST);
    }

    #[test]
    fn a_clone_does_not_see_later_writes() {
        let mut mvcc = Mvcc::new();
        put(&mut mvcc, "a", "1");
        let snapshot = mvcc.clone();
        put(&mut mvcc, "a", "2");
        put(&mut mvcc, "b", "2");
        assert_eq!(snapshot.get(b"a").unwrap().value, "1");
        assert_eq!((snapshot.live_keys(), mvcc.live_keys()), (1, 2));
    }
}
