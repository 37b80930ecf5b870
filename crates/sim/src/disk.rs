//! A disk that keeps only what it must.
//!
//! [`SimDisk`] implements the log's file system in memory. A [crash](SimDisk::crash) loses what was
//! not synced, or some of it: each sector of an unsynced write survives or not on its own, in any
//! order, and names that no directory sync made durable vanish. Besides it flips bits, fills up,
//! loses power in the middle, and fails the nth write, of which some sectors may have been written,
//! or the nth sync, after which the data of that sync is gone although a later one reports success
//! (B33).
//!
//! **Invariant:** everything it decides is a function of its seed and of the calls it gets.

mod inode;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use storage::{File, FileSystem, Lock};

use crate::rng::Rng;
use inode::Inode;

/// What a disk writes whole or not at all, in bytes.
pub const SECTOR: usize = 512;

/// A simulated disk. Clones are handles to the same one.
#[derive(Clone)]
pub struct SimDisk {
    disk: Arc<Mutex<Disk>>,
}

struct Disk {
    rng: Rng,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    /// What programs see.
    names: BTreeMap<PathBuf, u64>,
    /// What a crash leaves.
    durable_names: BTreeMap<PathBuf, u64>,
    unsynced: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    /// Counts crashes. Files opened before one are dead.
    epoch: u64,
    capacity: Option<u64>,
    counts: Counts,
    plan: Plan,
}

#[derive(Clone)]
enum NameChange {
    Link(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// Operations so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes, including those that failed.
    pub writes: u64,
    /// Syncs of files and directories, including those that failed.
    pub syncs: u64,
    /// Everything that changes the disk: writes, syncs, allocations, names.
    pub changes: u64,
}

/// When to fail, as absolute counts.
#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    write: Option<u64>,
    sync: Option<u64>,
    power: Option<u64>,
}

impl SimDisk {
    /// An empty disk without a limit.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let disk = Disk {
            rng: Rng::new(seed),
            inodes: BTreeMap::new(),
            next_inode: 1,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced: Vec::new(),
            locks: BTreeSet::new(),
            epoch: 0,
            capacity: None,
            counts: Counts::default(),
            plan: Plan::default(),
        };
        Self { disk: Arc::new(Mutex::new(disk)) }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An independent copy of what is on the disk now, with nobody holding a lock on it.
    #[must_use]
    pub fn fork(&self, seed: u64) -> Self {
        let disk = self.disk();
        let copy = Disk {
            rng: Rng::new(seed),
            inodes: disk.inodes.clone(),
            next_inode: disk.next_inode,
            names: disk.names.clone(),
            durable_names: disk.durable_names.clone(),
            unsynced: disk.unsynced.clone(),
            locks: BTreeSet::new(),
            epoch: disk.epoch + 1,
            capacity: disk.capacity,
            counts: Counts::default(),
            plan: Plan::default(),
        };
        Self { disk: Arc::new(Mutex::new(copy)) }
    }

    /// The power fails and comes back: what was not synced survives in part, open files and locks
    /// are gone, planned failures are off.
    pub fn crash(&self) {
        let mut disk = self.disk();
        let disk = &mut *disk;
        let kept = disk.rng.index(disk.unsynced.len() + 1);
        let changes: Vec<NameChange> = disk.unsynced.drain(..).take(kept).collect();
        for change in changes {
            change.apply(&mut disk.durable_names);
        }
        disk.names = disk.durable_names.clone();
        let named: BTreeSet<u64> = disk.names.values().copied().collect();
        disk.inodes.retain(|number, _| named.contains(number));
        for inode in disk.inodes.values_mut() {
            inode.crash(&mut disk.rng);
        }
        disk.locks.clear();
        disk.epoch += 1;
        disk.plan = Plan::default();
    }

    /// The process dies and the machine lives on: nothing is lost, open files and locks are gone.
    pub fn kill(&self) {
        let mut disk = self.disk();
        disk.locks.clear();
        disk.epoch += 1;
        disk.plan = Plan::default();
    }

    /// From the nth change from now on (1 is the next), everything fails until [`crash`].
    ///
    /// [`crash`]: Self::crash
    pub fn lose_power_at(&self, nth: u64) {
        let mut disk = self.disk();
        disk.plan.power = Some(disk.counts.changes + nth);
    }

    /// The nth write from now fails (1 is the next); part of it may reach the disk.
    pub fn fail_write(&self, nth: u64) {
        let mut disk = self.disk();
        disk.plan.write = Some(disk.counts.writes + nth);
    }

    /// The nth sync from now fails (1 is the next). What it should have made durable never is,
    /// although it stays readable until a crash.
    pub fn fail_sync(&self, nth: u64) {
        let mut disk = self.disk();
        disk.plan.sync = Some(disk.counts.syncs + nth);
    }

    /// Limits the sum of all file lengths; `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().capacity = bytes;
    }

    /// The sum of all file lengths.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.disk().used()
    }

    /// Operations so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.disk().counts
    }

    /// Every file, sorted by name.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.disk().names.keys().cloned().collect()
    }

    /// What a file reads as, or `None` if there is none.
    #[must_use]
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = self.disk();
        disk.names.get(path).map(|number| disk.inodes[number].current.clone())
    }

    /// Replaces a file behind everyone's back, durably.
    pub fn replace(&self, path: &Path, bytes: Vec<u8>) {
        let mut disk = self.disk();
        if let Some(number) = disk.names.get(path).copied() {
            disk.inodes.insert(number, Inode::holding(bytes));
        }
    }

    /// Flips one bit of a file, durably. Bits count from the lowest of the first byte.
    pub fn flip_bit(&self, path: &Path, bit: u64) {
        if let Some(mut bytes) = self.contents(path)
            && let Some(byte) = usize::try_from(bit / 8).ok().and_then(|at| bytes.get_mut(at))
        {
            *byte ^= 1 << (bit % 8);
            self.replace(path, bytes);
        }
    }

    /// Removes a file behind everyone's back, durably.
    pub fn lose_file(&self, path: &Path) {
        let mut disk = self.disk();
        disk.names.remove(path);
        disk.durable_names.remove(path);
    }
}

impl Disk {
    fn used(&self) -> u64 {
        self.inodes.values().map(Inode::len).sum()
    }

    /// Counts a change, and fails it if the power is off.
    fn change(&mut self) -> io::Result<()> {
        self.counts.changes += 1;
        match self.plan.power {
            Some(at) if at <= self.counts.changes => Err(io::Error::other("the power is off")),
            _ => Ok(()),
        }
    }

    fn name(&mut self, change: NameChange) -> io::Result<()> {
        self.change()?;
        change.apply(&mut self.names);
        self.unsynced.push(change);
        let linked: BTreeSet<u64> =
            self.names.values().chain(self.durable_names.values()).copied().collect();
        let pending = |number: u64| {
            self.unsynced.iter().any(|c| matches!(c, NameChange::Link(_, n) if *n == number))
        };
        // Space is free once no name can come back.
        self.inodes.retain(|number, _| linked.contains(number) || pending(*number));
        Ok(())
    }

    fn sync_names(&mut self, dir: &Path) {
        let mut rest = Vec::new();
        for change in std::mem::take(&mut self.unsynced) {
            if change.path().parent() == Some(dir) {
                change.apply(&mut self.durable_names);
            } else {
                rest.push(change);
            }
        }
        self.unsynced = rest;
    }

    /// Counts a sync; `Err` if it was to fail.
    fn sync(&mut self) -> io::Result<()> {
        self.change()?;
        self.counts.syncs += 1;
        if self.plan.sync == Some(self.counts.syncs) {
            return Err(io::Error::other("the disk failed to sync"));
        }
        Ok(())
    }

    fn has_room(&self, more: u64) -> io::Result<()> {
        match self.capacity {
            Some(capacity) if self.used() + more > capacity => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }
}

impl NameChange {
    fn path(&self) -> &Path {
        match self {
            Self::Link(path, _) | Self::Rename(_, path) | Self::Remove(path) => path,
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Link(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    epoch: u64,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut disk = self.disk.disk();
        if disk.epoch == self.epoch {
            disk.locks.remove(&self.path);
        }
    }
}

impl FileSystem for SimDisk {
    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        // Directories are only prefixes of names here.
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk();
        let inside = disk.names.keys().filter(|path| path.parent() == Some(dir));
        let name = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
        Ok(inside.filter_map(name).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut disk = self.disk();
        let number = disk.next_inode;
        disk.next_inode += 1;
        disk.inodes.insert(number, Inode::default());
        disk.name(NameChange::Link(path.to_owned(), number))?;
        Ok(Arc::new(SimFile { disk: self.clone(), number, epoch: disk.epoch }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let disk = self.disk();
        let number = *disk.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { disk: self.clone(), number, epoch: disk.epoch }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        if !disk.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.name(NameChange::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        if !disk.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.name(NameChange::Remove(path.to_owned()))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.sync()?;
        disk.sync_names(dir);
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let mut disk = self.disk();
        if !disk.locks.insert(path.to_owned()) {
            return Ok(None);
        }
        let epoch = disk.epoch;
        Ok(Some(Box::new(SimLock { disk: self.clone(), path: path.to_owned(), epoch })))
    }

    fn nonce(&self) -> u64 {
        self.disk().rng.next_u64()
    }
}

struct SimFile {
    disk: SimDisk,
    number: u64,
    epoch: u64,
}

impl SimFile {
    fn with<T>(&self, each: impl FnOnce(&mut Disk, u64) -> io::Result<T>) -> io::Result<T> {
        let mut disk = self.disk.disk();
        if disk.epoch != self.epoch {
            return Err(io::Error::other("this file was opened before the crash"));
        }
        // Removed, and still open: reads as empty here, which no caller of ours relies on.
        disk.inodes.entry(self.number).or_default();
        each(&mut disk, self.number)
    }
}

impl File for SimFile {
    fn size(&self) -> io::Result<u64> {
        self.with(|disk, number| Ok(disk.inodes[&number].len()))
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.with(|disk, number| {
            let bytes = &disk.inodes[&number].current;
            let from = usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
            let len = buffer.len().min(bytes.len() - from);
            buffer[..len].copy_from_slice(&bytes[from..from + len]);
            Ok(len)
        })
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.with(|disk, number| {
            let end = position + bytes.len() as u64;
            disk.has_room(end.saturating_sub(disk.inodes[&number].len()))?;
            disk.counts.writes += 1;
            let failed = disk.plan.write == Some(disk.counts.writes);
            let powered = disk.change();
            let inode = disk.inodes.get_mut(&number).expect("made by `with`");
            if failed || powered.is_err() {
                // Some of it may have left the machine before; sectors are never cut in two.
                let some = position + disk.rng.index(bytes.len() + 1) as u64;
                let some = (some / SECTOR as u64 * SECTOR as u64).saturating_sub(position);
                let some = usize::try_from(some).expect("at most bytes.len()");
                inode.write(&bytes[..some], position);
                return powered.and(Err(io::Error::other("the disk failed to write")));
            }
            inode.write(bytes, position);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|disk, number| {
            let synced = disk.sync();
            let lost = synced.is_err() && disk.plan.power.is_none();
            let inode = disk.inodes.get_mut(&number).expect("made by `with`");
            match (&synced, lost) {
                (Ok(()), _) => inode.sync(),
                (Err(_), true) => inode.forget_unsynced(),
                (Err(_), false) => (),
            }
            synced
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.with(|disk, number| {
            disk.has_room(len.saturating_sub(disk.inodes[&number].len()))?;
            disk.change()?;
            disk.inodes.get_mut(&number).expect("made by `with`").allocate(len);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/d/f";

    fn written(disk: &SimDisk) -> Arc<dyn File> {
        let file = disk.create(Path::new(PATH)).unwrap();
        file.write_at(&[1; 2048], 0).unwrap();
        file
    }

    #[test]
    fn what_was_synced_survives_every_crash() {
        for seed in crate::seeds(100) {
            let disk = SimDisk::new(seed);
            let file = written(&disk);
            file.sync_data().unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            file.write_at(&[2; 1024], 1024).unwrap();
            disk.crash();
            let bytes = disk.contents(Path::new(PATH)).unwrap();
            assert_eq!(&bytes[..1024], &[1; 1024], "seed {seed}");
            for sector in bytes.chunks(SECTOR) {
                assert!(sector.iter().all(|byte| *byte == sector[0]), "seed {seed}: sectors tear");
            }
        }
    }

    #[test]
    fn unsynced_writes_and_names_are_lost_kept_and_torn() {
        let (mut unnamed, mut lost, mut kept, mut torn) = (0, 0, 0, 0);
        for seed in crate::seeds(300) {
            let disk = SimDisk::new(seed);
            let file = written(&disk);
            disk.crash();
            assert!(file.size().is_err(), "a file from before the crash is dead");
            let Some(bytes) = disk.contents(Path::new(PATH)) else {
                unnamed += 1;
                continue;
            };
            let sectors = bytes.chunks(SECTOR).filter(|sector| sector[0] == 1).count();
            match sectors {
                0 => lost += 1,
                4 => kept += 1,
                _ => torn += 1,
            }
        }
        let few = crate::seeds(300).count() < 100;
        assert!(few || unnamed > 20 && lost > 5 && kept > 5 && torn > 20);
    }

    #[test]
    fn a_failed_sync_loses_the_data_although_the_next_one_succeeds() {
        let disk = SimDisk::new(1);
        let file = written(&disk);
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.fail_sync(1);
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        assert_eq!(disk.contents(Path::new(PATH)).unwrap().len(), 2048);
        disk.crash();
        assert!(disk.contents(Path::new(PATH)).unwrap().is_empty());
    }

    #[test]
    fn a_full_disk_takes_what_fits_its_reserved_space() {
        let disk = SimDisk::new(1);
        disk.set_capacity(Some(4096));
        let file = written(&disk);
        file.allocate(4096).unwrap();
        file.write_at(&[1; 2048], 2048).unwrap();
        let error = file.write_at(&[1; 1], 4096).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
