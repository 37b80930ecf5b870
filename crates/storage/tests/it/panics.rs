//! A fault in the log's own threads ends the log: nobody may wait for a thread that is gone.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use consensus::{GroupId, Index, Term};
use storage::{Config, Entry, File, FileSystem, Lock, RealFileSystem, SubmitError, Wal, Write};

/// Panics on every write, once it is told to.
#[derive(Clone, Default)]
struct Bomb {
    is_armed: Arc<AtomicBool>,
}

struct BombFile {
    file: Arc<dyn File>,
    bomb: Bomb,
}

impl FileSystem for Bomb {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealFileSystem.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealFileSystem.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(BombFile { file: RealFileSystem.create(path)?, bomb: self.clone() }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(BombFile { file: RealFileSystem.open(path)?, bomb: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFileSystem.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealFileSystem.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealFileSystem.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        RealFileSystem.lock(path)
    }

    fn nonce(&self) -> u64 {
        RealFileSystem.nonce()
    }
}

impl File for BombFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        assert!(!self.bomb.is_armed.load(Ordering::Relaxed), "told to");
        self.file.write_at(bytes, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }
}

#[tokio::test]
async fn a_panic_of_the_writer_is_a_failure_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let bomb = Bomb::default();
    let (wal, _) = Wal::open(Arc::new(bomb.clone()), dir.path(), Config::default()).unwrap();
    bomb.is_armed.store(true, Ordering::Relaxed);
    let append = || {
        let entry = Entry::command(Term(1), Index(1), Bytes::from_static(b"x"));
        vec![Write::Append { group: GroupId(1), entries: vec![entry] }]
    };
    wal.submit(append()).unwrap();
    let mut durable = wal.durable();
    let failed = durable.wait_for(|durable| durable.failed.is_some());
    let patience = std::time::Duration::from_secs(30);
    tokio::time::timeout(patience, failed).await.expect("it is told").expect("the log is open");
    assert_eq!(wal.submit(append()), Err(SubmitError::Failed));
}
