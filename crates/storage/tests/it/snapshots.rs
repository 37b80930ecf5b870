//! Snapshots on a disk that loses power: the old one or the new one, never neither.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use consensus::{GroupId, Index, Term};
use sim::Rng;
use sim::disk::SimDisk;
use storage::snapshot::{Snapshot, SnapshotStore};

const GROUP: GroupId = GroupId(3);

fn open(disk: &SimDisk) -> SnapshotStore {
    SnapshotStore::open(Arc::new(disk.clone()), Path::new("/snapshots")).unwrap()
}

fn snapshot(index: u64) -> Snapshot {
    let bytes = Bytes::from(vec![index as u8; 1 + 700 * index as usize]);
    Snapshot { index: Index(index), term: Term(1), bytes }
}

#[test]
fn a_power_cut_leaves_the_old_snapshot_or_the_new_one() {
    let (mut old, mut new) = (0, 0);
    for seed in sim::seeds(300) {
        let mut rng = Rng::new(seed);
        let disk = SimDisk::new(rng.next_u64());
        open(&disk).save(GROUP, &snapshot(1)).unwrap();
        let mut saved = 1;
        for next in 2..6 {
            disk.lose_power_at(rng.range(1..12));
            let acknowledged = open(&disk).save(GROUP, &snapshot(next)).is_ok();
            disk.crash();
            let loaded = open(&disk).load(GROUP).unwrap().expect("there was one");
            assert_eq!(loaded, snapshot(loaded.index.0), "seed {seed}");
            let allowed = if acknowledged { next..=next } else { saved..=next };
            assert!(allowed.contains(&loaded.index.0), "seed {seed}: {}", loaded.index);
            if loaded.index.0 == next {
                new += 1
            } else {
                old += 1
            }
            saved = loaded.index.0;
        }
    }
    assert!(sim::seeds(300).count() < 100 || (old > 0 && new > 0));
}

#[test]
fn a_full_disk_keeps_the_old_snapshot() {
    let disk = SimDisk::new(1);
    open(&disk).save(GROUP, &snapshot(1)).unwrap();
    disk.set_capacity(Some(2_000));
    let error = open(&disk).save(GROUP, &snapshot(9)).unwrap_err();
    assert!(error.is_disk_full(), "{error}");
    assert_eq!(open(&disk).load(GROUP).unwrap(), Some(snapshot(1)));
    assert!(disk.used() < 2_000, "the unfinished file is gone");
}
