//! The store against a naive one that keeps a whole copy of every revision.

use std::collections::BTreeMap;

use bytes::Bytes;
use coordinator::store::{
    Caller, Command, Compare, Delete, KeyRange, LeaseId, Op, Operand, Put, Relation, Revision,
    Stamp, Store, Txn, WatchFilter,
};
use proptest::prelude::*;

/// One step of a run.
#[derive(Clone, Debug)]
enum Step {
    Put {
        key: u8,
        value: u8,
        lease: u8,
    },
    Delete {
        from: u8,
        to: u8,
    },
    /// Puts the first key if the second one has this version, else deletes it.
    PutIf {
        key: u8,
        other: u8,
        version: i64,
    },
    Compact {
        back: u64,
    },
    Grant {
        lease: u8,
        ttl_seconds: u64,
    },
    Revoke {
        lease: u8,
    },
    KeepAlive {
        lease: u8,
    },
    Wait {
        seconds: u64,
    },
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..5_u8;
    let lease = 0..3_u8;
    prop_oneof![
        4 => (key.clone(), any::<u8>(), lease)
            .prop_map(|(key, value, lease)| Step::Put { key, value, lease }),
        2 => (key.clone(), 0..6_u8).prop_map(|(from, to)| Step::Delete { from, to }),
        2 => (key.clone(), key, 0..3_i64)
            .prop_map(|(key, other, version)| Step::PutIf { key, other, version }),
        1 => (0..6_u64).prop_map(|back| Step::Compact { back }),
        1 => (1..3_u8, 1..20_u64).prop_map(|(lease, ttl_seconds)| Step::Grant { lease, ttl_seconds }),
        1 => (1..3_u8).prop_map(|lease| Step::Revoke { lease }),
        1 => (1..3_u8).prop_map(|lease| Step::KeepAlive { lease }),
        1 => (0..10_u64).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Expire),
    ]
}

fn key(key: u8) -> Bytes {
    vec![b'a' + key].into()
}

/// Value, create revision, mod revision, version, lease.
type Row = (Bytes, u64, u64, u64, i64);
type State = BTreeMap<Bytes, Row>;

/// The obvious implementation.
struct Model {
    /// What the store held at revision 1, 2, …
    revisions: Vec<State>,
    compacted: u64,
    /// Deadline and TTL.
    leases: BTreeMap<i64, (u64, u64)>,
    now_ms: u64,
}

impl Model {
    fn new() -> Self {
        Self { revisions: vec![State::new()], compacted: 0, leases: BTreeMap::new(), now_ms: 0 }
    }

    fn newest(&self) -> u64 {
        self.revisions.len() as u64
    }

    fn state(&self) -> State {
        self.revisions.last().unwrap().clone()
    }

    fn put(&mut self, key: Bytes, value: Bytes, lease: i64) {
        let revision = self.newest() + 1;
        let mut state = self.state();
        let row = match state.get(&key) {
            Some(old) => (value, old.1, revision, old.3 + 1, lease),
            None => (value, revision, revision, 1, lease),
        };
        state.insert(key, row);
        self.revisions.push(state);
    }

    fn delete(&mut self, mut doomed: impl FnMut(&Bytes, &Row) -> bool) {
        let mut state = self.state();
        let before = state.len();
        state.retain(|key, row| !doomed(key, row));
        if state.len() < before {
            self.revisions.push(state);
        }
    }

    fn end_lease(&mut self, lease: i64) {
        if self.leases.remove(&lease).is_some() {
            self.delete(|_, row| row.4 == lease);
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Put { key: at, value, lease } => {
                let lease = i64::from(lease);
                if lease == 0 || self.leases.contains_key(&lease) {
                    self.put(key(at), vec![value].into(), lease);
                }
            }
            Step::Delete { from, to } => {
                self.delete(|at, _| key(from) <= *at && *at < key(to));
            }
            Step::PutIf { key: at, other, version } => {
                let found = self.state().get(&key(other)).map_or(0, |row| row.3.cast_signed());
                if found == version {
                    self.put(key(at), Bytes::new(), 0);
                } else {
                    self.delete(|found, _| *found == key(at));
                }
            }
            Step::Compact { back } => {
                let at = self.newest().saturating_sub(back);
                self.compacted = self.compacted.max(at);
            }
            Step::Grant { lease, ttl_seconds } => {
                let deadline = self.now_ms + ttl_seconds * 1000;
                self.leases.entry(lease.into()).or_insert((deadline, ttl_seconds));
            }
            Step::Revoke { lease } => self.end_lease(lease.into()),
            Step::KeepAlive { lease } => {
                let now_ms = self.now_ms;
                match self.leases.get_mut(&i64::from(lease)) {
                    Some((deadline, _)) if *deadline <= now_ms => self.end_lease(lease.into()),
                    Some((deadline, ttl)) => *deadline = now_ms + *ttl * 1000,
                    None => {}
                }
            }
            Step::Wait { seconds } => self.now_ms += seconds * 1000,
            Step::Expire => {
                let mut over: Vec<(u64, i64)> =
                    self.leases.iter().map(|(id, (deadline, _))| (*deadline, *id)).collect();
                over.retain(|(deadline, _)| *deadline <= self.now_ms);
                over.sort_unstable();
                over.into_iter().for_each(|(_, id)| self.end_lease(id));
            }
        }
    }
}

fn command(step: &Step, store: &Store, now_ms: u64) -> Command {
    let put = |at, value: Vec<u8>, lease: u8| {
        let lease = Some(LeaseId(lease.into()));
        Op::Put(Put { key: key(at), value: Some(value.into()), lease, previous: false })
    };
    let delete = |range| Op::Delete(Delete { range, previous: false });
    match *step {
        Step::Put { key, value, lease } => Command::Txn(Txn::always(put(key, vec![value], lease))),
        Step::Delete { from, to } => {
            let range = KeyRange::Between { start: key(from), end: key(to) };
            Command::Txn(Txn::always(delete(range)))
        }
        Step::PutIf { key: at, other, version } => Command::Txn(Txn {
            compares: vec![Compare {
                range: KeyRange::One(key(other)),
                relation: Relation::Equal,
                operand: Operand::Version(version),
            }],
            success: vec![put(at, vec![], 0)],
            failure: vec![delete(KeyRange::One(key(at)))],
        }),
        Step::Compact { back } => {
            Command::Compact { revision: Revision(store.revision().0.saturating_sub(back)) }
        }
        Step::Grant { lease, ttl_seconds } => {
            Command::Grant { id: LeaseId(lease.into()), ttl_seconds }
        }
        Step::Revoke { lease } => Command::Revoke { id: LeaseId(lease.into()) },
        Step::KeepAlive { lease } => Command::KeepAlive { id: LeaseId(lease.into()) },
        Step::Wait { .. } => Command::Tick,
        Step::Expire => Command::Expire { leases: store.leases.expired(now_ms, 100) },
    }
}

fn rows(store: &Store, revision: u64) -> State {
    store
        .mvcc
        .scan(&KeyRange::all(), Some(Revision(revision)))
        .map(|record| {
            let row = (
                record.value.clone(),
                record.create_revision.0,
                record.mod_revision.0,
                record.version,
                record.lease.0,
            );
            (record.key.to_bytes(), row)
        })
        .collect()
}

/// Every revision that can be read reads the same, and a watch tells the difference between each
/// and the one before.
fn check(store: &Store, model: &Model) {
    assert_eq!(store.revision().0, model.newest());
    assert_eq!(store.mvcc.compacted().0, model.compacted);
    assert_eq!(store.mvcc.live_keys() as usize, model.state().len());
    for revision in model.compacted.max(1)..=model.newest() {
        assert_eq!(rows(store, revision), model.revisions[revision as usize - 1], "at {revision}");
    }
    let filter = WatchFilter { range: KeyRange::all(), puts: true, deletes: true, previous: false };
    let from = model.compacted.max(2);
    let batch = store.mvcc.events(Revision(from), &filter, usize::MAX).unwrap();
    let mut replayed = model.revisions[from as usize - 2].clone();
    let mut at = from;
    for event in batch.events {
        let record = event.record;
        while at < record.mod_revision.0 {
            assert_eq!(replayed, model.revisions[at as usize - 1], "events up to {at}");
            at += 1;
        }
        if record.is_delete() {
            assert!(replayed.remove(&*record.key).is_some(), "a delete of something");
        } else {
            let lease = record.lease.0;
            let row = (
                record.value.clone(),
                record.create_revision.0,
                record.mod_revision.0,
                record.version,
                lease,
            );
            replayed.insert(record.key.to_bytes(), row);
        }
    }
    assert_eq!(replayed, model.state(), "events up to now");
    let left: BTreeMap<i64, u64> =
        store.leases.by_deadline().map(|lease| (lease.id.0, lease.deadline_ms)).collect();
    let expected = model.leases.iter().map(|(id, (deadline, _))| (*id, *deadline)).collect();
    assert_eq!(left, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_store_is_a_copy_of_every_revision(steps in prop::collection::vec(step(), 1..60)) {
        let (mut store, mut model) = (Store::default(), Model::new());
        for step in &steps {
            model.step(step);
            let stamp = Stamp { now_ms: model.now_ms, quota_bytes: u64::MAX };
            store.apply(stamp, command(step, &store, model.now_ms));
            check(&store, &model);
        }
    }

    /// The log is the store: replayed from its bytes, or from a snapshot at any point and the
    /// rest, it becomes the same, to the bit.
    #[test]
    fn a_replay_from_any_snapshot_gives_the_same_store(steps in prop::collection::vec(step(), 1..40)) {
        let mut store = Store::default();
        let (mut log, mut now_ms) = (Vec::new(), 0);
        let mut snapshots = vec![store.encode()];
        for step in &steps {
            if let Step::Wait { seconds } = step {
                now_ms += seconds * 1000;
            }
            let stamp = Stamp { now_ms, quota_bytes: 4096 };
            let command = command(step, &store, now_ms);
            log.push(command.encode(stamp, Caller::Node));
            store.apply(stamp, command);
            snapshots.push(store.encode());
        }
        for (at, snapshot) in snapshots.iter().enumerate() {
            let mut restored = Store::decode(snapshot).unwrap();
            prop_assert_eq!(&restored.encode(), snapshot);
            for entry in &log[at..] {
                let (stamp, _caller, command) = Command::decode(entry).unwrap();
                restored.apply(stamp, command);
            }
            prop_assert_eq!(restored.digest(), store.digest());
        }
    }
}
