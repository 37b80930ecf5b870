//! What becomes of a store that is brought back from a backup.

use imbl::OrdSet;

use super::Store;
use super::ids::Revision;

/// How a restored store differs from its backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restoring {
    /// The new cluster's id: nobody takes it for the one that was backed up.
    pub cluster_id: u64,
    /// Added to the revision, so that none is used a second time for something else. More than
    /// was written since the backup.
    pub bump_revision: u64,
    /// Forget the history, so that whoever watches must read again what there is now.
    pub mark_compacted: bool,
}

impl Store {
    /// The same keys and users in a new cluster. Alarms and tokens belonged to the old one.
    /// Leases go on with the time they had left.
    #[must_use]
    pub fn restored(mut self, restoring: Restoring) -> Self {
        let Restoring { cluster_id, bump_revision, mark_compacted } = restoring;
        self.cluster_id = cluster_id;
        self.alarms = OrdSet::new();
        self.space_wanted = None;
        self.auth.forget_tokens();
        // The old cluster may have carried out what came after the backup: it was not here.
        self.requests = super::Requests::default();
        self.mvcc.revision = Revision(self.mvcc.revision.0.saturating_add(bump_revision));
        // A jump leaves no history that could be read through.
        if mark_compacted || 0 < bump_revision {
            let now = self.mvcc.revision;
            // It may be there already; nothing is to do then.
            let _compacted = self.mvcc.compact(now);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        AlarmKind, Command, HistoryCompacted, KeyRange, LeaseId, Op, Put, Stamp, Txn, WatchFilter,
    };
    use super::*;

    const STAMP: Stamp = Stamp { now_ms: 0, quota_bytes: u64::MAX };

    fn put(key: &'static str) -> Command {
        let (value, lease) = (Some("v".into()), Some(LeaseId::NONE));
        Command::Txn(Txn::always(Op::Put(Put { key: key.into(), value, lease, previous: false })))
    }

    fn backup() -> Store {
        let mut store = Store::default();
        store.apply(STAMP, Command::Found { cluster_id: 1 });
        store.apply(STAMP, put("a"));
        store.apply(STAMP, put("b"));
        store.apply(STAMP, Command::Alarm { member: 1, kind: AlarmKind::Corrupt, on: true });
        store
    }

    fn restore(bump_revision: u64, mark_compacted: bool) -> Store {
        backup().restored(Restoring { cluster_id: 2, bump_revision, mark_compacted })
    }

    #[test]
    fn keys_stay_and_what_belonged_to_the_old_cluster_goes() {
        let store = restore(0, false);
        assert_eq!((store.cluster_id(), store.alarms().count()), (2, 0));
        assert_eq!((store.revision(), store.mvcc.live_keys()), (Revision(3), 2));
        assert_eq!(store.mvcc.get_at(b"a", Revision(2)).unwrap().value, "v");
    }

    #[test]
    fn behind_a_jump_watchers_must_read_again() {
        let mut store = restore(1000, false);
        assert_eq!(store.revision(), Revision(1003));
        assert_eq!(store.mvcc.get(b"a").unwrap().mod_revision, Revision(2));
        let range = KeyRange::all();
        let filter = WatchFilter { range, puts: true, deletes: true, previous: false };
        // Seen of the old cluster, after the backup: here that revision never was.
        let old = store.mvcc.events(Revision(50), &filter, 1000);
        assert_eq!(old, Err(HistoryCompacted { oldest: Revision(1003) }));
        store.apply(STAMP, put("c"));
        let new = store.mvcc.events(Revision(1004), &filter, 1000).unwrap();
        assert_eq!(new.events.len(), 1);
        assert_eq!(Store::decode(&store.encode()).unwrap().encode(), store.encode());
    }
}
