//! No space left, and disks that fail: refused early, or stopped for good; nothing in between.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use consensus::{GroupId, HardState, Index, Term};
use sim::disk::SimDisk;
use storage::{Entry, SubmitError, Wal, Write};

use crate::world::{DIR, World, tiny};

const GROUP: GroupId = GroupId(1);

fn append(index: u64) -> Write {
    let entry = Entry::command(Term(1), Index(index), Bytes::from(vec![7; 1_000]));
    Write::Append { group: GROUP, entries: vec![entry] }
}

fn hard_state(term: u64) -> Write {
    let hard_state = HardState { term: Term(term), ..HardState::default() };
    Write::HardState { group: GROUP, hard_state }
}

/// Writes until refused; returns the last index and why.
pub(crate) fn fill(world: &mut World, mut index: u64) -> (u64, SubmitError) {
    loop {
        match world.log().stage(vec![append(index + 1)]) {
            Ok(_) => index += 1,
            Err(SubmitError::QueueFull) => (),
            Err(error) => return (index, error),
        }
        assert!(world.flush(), "a full disk is not a failed one");
        assert!(world.tidy());
    }
}

/// Fills the disk, then checks what a full disk owes.
pub(crate) fn full_disk_goes_on(seed: u64) -> Result<(), String> {
    let mut world = World::new(seed, tiny());
    world.try_open()?;
    world.disk.set_capacity(Some(400 << 10));
    let (mut last, refusal) = fill(&mut world, 0);
    if refusal != SubmitError::DiskFull || last < 100 {
        return Err(format!("refused at {last}: {refusal}"));
    }
    // Acknowledgements and deletes are entries too.
    for _ in 0..5 {
        let freeing = Entry::command(Term(1), Index(last + 1), Bytes::new());
        let write = Write::Append { group: GROUP, entries: vec![freeing] };
        let staged = world.log().stage_freeing(vec![write]);
        staged.map_err(|error| format!("what frees was refused: {error}"))?;
        last += 1;
        if !world.flush() {
            return Err("the log failed".to_owned());
        }
    }
    for term in 1..50 {
        let staged = world.log().stage(vec![hard_state(term)]);
        staged.map_err(|error| format!("hard state {term} refused: {error}"))?;
        if !world.flush() {
            return Err("the log failed".to_owned());
        }
    }
    let view = world.log().view();
    if view.read(GROUP, Index(1), 1 << 20).map_err(|error| error.to_string())?.len() as u64 != last
    {
        return Err("not everything can be read".to_owned());
    }
    // A compaction frees segments, and then entries are taken again.
    let compact = Write::Compact { group: GROUP, through: Index(last), keep: vec![] };
    world.log().stage(vec![compact]).map_err(|error| format!("compaction refused: {error}"))?;
    for _ in 0..10 {
        world.flush();
        world.tidy();
    }
    let (more, refusal) = fill(&mut world, last);
    if refusal != SubmitError::DiskFull || more < last + 50 {
        return Err(format!("took {} entries after space came back: {refusal}", more - last));
    }
    world.kill();
    let recovery = world.try_open()?;
    if !recovery.faulty.is_empty()
        || world.log().view().group(GROUP).map(|g| g.last.0) != Some(more)
    {
        return Err(format!("lost something: {recovery:?}"));
    }
    Ok(())
}

#[test]
pub(crate) fn a_full_disk_refuses_entries_and_takes_what_frees_space() {
    full_disk_goes_on(1).unwrap();
}

#[test]
pub(crate) fn space_that_comes_back_from_outside_is_found() {
    let mut world = World::new(1, tiny());
    world.try_open().unwrap();
    world.disk.set_capacity(Some(300 << 10));
    let (last, _) = fill(&mut world, 0);
    assert!(world.log().is_full() && world.log().stats().disk_full);
    world.disk.set_capacity(None);
    world.log().retry_space();
    while world.log().is_full() {
        assert!(world.tidy());
    }
    assert!(world.tidy());
    world.log().stage(vec![append(last + 1)]).unwrap();
    assert!(world.flush());
}

/// B33: a sync that failed once is never trusted again, although the next would succeed.
pub(crate) fn failed_sync_is_final(seed: u64) -> Result<(), String> {
    for nth in 1..12 {
        let mut world = World::new(seed * 100 + nth, tiny());
        world.open_intact()?;
        world.steps(3)?;
        world.disk.fail_sync(nth);
        world.steps(20)?;
        let failed = world.log().failure().is_some();
        if failed {
            if world.log().stage(vec![hard_state(1)]) != Err(SubmitError::Failed) {
                return Err("a failed log takes writes".to_owned());
            }
            if world.flush() || world.log().next_job().is_some() {
                return Err("a failed log goes on".to_owned());
            }
        }
        world.crash();
        world.open_intact().map_err(|error| format!("sync {nth}: {error}"))?;
        if !failed {
            return Err(format!("nobody noticed the failed sync {nth}"));
        }
    }
    Ok(())
}

#[test]
pub(crate) fn the_first_failed_sync_is_the_last() {
    for seed in sim::seeds(10) {
        failed_sync_is_final(seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
pub(crate) fn the_first_failed_write_is_the_last() {
    for seed in sim::seeds(30) {
        let mut world = World::new(seed, tiny());
        world.open_intact().unwrap();
        world.steps(3).unwrap();
        world.disk.fail_write(1 + seed % 20);
        world.steps(40).unwrap();
        assert!(world.log().failure().is_some(), "seed {seed}");
        if seed % 2 == 0 {
            world.crash()
        } else {
            world.kill()
        }
        world.open_intact().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        world.steps(20).unwrap();
        world.check().unwrap();
    }
}

/// Through the handle: the failure is announced, and nothing is acknowledged after it.
#[test]
pub(crate) fn a_failed_log_says_so_to_everyone_who_waits() {
    let disk = SimDisk::new(1);
    let (wal, _) = Wal::open(Arc::new(disk.clone()), Path::new(DIR), tiny()).unwrap();
    let (mut durable, failure) = (wal.durable(), wal.failure());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let token = wal.submit(vec![append(1)]).unwrap();
    runtime.block_on(durable.wait_for(|durable| durable.token >= token)).unwrap();
    assert!(!failure.has_changed().unwrap(), "no batch wakes who waits for the end alone");
    // Housekeeping syncs too; whoever meets it, it is the end.
    disk.fail_sync(1);
    let second = wal.submit(vec![append(2)]).unwrap();
    let end = runtime
        .block_on(durable.wait_for(|durable| durable.failed.is_some()))
        .map(|durable| durable.clone())
        .unwrap();
    assert!(failure.has_changed().unwrap() && failure.borrow().is_some());
    assert!(end.token <= second);
    assert!(end.failed.unwrap().to_string().contains("/data/"), "names the file");
    assert_eq!(wal.submit(vec![append(3)]), Err(SubmitError::Failed));
}

/// Also while the log is never idle.
#[test]
fn the_handle_finds_space_that_came_back() {
    let disk = SimDisk::new(1);
    disk.set_capacity(Some(300 << 10));
    let (wal, _) = Wal::open(Arc::new(disk.clone()), Path::new(DIR), tiny()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut durable = wal.durable();
    let mut wait = |token| {
        runtime.block_on(durable.wait_for(|durable| durable.token >= token)).unwrap();
    };
    let mut next = 1;
    loop {
        match wal.submit(vec![append(next)]) {
            Ok(token) => {
                wait(token);
                next += 1;
            }
            Err(SubmitError::QueueFull) => wait(wal.submit(vec![]).unwrap()),
            Err(error) => {
                assert_eq!(error, SubmitError::DiskFull);
                break;
            }
        }
    }
    assert_eq!(wal.read(GROUP, Index(1), usize::MAX).unwrap().len() as u64, next - 1);
    disk.set_capacity(None);
    while wal.submit(vec![append(next)]).is_err() {
        // Writes nothing, and keeps the writer busy.
        wait(wal.submit(vec![]).unwrap());
    }
}
