//! Snapshots on a disk that loses power: the old one or the new one, never neither.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use consensus::{GroupId, Index, Term};
use sim::Rng;
use sim::disk::SimDisk;
use storage::snapshot::{Snapshot, SnapshotError, SnapshotStore};

const GROUP: GroupId = GroupId(3);

fn open(disk: &SimDisk) -> SnapshotStore {
    SnapshotStore::open(Arc::new(disk.clone()), Path::new("/snapshots")).unwrap()
}

fn snapshot(index: u64) -> Snapshot {
    // Of one to four pieces.
    let bytes = Bytes::from(vec![index as u8; 1 + 200_000 * (index as usize - 1)]);
    Snapshot { index: Index(index), term: Term(1), bytes }
}

/// Saves it in parts, as a state machine does.
fn save(disk: &SimDisk, index: u64) -> Result<u64, SnapshotError> {
    let Snapshot { index, term, bytes } = snapshot(index);
    open(disk).save_with(GROUP, (index, term), |body| {
        bytes.chunks(10_000).try_for_each(|part| body.write_all(part))
    })
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
            disk.lose_power_at(rng.range(1..14));
            let acknowledged = save(&disk, next).is_ok();
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
    disk.set_capacity(Some(500_000));
    let error = save(&disk, 9).unwrap_err();
    assert!(error.is_disk_full(), "{error}");
    assert_eq!(open(&disk).load(GROUP).unwrap(), Some(snapshot(1)));
    assert_eq!(disk.files().len(), 1, "the unfinished file is gone");
}
