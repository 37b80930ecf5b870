//! The file system as the log sees it: few operations, each with its durability spelled out.
//!
//! [`RealFileSystem`] is the one that services run on. `sim::disk::SimDisk` is the other: it loses
//! what was not synced, tears and reorders writes, flips bits, fills up and fails on demand.
//!
//! **Invariant:** what a write stored is durable only after [`File::sync_data`] of that file, and a
//! name (created, renamed, removed) only after [`FileSystem::sync_dir`] of its directory.
//! **Invariant:** nothing retries a failed sync. The kernel may have dropped the pages and would
//! report success the second time (B33).

mod real;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use real::RealFileSystem;

/// What the log asks of a file system.
pub trait FileSystem: Send + Sync + 'static {
    /// Creates `dir` and its missing parents, durably.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// The names of the files in `dir`, in no order. Subdirectories are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates an empty file, or empties the one that is there.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name in the same directory and replaces what has that name. After a
    /// crash either the old or the new file has the name, never a mixture.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a name. Whoever has the file open reads on.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes every create, rename and remove in `dir` so far durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the exclusive lock `path`, until the returned value is dropped or the process ends.
    /// `None` if somebody else holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>>;

    /// A number that nobody can guess from the outside and that does not repeat. The log mixes it
    /// into checksums, so that neither the former content of a recycled file nor a payload that
    /// imitates the format is ever taken for a record.
    fn nonce(&self) -> u64;
}

/// An open file. Positions are in bytes from its start.
pub trait File: Send + Sync {
    /// How long it is.
    fn size(&self) -> io::Result<u64>;

    /// Reads into `buffer` from `position` and returns how much it got. Less than asked for means
    /// that the file ends there.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `position`, and makes the file longer where needed.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;

    /// Makes everything written so far durable, and the length if it changed.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes the file `len` bytes long, the new part reading as zeros, with the space for all of
    /// it reserved: a later write inside does not run out of space. Never shortens it.
    fn allocate(&self, len: u64) -> io::Result<()>;
}

/// Held for as long as the lock is. See [`FileSystem::lock`].
pub trait Lock: Send + Sync {}
