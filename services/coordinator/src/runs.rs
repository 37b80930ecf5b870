//! What many watchers are told alike is read and encoded once, and sent to all from one place in
//! memory.
//!
//! A thousand watchers of one prefix are woken by the same store, have read equally far, and are
//! told the same bytes. The first of them leaves these here; the others find them. Whoever is late
//! finds several, one behind the other, and whoever reads what nobody else does finds nothing and
//! reads for itself.
//!
//! **Invariant:** a run is only given to who reads the history that it was made from.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::store::{Batch, Event, HistoryCompacted, Record, Revision, Store, WatchFilter};

/// Bytes of keys and values read for one run; its last revision may exceed it.
pub(crate) const RUN_BYTES: usize = 128 << 10;
/// What is longer is not encoded as a whole: a single revision may delete millions of keys.
const BATCH_BYTES_MAX: usize = 4 * RUN_BYTES;
const EVENTS_MAX: usize = 4096;
/// Runs that are kept: some for each of many crowds, and few enough to look through.
const KEPT_MAX: usize = 256;
/// And their bytes, as encoded.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// Watchers with equal forms are told the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    // Compared first: the watches of one stream differ in nothing else.
    pub(crate) encoding: Encoding,
    pub(crate) filter: WatchFilter,
}

/// How a change is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Server-sent events of `/v1/watch`.
    Change,
    /// Server-sent events about instances of a service.
    Instance,
    /// Messages of the etcd face. They name the watch.
    Message { watch_id: i64 },
}

/// What a watcher reads at once.
#[derive(Debug)]
pub(crate) enum Read<R> {
    /// All changes that watchers of one form see, up to the revision `next`. `last`: of the last
    /// one.
    Run { run: R, last: Revision, next: Revision },
    /// Nothing to tell, or too much for one run.
    Batch(Batch),
}

/// A watcher among others of its form.
pub(crate) struct Crowd<E> {
    pub(crate) runs: Arc<Runs>,
    pub(crate) form: Arc<Form>,
    /// The same for all of the form.
    pub(crate) encode: E,
}

/// The newest runs of all forms, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Runs(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    runs: VecDeque<KeptRun>,
    bytes: usize,
}

#[derive(Debug)]
struct KeptRun {
    form: Arc<Form>,
    from: Revision,
    encoded: Bytes,
    last: Revision,
    next: Revision,
    /// A record of its last revision: who does not have this very one reads another history, or
    /// less of it.
    witness: Arc<Record>,
}

impl Runs {
    /// What watchers of this form are told next; made by `encode` if nobody was told so before.
    pub(crate) fn read(
        &self,
        form: &Arc<Form>,
        from: Revision,
        store: &Store,
        encode: impl FnOnce(&[Event]) -> Bytes,
    ) -> Result<Read<Bytes>, HistoryCompacted> {
        if let Some(run) = self.find(form, from, store) {
            return Ok(run);
        }
        let batch = store.mvcc.events(from, &form.filter, RUN_BYTES)?;
        let last = batch.events.last().map(|event| event.record.mod_revision);
        let witness = last.and_then(|last| store.mvcc.first_change(last)).cloned();
        let (Some(last), Some(witness)) = (last, witness) else { return Ok(Read::Batch(batch)) };
        if BATCH_BYTES_MAX < batch.bytes || EVENTS_MAX < batch.events.len() {
            return Ok(Read::Batch(batch));
        }
        // Not locked: two may encode the same at once, but nobody waits for long.
        let encoded = encode(&batch.events);
        let form = Arc::clone(form);
        let run = KeptRun { form, from, encoded, last, next: batch.next, witness };
        let read = run.read();
        self.lock().keep(run);
        Ok(read)
    }

    fn find(&self, form: &Arc<Form>, from: Revision, store: &Store) -> Option<Read<Bytes>> {
        if from < store.mvcc.compacted() {
            return None;
        }
        let kept = self.lock();
        let is_next =
            |kept: &&KeptRun| kept.from == from && kept.form == *form && kept.is_of(store);
        kept.runs.iter().rev().find(is_next).map(KeptRun::read)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeptRun {
    fn read(&self) -> Read<Bytes> {
        Read::Run { run: self.encoded.clone(), last: self.last, next: self.next }
    }

    fn is_of(&self, store: &Store) -> bool {
        let there = store.mvcc.first_change(self.last);
        there.is_some_and(|there| Arc::ptr_eq(there, &self.witness))
    }
}

impl Kept {
    fn keep(&mut self, run: KeptRun) {
        self.bytes += run.encoded.len();
        self.runs.push_back(run);
        while KEPT_MAX < self.runs.len() || KEPT_BYTES_MAX < self.bytes {
            let Some(oldest) = self.runs.pop_front() else { return };
            self.bytes -= oldest.encoded.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Command, KeyRange, LeaseId, Op, Put, Stamp, Txn};

    fn form(range: KeyRange, encoding: Encoding) -> Arc<Form> {
        let filter = WatchFilter { range, puts: true, deletes: true, previous: false };
        Arc::new(Form { filter, encoding })
    }

    fn everything() -> Arc<Form> {
        form(KeyRange::all(), Encoding::Change)
    }

    /// A store in which each of these keys was put, from revision 2 on.
    fn store(keys: &[&'static str]) -> Store {
        let mut store = Store::default();
        keys.iter().for_each(|key| put(&mut store, key, "v"));
        store
    }

    fn put(store: &mut Store, key: &'static str, value: impl Into<Bytes>) {
        let value = Some(value.into());
        let put = Put { key: key.into(), value, lease: Some(LeaseId::NONE), previous: false };
        let stamp = Stamp { now_ms: 0, quota_bytes: u64::MAX };
        store.apply(stamp, Command::Txn(Txn::always(Op::Put(put))));
    }

    /// The keys that are told, and whether they were encoded for this call.
    fn told(runs: &Runs, form: &Arc<Form>, from: u64, store: &Store) -> (String, u64, bool) {
        let mut encoded_now = false;
        let read = runs.read(form, Revision(from), store, |events| {
            encoded_now = true;
            events.iter().flat_map(|event| event.record.key.to_vec()).collect()
        });
        let Ok(Read::Run { run, next, .. }) = read else { panic!("no run, but {read:?}") };
        (String::from_utf8(run.to_vec()).unwrap(), next.0, encoded_now)
    }

    #[test]
    fn a_run_is_encoded_once_for_all_who_have_read_as_far() {
        let (runs, store) = (Runs::default(), store(&["a", "b", "c"]));
        assert_eq!(told(&runs, &everything(), 2, &store), ("abc".into(), 5, true));
        assert_eq!(told(&runs, &everything(), 2, &store), ("abc".into(), 5, false));
        assert_eq!(told(&runs, &everything(), 3, &store), ("bc".into(), 5, true));
        let other = form(KeyRange::One("b".into()), Encoding::Change);
        assert_eq!(told(&runs, &other, 2, &store), ("b".into(), 5, true));
        let other = form(KeyRange::all(), Encoding::Message { watch_id: 1 });
        assert_eq!(told(&runs, &other, 2, &store), ("abc".into(), 5, true));
    }

    #[test]
    fn who_is_late_finds_one_run_behind_the_other() {
        let (runs, mut store) = (Runs::default(), store(&["a"]));
        assert_eq!(told(&runs, &everything(), 2, &store), ("a".into(), 3, true));
        put(&mut store, "b", "v");
        assert_eq!(told(&runs, &everything(), 3, &store), ("b".into(), 4, true));
        assert_eq!(told(&runs, &everything(), 2, &store), ("a".into(), 3, false));
        assert_eq!(told(&runs, &everything(), 3, &store), ("b".into(), 4, false));
    }

    #[test]
    fn a_run_of_a_newer_store_or_of_another_history_is_not_told() {
        let (runs, older) = (Runs::default(), store(&["a"]));
        let mut newer = older.clone();
        put(&mut newer, "b", "v");
        assert_eq!(told(&runs, &everything(), 2, &newer), ("ab".into(), 4, true));
        assert_eq!(told(&runs, &everything(), 2, &older), ("a".into(), 3, true));
        // As after a restore.
        assert_eq!(told(&runs, &everything(), 2, &store(&["c", "d"])), ("cd".into(), 4, true));
    }

    #[test]
    fn compacted_history_is_not_told_from_memory() {
        let (runs, mut store) = (Runs::default(), store(&["a", "b"]));
        told(&runs, &everything(), 2, &store);
        store.mvcc.compact(Revision(3)).unwrap();
        let read = runs.read(&everything(), Revision(2), &store, |_| panic!("it is gone"));
        assert_eq!(read.unwrap_err().oldest, Revision(3));
    }

    #[test]
    fn what_is_too_long_is_not_encoded_as_a_whole() {
        let (runs, mut store) = (Runs::default(), Store::default());
        put(&mut store, "a", vec![0; BATCH_BYTES_MAX]);
        let read = runs.read(&everything(), Revision(2), &store, |_| panic!("it is long"));
        assert!(matches!(read, Ok(Read::Batch(batch)) if batch.events.len() == 1));
    }

    #[test]
    fn what_is_kept_is_bounded_in_number_and_in_bytes() {
        let (runs, store) = (Runs::default(), store(&["a"]));
        for watch_id in 0..2 * KEPT_MAX as i64 {
            told(&runs, &form(KeyRange::all(), Encoding::Message { watch_id }), 2, &store);
        }
        let kept = |runs: &Runs| {
            let kept = runs.lock();
            (kept.runs.len(), kept.bytes)
        };
        assert_eq!(kept(&runs), (KEPT_MAX, KEPT_MAX));
        let long = |_: &[Event]| Bytes::from(vec![0; KEPT_BYTES_MAX / 2]);
        for _ in 0..3 {
            let new = form(KeyRange::all(), Encoding::Instance);
            runs.read(&new, Revision(2), &store, long).unwrap();
        }
        assert!(kept(&runs).1 <= KEPT_BYTES_MAX);
    }
}
