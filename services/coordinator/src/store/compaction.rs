//! Forgetting history.
//!
//! After a compaction at revision C every read at C or later and every watch from C or later
//! still gives the same answer. Of a key's changes up to C only the last one stays; a deletion
//! before C goes, one at exactly C stays for the watch that starts there.

use serde::{Deserialize, Serialize};

use super::ids::Revision;
use super::mvcc::{Mvcc, RevisionError};

/// What became of a compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compacted {
    /// Where the store was.
    pub revision: Revision,
    /// Where its history begins now.
    pub compacted: Revision,
}

impl Mvcc {
    /// Drops history before `at`.
    pub fn compact(&mut self, at: Revision) -> Result<(), RevisionError> {
        if self.revision < at {
            return Err(RevisionError::Future { asked: at, newest: self.revision });
        }
        if at <= self.compacted {
            return Err(RevisionError::Compacted { oldest: self.compacted });
        }
        // Only keys that changed since the last compaction can have anything to drop.
        let log = self.log.clone();
        let changed = log.since(Revision::FIRST).take_while(|(revision, _)| *revision <= at);
        for record in changed.flat_map(|(_, changes)| changes.iter()) {
            self.trim(&record.key, at);
        }
        drop(log);
        self.log.drop_before(at);
        self.compacted = at;
        Ok(())
    }

    fn trim(&mut self, key: &[u8], at: Revision) {
        let Some(history) = self.keys.get_mut(key) else { return };
        let mut freed = 0;
        while let Some(first) = history.first() {
            let superseded = history.get(1).is_some_and(|next| next.mod_revision <= at);
            let gone = first.is_delete() && first.mod_revision < at;
            if !superseded && !gone {
                break;
            }
            freed += first.cost();
            history.pop_first();
        }
        let empty = history.is_empty();
        self.bytes -= freed;
        if empty {
            self.keys.remove(key);
        }
    }

    /// How many revisions can still be read besides the newest.
    #[must_use]
    pub fn history_len(&self) -> u64 {
        self.revision.0.saturating_sub(self.compacted.0.max(Revision::FIRST.0))
    }

    /// Every change held, of live and of deleted keys.
    #[must_use]
    pub fn record_count(&self) -> usize {
        self.keys.iter().map(|(_, history)| history.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::ids::{KeyRange, LeaseId};
    use super::*;

    fn put(mvcc: &mut Mvcc, key: &'static str, value: &'static str) {
        let mut writer = mvcc.write();
        writer.put(key.as_bytes(), Bytes::from(value), LeaseId::NONE);
        writer.finish();
    }

    fn delete(mvcc: &mut Mvcc, key: &'static str) {
        let mut writer = mvcc.write();
        writer.delete(&KeyRange::One(key.into()));
        writer.finish();
    }

    /// Revisions: 2 a=1, 3 a=2, 4 b=1, 5 a deleted, 6 b=2.
    fn sample() -> Mvcc {
        let mut mvcc = Mvcc::new();
        put(&mut mvcc, "a", "1");
        put(&mut mvcc, "a", "2");
        put(&mut mvcc, "b", "1");
        delete(&mut mvcc, "a");
        put(&mut mvcc, "b", "2");
        mvcc
    }

    #[test]
    fn what_is_at_or_after_the_compaction_reads_the_same() {
        for at in 2..=6 {
            let (before, mut after) = (sample(), sample());
            after.compact(Revision(at)).unwrap();
            for revision in at..=6 {
                for key in [b"a", b"b"] {
                    assert_eq!(
                        before.get_at(key, Revision(revision)),
                        after.get_at(key, Revision(revision)),
                        "compacted at {at}, read at {revision}"
                    );
                }
            }
            assert!(before.log.since(Revision(at)).eq(after.log.since(Revision::FIRST)));
        }
    }

    #[test]
    fn a_deletion_goes_with_the_next_compaction() {
        let mut mvcc = sample();
        mvcc.compact(Revision(5)).unwrap();
        assert!(mvcc.keys.contains_key(&b"a"[..]), "a watch from 5 must see the deletion");
        mvcc.compact(Revision(6)).unwrap();
        assert!(!mvcc.keys.contains_key(&b"a"[..]));
        assert_eq!(mvcc.record_count(), 1);
        assert_eq!(mvcc.bytes(), mvcc.get(b"b").unwrap().cost());
    }

    #[test]
    fn compaction_goes_forward_and_not_beyond_now() {
        let mut mvcc = sample();
        assert!(matches!(mvcc.compact(Revision(7)), Err(RevisionError::Future { .. })));
        mvcc.compact(Revision(4)).unwrap();
        assert!(matches!(mvcc.compact(Revision(4)), Err(RevisionError::Compacted { .. })));
    }
}
