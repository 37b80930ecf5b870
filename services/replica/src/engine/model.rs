//! The engine on disk against the oracle: any history, cut and reopened anywhere.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use replication::command::{Change, Command, Space};
use replication::{Epoch, Index};

use super::fjall::Store;
use super::memory::Memory;
use super::{Applied, Engine, Step};

const GROUP: &str = "model";

#[derive(Clone, Debug)]
enum Do {
    /// Some entries in one batch.
    Apply(Vec<Vec<Change>>),
    Reopen,
    /// Copy everything into a fresh store through a snapshot.
    Ship,
}

fn change() -> impl Strategy<Value = Change> {
    let key = (prop_oneof![Just(Space::User), Just(Space::Request)], 0u8..6)
        .prop_map(|(space, name)| space.key(&[name, 0xff]));
    let put = (key.clone(), any::<u8>(), prop::option::of(0u64..50), any::<bool>()).prop_map(
        |(key, value, expires_at_ms, typed)| Change::Put {
            key,
            value: Bytes::from(vec![value; 3]),
            content_type: typed.then(|| "text/plain".to_owned()),
            expires_at_ms,
        },
    );
    prop_oneof![3 => put, 1 => key.prop_map(|key| Change::Delete { key })]
}

fn action() -> impl Strategy<Value = Do> {
    let entries = prop::collection::vec(prop::collection::vec(change(), 0..5), 1..4);
    prop_oneof![8 => entries.prop_map(Do::Apply), 1 => Just(Do::Reopen), 1 => Just(Do::Ship)]
}

fn steps(applied: &Applied, entries: Vec<Vec<Change>>) -> Vec<Arc<Step>> {
    let mut head = applied.head;
    let step = |changes| {
        let command = Command::Write { changes };
        let entry = head.extend(Epoch(1), command.encode());
        head = entry.head();
        let mutations = command.mutations(entry.position);
        Arc::new(Step { head, mutations, check: None })
    };
    entries.into_iter().map(step).collect()
}

fn all(engine: &dyn Engine) -> Vec<(Bytes, replication::command::Record)> {
    let snapshot = engine.snapshot().unwrap();
    assert_eq!(snapshot.root(), engine.root());
    assert_eq!(*snapshot.applied(), engine.applied());
    snapshot.records(Bound::Unbounded).collect::<Result<_, _>>().unwrap()
}

fn compare(store: &Store, memory: &Memory) {
    assert_eq!(store.applied(), memory.applied());
    assert_eq!(store.root(), memory.root());
    let records = all(memory);
    assert_eq!(all(store), records);
    for (key, record) in &records {
        assert_eq!(store.get(key).unwrap().as_ref(), Some(record));
    }
    for now_ms in [0, 10, 49, 50, u64::MAX] {
        let expired = |engine: &dyn Engine| {
            let mut expired = engine.expired(now_ms, 100).unwrap();
            expired.sort();
            expired
        };
        assert_eq!(expired(store), expired(memory), "at {now_ms}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn the_store_equals_the_oracle(actions in prop::collection::vec(action(), 1..20)) {
        let dir = tempfile::tempdir().unwrap();
        let mut generation = 0;
        let path = |generation: u32| dir.path().join(generation.to_string());
        let mut store = Store::open(&path(0), GROUP).unwrap();
        let memory = Memory::new(GROUP);
        for action in actions {
            match action {
                Do::Apply(entries) => {
                    let steps = steps(&store.applied(), entries);
                    prop_assert_eq!(store.apply(&steps).unwrap(), memory.apply(&steps).unwrap());
                }
                Do::Reopen => {
                    drop(store);
                    store = Store::open(&path(generation), GROUP).unwrap();
                }
                Do::Ship => {
                    generation += 1;
                    let fresh = Store::open(&path(generation), GROUP).unwrap();
                    assert!(!fresh.is_complete().unwrap());
                    for chunk in all(&store).chunks(2) {
                        fresh.load(chunk.to_vec()).unwrap();
                    }
                    fresh.loaded(store.applied()).unwrap();
                    assert!(fresh.is_complete().unwrap());
                    store = fresh;
                }
            }
            compare(&store, &memory);
        }
    }
}

#[test]
fn records_start_anywhere_in_either_space() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), GROUP).unwrap();
    let put = |space: Space, name: &[u8]| Change::Put {
        key: space.key(name),
        value: Bytes::new(),
        content_type: None,
        expires_at_ms: Some(9),
    };
    let changes = vec![
        put(Space::User, b""),
        put(Space::User, b"a"),
        put(Space::User, b"\xff\xff"),
        put(Space::Request, b"\xff"),
    ];
    store.apply(&steps(&store.applied(), vec![changes])).unwrap();
    let snapshot = store.snapshot().unwrap();
    let from = |start: Bound<Bytes>| -> Vec<Bytes> {
        snapshot.records(start).map(|record| record.unwrap().0).collect()
    };
    let user = |name: &[u8]| Space::User.key(name);
    assert_eq!(from(Bound::Unbounded).len(), 4);
    assert_eq!(from(Bound::Included(user(b""))).len(), 3);
    assert_eq!(from(Bound::Excluded(user(b""))), [user(b"a"), user(b"\xff\xff")]);
    assert_eq!(from(Bound::Included(user(b"b"))), [user(b"\xff\xff")]);
    assert!(from(Bound::Included(Bytes::from_static(b"z"))).is_empty());
    assert_eq!(snapshot.applied().head.index(), Index(1));
}
