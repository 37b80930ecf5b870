//! Checksums by which members find out that they differ.

use std::convert::Infallible;

use super::Store;
use super::ids::{KeyRange, Revision};
use super::mvcc::{Mvcc, RevisionError};

/// The keys as they were at one revision, in 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeysHash {
    pub hash: u32,
    /// What was hashed: the keys at this revision.
    pub revision: Revision,
    /// Where the store was compacted to. Does not change the hash.
    pub compacted: Revision,
}

impl Store {
    /// Over everything but secrets: equal on every member that has applied the same commands.
    #[must_use]
    pub fn digest(&self) -> u32 {
        let mut hash = 0;
        let outcome: Result<(), Infallible> = self.without_secrets().encode_to(|bytes| {
            hash = crc32c::crc32c_append(hash, bytes);
            Ok(())
        });
        let Ok(()) = outcome;
        hash
    }
}

impl Mvcc {
    /// Hashes every key that existed at `revision` (`None`: now), with its value, revisions and
    /// lease. Later writes and compactions do not change it, so two members can be compared at
    /// any revision that both can still read.
    pub fn keys_hash(&self, revision: Option<Revision>) -> Result<KeysHash, RevisionError> {
        self.check_revision(revision)?;
        let range = KeyRange::all();
        let mut hash = 0;
        for record in self.scan(&range, revision) {
            let numbers = [
                record.key.len() as u64,
                record.value.len() as u64,
                record.create_revision.0,
                record.mod_revision.0,
                record.version,
                record.lease.0.cast_unsigned(),
            ];
            for number in numbers {
                hash = crc32c::crc32c_append(hash, &number.to_le_bytes());
            }
            hash = crc32c::crc32c_append(hash, &record.key);
            hash = crc32c::crc32c_append(hash, &record.value);
        }
        let revision = revision.unwrap_or(self.revision());
        Ok(KeysHash { hash, revision, compacted: self.compacted() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Command, LeaseId, Op, Put, Stamp, Txn};
    use super::*;

    const STAMP: Stamp = Stamp { now_ms: 0, quota_bytes: u64::MAX };

    fn put(store: &mut Store, key: &'static str, value: &'static str) {
        let value = Some(value.into());
        let put = Put { key: key.into(), value, lease: Some(LeaseId::NONE), previous: false };
        store.apply(STAMP, Command::Txn(Txn::always(Op::Put(put))));
    }

    fn at(store: &Store, revision: u64) -> u32 {
        store.mvcc.keys_hash(Some(Revision(revision))).unwrap().hash
    }

    #[test]
    fn neither_later_writes_nor_compaction_change_the_hash_of_a_revision() {
        let mut store = Store::default();
        put(&mut store, "a", "1");
        put(&mut store, "b", "1");
        put(&mut store, "a", "2");
        let (two, four) = (at(&store, 2), at(&store, 4));
        put(&mut store, "a", "3");
        assert_eq!((at(&store, 2), at(&store, 4)), (two, four));
        store.mvcc.compact(Revision(4)).unwrap();
        assert_eq!(at(&store, 4), four);
        let gone = store.mvcc.keys_hash(Some(Revision(2)));
        assert!(matches!(gone, Err(RevisionError::Compacted { .. })));
        let future = store.mvcc.keys_hash(Some(Revision(6)));
        assert!(matches!(future, Err(RevisionError::Future { .. })));
    }

    #[test]
    fn any_difference_shows() {
        let (mut one, mut two) = (Store::default(), Store::default());
        put(&mut one, "a", "bc");
        put(&mut two, "ab", "c");
        assert_ne!(at(&one, 2), at(&two, 2));
        assert_ne!(one.digest(), two.digest());
        let three = Store::decode(&one.encode()).unwrap();
        assert_eq!((at(&three, 2), three.digest()), (at(&one, 2), one.digest()));
    }
}
