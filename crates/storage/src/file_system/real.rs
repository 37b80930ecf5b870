//! The operating system's files.

use std::collections::hash_map::RandomState;
use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;

use super::{File, FileSystem, Lock};

/// How file systems say that they cannot reserve space.
const NO_FALLOCATE: [Errno; 4] = [Errno::OPNOTSUPP, Errno::NOTSUP, Errno::NOSYS, Errno::INVAL];

/// Zeros are written in pieces of this size where space cannot be reserved otherwise.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// The file system of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFileSystem;

struct RealFile {
    file: fs::File,
}

struct RealLock {
    /// The lock belongs to the open file and goes with it.
    _file: fs::File,
}

impl Lock for RealLock {}

impl FileSystem for RealFileSystem {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.create_dir_all(parent)?;
        }
        match fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => (),
        }
        self.sync_dir(parent.unwrap_or(Path::new(".")))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Arc::new(RealFile { file }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(RealFile { file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        // `sync_all` is F_FULLFSYNC on macOS and fsync elsewhere.
        fs::File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Box::new(RealLock { _file: file }))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn nonce(&self) -> u64 {
        // The standard library seeds each `RandomState` from the operating system's randomness.
        RandomState::new().build_hasher().finish()
    }
}

impl File for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        // fdatasync on Linux; F_FULLFSYNC on macOS, where fsync leaves data in the drive's cache.
        self.file.sync_data()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let now = self.file.metadata()?.len();
        if now >= len {
            return Ok(());
        }
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            Err(error) if NO_FALLOCATE.contains(&error) => self.write_zeros(now, len),
            Err(error) => Err(error.into()),
        }
    }
}

impl RealFile {
    /// Reserves space by using it: not every file system knows fallocate.
    fn write_zeros(&self, from: u64, to: u64) -> io::Result<()> {
        let mut position = from;
        while position < to {
            let len = usize::try_from(to - position).unwrap_or(usize::MAX).min(ZEROS.len());
            self.file.write_all_at(&ZEROS[..len], position)?;
            position += len as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocated_space_reads_as_zeros_and_what_was_written_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealFileSystem.create(&dir.path().join("f")).unwrap();
        file.write_at(b"abc", 0).unwrap();
        file.allocate(100_000).unwrap();
        assert_eq!(file.size().unwrap(), 100_000);
        let mut buffer = [1; 8];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 8);
        assert_eq!(&buffer, b"abc\0\0\0\0\0");
        assert_eq!(file.read_at(&mut buffer, 99_996).unwrap(), 4);
    }

    #[test]
    fn a_lock_is_exclusive_until_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = RealFileSystem.lock(&path).unwrap();
        assert!(held.is_some());
        assert!(RealFileSystem.lock(&path).unwrap().is_none());
        drop(held);
        assert!(RealFileSystem.lock(&path).unwrap().is_some());
    }

    #[test]
    fn missing_parents_are_created() {
        let dir = tempfile::tempdir().unwrap();
        let nested = dir.path().join("a/b/c");
        RealFileSystem.create_dir_all(&nested).unwrap();
        RealFileSystem.create_dir_all(&nested).unwrap();
        assert!(RealFileSystem.list(&nested).unwrap().is_empty());
    }
}
