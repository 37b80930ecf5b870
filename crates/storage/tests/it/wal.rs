//! The log through its handle, on the real file system.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use consensus::{GroupId, HardState, Index, NodeId, Term};
use storage::{
    Config, Entry, IoToken, OpenError, ReadError, RealFileSystem, SubmitError, Wal, Write,
};

const GROUP: GroupId = GroupId(7);

fn open(dir: &Path) -> Wal {
    let (wal, recovery) = Wal::open(Arc::new(RealFileSystem), dir, small()).unwrap();
    assert!(recovery.faulty.is_empty() && recovery.damage.is_empty(), "{recovery:?}");
    wal
}

fn small() -> Config {
    Config {
        segment_bytes: 64 << 10,
        queue_bytes: 16 << 10,
        batch_bytes: 4 << 10,
        cache_bytes: 4 << 10,
        hot_segments: 3,
        ..Config::default()
    }
}

fn entry(index: u64, len: usize) -> Entry {
    let payload = Bytes::from(vec![index as u8; len]);
    Entry::command(Term(1 + index / 100), Index(index), payload)
}

fn append(wal: &Wal, group: GroupId, index: u64, len: usize) -> IoToken {
    let entries = vec![entry(index, len)];
    loop {
        match wal.submit(vec![Write::Append { group, entries: entries.clone() }]) {
            Ok(token) => return token,
            Err(SubmitError::QueueFull) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

fn wait(wal: &Wal, token: IoToken) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut durable = wal.durable();
    let durable = runtime.block_on(durable.wait_for(|durable| token <= durable.token)).unwrap();
    assert!(durable.failed.is_none());
}

fn read_all(wal: &Wal, group: GroupId, max_bytes: usize) -> Vec<Entry> {
    let mut all = Vec::new();
    let mut from = Index(1);
    loop {
        let some = wal.read(group, from, max_bytes).unwrap();
        let Some(last) = some.last() else { return all };
        from = last.index.next();
        all.extend(some);
    }
}

#[test]
fn what_was_durable_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let forgotten = (Term(8), Index(40));
    let hard_state =
        HardState { term: Term(9), voted_for: Some(NodeId(2)), commit: Index(3), forgotten };
    {
        let wal = open(dir.path());
        wal.submit(vec![Write::HardState { group: GROUP, hard_state }]).unwrap();
        let mut last = IoToken(0);
        for index in 1..=2_000 {
            for group in [GROUP, GroupId(8)] {
                last = append(&wal, group, index, 200);
            }
        }
        wait(&wal, last);
        assert_eq!(read_all(&wal, GROUP, 10_000).len(), 2_000);
        assert!(wal.cached(GROUP, Index(2_000), 10_000).is_some());
        assert!(wal.cached(GROUP, Index(1), 10_000).is_none());
        let stats = wal.stats();
        assert!(stats.cold_segments > 0 && stats.rewritten_bytes > 0, "{stats:?}");
        assert!(stats.write_amplification() < 3.0, "{stats:?}");
    }
    let wal = open(dir.path());
    let state = wal.group(GROUP).unwrap();
    assert_eq!((state.hard_state, state.first, state.last), (hard_state, Index(1), Index(2_000)));
    let expected: Vec<Entry> = (1..=2_000).map(|index| entry(index, 200)).collect();
    assert_eq!(read_all(&wal, GROUP, 10_000), expected);
    assert_eq!(read_all(&wal, GroupId(8), 0), expected);
}

#[test]
fn a_compaction_frees_space_and_keeps_what_it_was_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let keep = vec![Index(5)..=Index(7), Index(900)..=Index(910)];
    {
        let wal = open(dir.path());
        let last = (1..=1_000).map(|index| append(&wal, GROUP, index, 500)).max().unwrap();
        wait(&wal, last);
        let before = wal.stats();
        let compact = Write::Compact { group: GROUP, through: Index(990), keep: keep.clone() };
        wait(&wal, wal.submit(vec![compact]).unwrap());
        let last = (1_001..=1_400).map(|index| append(&wal, GROUP, index, 10)).max().unwrap();
        wait(&wal, last);
        assert!(wal.stats().live_bytes < before.live_bytes / 4, "{:?}", wal.stats());
    }
    let wal = open(dir.path());
    let state = wal.group(GROUP).unwrap();
    assert_eq!((state.first, state.retained), (Index(991), keep));
    let read: Vec<u64> = read_all(&wal, GROUP, 2_000).iter().map(|entry| entry.index.0).collect();
    let expected: Vec<u64> = (5..=7).chain(900..=910).chain(991..=1_400).collect();
    assert_eq!(read, expected);
    assert_eq!(wal.term(GROUP, Index(990)), Some(entry(990, 0).term));
}

#[test]
fn truncate_reset_and_remove_survive_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (reset, removed) = (GroupId(2), GroupId(3));
    {
        let wal = open(dir.path());
        for group in [GROUP, reset, removed] {
            (1..=50).for_each(|index| {
                append(&wal, group, index, 20);
            });
        }
        let replaced = Entry::command(Term(6), Index(31), Bytes::from("new"));
        let token = wal
            .submit(vec![
                Write::Truncate { group: GROUP, from: Index(31) },
                Write::Append { group: GROUP, entries: vec![replaced] },
                Write::reset(reset, Index(1_001), Term(5)),
                Write::Remove { group: removed },
            ])
            .unwrap();
        wait(&wal, token);
    }
    let wal = open(dir.path());
    assert_eq!(wal.groups(), [reset, GROUP]);
    let read = read_all(&wal, GROUP, 100_000);
    assert_eq!((read.len(), &read[30].payload[..]), (31, &b"new"[..]));
    let state = wal.group(reset).unwrap();
    assert_eq!((state.first, state.last, state.last_term), (Index(1_001), Index(1_000), Term(5)));
    assert!(read_all(&wal, reset, 10).is_empty());
    assert!(matches!(
        wal.read(removed, Index(1), 10),
        Err(ReadError::UnknownGroup { group }) if group == removed
    ));
    wait(&wal, append(&wal, reset, 1_001, 5));
}

#[test]
fn a_second_log_on_the_directory_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let second = Wal::open(Arc::new(RealFileSystem), dir.path(), small());
    let Err(error) = second else { panic!("two logs in one directory") };
    assert!(matches!(error, OpenError::Locked { .. }));
    assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
    drop(first);
    open(dir.path());
}

#[test]
fn a_newer_format_is_refused_by_name_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let path = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|file| file.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    for copy in [0, 512] {
        bytes[copy + 8] = 2;
        let crc = crc32c::crc32c_append(
            crc32c::crc32c(&bytes[copy..copy + 12]),
            &bytes[copy + 16..copy + 48],
        );
        bytes[copy + 12..copy + 16].copy_from_slice(&crc.to_le_bytes());
    }
    std::fs::write(&path, &bytes).unwrap();
    let error = Wal::open(Arc::new(RealFileSystem), dir.path(), small()).err().unwrap();
    assert!(matches!(error, OpenError::Version { found: 2, supported: 1, .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn writes_that_do_not_fit_the_log_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    wait(&wal, append(&wal, GROUP, 1, 10));
    let gap = Write::Append { group: GROUP, entries: vec![entry(3, 10)] };
    assert!(matches!(wal.submit(vec![gap]), Err(SubmitError::OutOfOrder { .. })));
    let large = Write::Append { group: GROUP, entries: vec![entry(2, 20 << 10)] };
    assert!(matches!(wal.submit(vec![large]), Err(SubmitError::TooLarge { .. })));
    wait(&wal, append(&wal, GROUP, 2, 10));
    assert_eq!(wal.group(GROUP).unwrap().last, Index(2));
}

/// Segments are dropped, recycled and rewritten while others read from them.
#[test]
fn readers_never_see_what_they_did_not_ask_for() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path());
    let last = 3_000;
    std::thread::scope(|scope| {
        for reader in 0..2u64 {
            let wal = wal.clone();
            scope.spawn(move || {
                let mut rng = sim::Rng::new(reader);
                loop {
                    let Some(state) = wal.group(GROUP) else { continue };
                    let from = Index(rng.range(0..state.last.0 + 1));
                    for read in wal.read(GROUP, from, 2_000).unwrap() {
                        assert!(from <= read.index);
                        assert_eq!(read, entry(read.index.0, 300));
                    }
                    if state.last == Index(last) {
                        break;
                    }
                }
            });
        }
        for index in 1..=last {
            let token = append(&wal, GROUP, index, 300);
            if index % 100 == 0 {
                wait(&wal, token);
                let keep = vec![Index(index / 2)..=Index(index / 2 + 3)];
                let through = Index(index - 50);
                wait(
                    &wal,
                    wal.submit(vec![Write::Compact { group: GROUP, through, keep }]).unwrap(),
                );
            }
        }
        wait(&wal, wal.submit(vec![]).unwrap());
    });
}
