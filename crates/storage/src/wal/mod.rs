//! The write-ahead log, in reading order: the handle, the thread behind it, the log without
//! threads, then its parts from state to bytes.

mod writer;

mod log;

mod admission;
mod segments;

mod jobs;
mod rewrite;

mod recovery;

mod files;
mod locate;
mod scan;

mod fill;
mod read;
mod state;
mod view;

mod ranges;
mod runs;
mod stats;
mod tail;

mod batch;
mod checkpoint;
mod codec;
mod cold;
mod format;
mod source;

use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use consensus::{GroupId, Index, Term};
use tokio::sync::watch;

pub use jobs::{Job, JobDone};
pub use log::Log;
pub use recovery::Recovery;
pub use stats::Stats;
pub use view::LogView;

use crate::config::Config;
use crate::error::{Fault, OpenError, ReadError, SubmitError, WriteError};
use crate::file_system::FileSystem;
use crate::types::{Durable, GroupState, IoToken, Write};
use consensus::Entry;
use writer::{Alarm, Shared, Writer, work};

/// A handle to the log of this process. Clones share it. When the last one is dropped, what is
/// queued is written and the directory is released.
#[derive(Clone)]
pub struct Wal {
    threads: Arc<Threads>,
}

struct Threads {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    worker: Option<JoinHandle<()>>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stop();
        // The worker ends with the writer, whose end closes its queue.
        for thread in [self.writer.take(), self.worker.take()].into_iter().flatten() {
            if thread.join().is_err() {
                tracing::error!("a thread of the log panicked");
            }
        }
    }
}

impl Wal {
    /// Opens or creates the log in `dir`, takes the directory lock, and starts the two threads:
    /// one writes, one prepares and tidies up segments. Blocks on the disk.
    ///
    /// Damage does not keep it from opening: see [`Recovery::faulty`].
    pub fn open(
        file_system: Arc<dyn FileSystem>,
        dir: &Path,
        config: Config,
    ) -> Result<(Self, Recovery), OpenError> {
        let (mut log, recovery) = Log::open(file_system, dir, config)?;
        let shared = Arc::new(Shared::new(&mut log));
        let (writer, jobs) = Writer::new(log, Arc::clone(&shared));
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let started = thread::Builder::new().name(name.to_owned()).spawn(run);
            started.map_err(|source| io_error(dir, source))
        };
        let helper = Arc::clone(&shared);
        let alarm = || Alarm { shared: Arc::clone(&shared), dir: dir.to_owned() };
        let (writes, tidies) = (alarm(), alarm());
        let mut threads = Threads { shared, writer: None, worker: None };
        let tidy = move || {
            let _alarm = tidies;
            work(&helper, &jobs);
        };
        let write = move || {
            let _alarm = writes;
            writer.run();
        };
        threads.worker = Some(spawn("wal-tidy", Box::new(tidy))?);
        threads.writer = Some(spawn("wal-write", Box::new(write))?);
        Ok((Self { threads: Arc::new(threads) }, recovery))
    }

    /// Queues writes, all or none, and returns the token that [`durable`](Self::durable) reports
    /// once they are on disk. Never waits for the disk. Readers see them when they are durable.
    pub fn submit(&self, writes: Vec<Write>) -> Result<IoToken, SubmitError> {
        self.threads.shared.submit(writes, false)
    }

    /// Like [`submit`](Self::submit), for entries that let others go, such as acknowledgements and
    /// deletes: on a full disk they are taken as long as the reserve lasts, so that there is a way
    /// out. Keep them small.
    pub fn submit_freeing(&self, writes: Vec<Write>) -> Result<IoToken, SubmitError> {
        self.threads.shared.submit(writes, true)
    }

    /// Whether entries of so many bytes would be taken now: for whoever has to know before it
    /// promises their place. `freeing` as in [`submit_freeing`](Self::submit_freeing).
    pub fn room_for(&self, bytes: usize, freeing: bool) -> Result<(), SubmitError> {
        self.threads.shared.room_for(bytes, freeing)
    }

    /// Tells how far the log is durable, now and on every change.
    #[must_use]
    pub fn durable(&self) -> watch::Receiver<Durable> {
        self.threads.shared.durable()
    }

    /// Tells when the log fails, and nothing before: [`durable`](Self::durable) wakes its readers
    /// with every batch.
    #[must_use]
    pub fn failure(&self) -> watch::Receiver<Option<Arc<WriteError>>> {
        self.threads.shared.failure()
    }

    /// Live entries from `from` on: up to `max_bytes` of payload, but at least one if there is
    /// one. Compacted holes are skipped. Blocks on the disk for what the tail cache lacks.
    ///
    /// An entry whose bytes are damaged is never returned: the group becomes faulty.
    pub fn read(
        &self,
        group: GroupId,
        from: Index,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        self.checked(self.threads.shared.view.read(group, from, max_bytes))
    }

    /// A group with a damaged entry takes nothing any more.
    fn checked(&self, read: Result<Vec<Entry>, ReadError>) -> Result<Vec<Entry>, ReadError> {
        if let Err(ReadError::Corrupt { group, file, offset }) = &read {
            let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.threads.shared.mark(*group, Fault { file, offset: *offset });
        }
        read
    }

    /// Like [`read`](Self::read), of these indexes alone: sorted and disjoint. What is not in the
    /// log is left out.
    pub fn read_ranges(
        &self,
        group: GroupId,
        ranges: &[RangeInclusive<Index>],
        max_bytes: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        self.checked(self.threads.shared.view.read_ranges(group, ranges, max_bytes))
    }

    /// Like [`read`](Self::read), from memory alone: `None` if the first entry is not there.
    #[must_use]
    pub fn cached(&self, group: GroupId, from: Index, max_bytes: usize) -> Option<Vec<Entry>> {
        self.threads.shared.view.cached(group, from, max_bytes)
    }

    /// What is durable of a group.
    #[must_use]
    pub fn group(&self, group: GroupId) -> Option<GroupState> {
        self.threads.shared.view.group(group)
    }

    /// Every group of the log, sorted.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupId> {
        self.threads.shared.view.groups()
    }

    /// The term of a live entry, or of the one before the first. Never touches the disk.
    #[must_use]
    pub fn term(&self, group: GroupId, index: Index) -> Option<Term> {
        self.threads.shared.view.term(group, index)
    }

    /// What of these indexes is not in the log: sorted, disjoint. For who has to read all of them.
    /// Everything, if the group is unknown. Never touches the disk.
    #[must_use]
    pub fn missing(
        &self,
        group: GroupId,
        wanted: &[RangeInclusive<Index>],
    ) -> Vec<RangeInclusive<Index>> {
        self.threads.shared.view.missing(group, wanted)
    }

    /// The groups whose snapshots would let the oldest `segments` segments go: their logs reach back
    /// there. Those of the oldest segment first. Takes time in proportion to the number of groups,
    /// and never touches the disk.
    #[must_use]
    pub fn pinning(&self, segments: usize) -> Vec<GroupId> {
        self.threads.shared.view.pinning(segments)
    }

    /// Counters and sizes, as of the last batch.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.threads.shared.stats()
    }
}

fn io_error(dir: &Path, source: io::Error) -> OpenError {
    OpenError::Io { action: "start a thread for", path: dir.to_owned(), source }
}
