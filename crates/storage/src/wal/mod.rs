//! The write-ahead log.

mod stats;

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use consensus::{GroupId, Index};
use tokio::sync::watch;

pub use stats::Stats;

use crate::config::Config;
use crate::error::{Fault, OpenError, ReadError, SubmitError};
use crate::file_system::FileSystem;
use crate::types::{Durable, Entry, GroupState, IoToken, Write};

/// What opening a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The last batch was incomplete, so nobody was told it is durable: it was cut off here.
    pub torn: Option<Fault>,
    /// Damage that cost nothing, and damage that made the groups below faulty.
    pub damage: Vec<Fault>,
    /// Groups that lost something acknowledged. Each has to be reset or removed.
    pub faulty: Vec<(GroupId, Fault)>,
}

/// A handle to the log of this process. Clones share it.
#[derive(Clone)]
pub struct Wal {
    never: Infallible,
}

impl Wal {
    /// Opens or creates the log in `dir`.
    pub fn open(
        _file_system: Arc<dyn FileSystem>,
        _dir: &Path,
        config: Config,
    ) -> Result<(Self, Recovery), OpenError> {
        config.validate().map_err(OpenError::Config)?;
        Err(OpenError::Config("under construction"))
    }

    /// Queues writes. Never waits for the disk.
    pub fn submit(&self, _writes: Vec<Write>) -> Result<IoToken, SubmitError> {
        match self.never {}
    }

    /// Tells how far the log is durable, now and on every change.
    #[must_use]
    pub fn durable(&self) -> watch::Receiver<Durable> {
        match self.never {}
    }

    /// Entries from `from` on, up to `max_bytes` of payload but at least one if there is one.
    /// Skips compacted holes. Blocks on the disk unless the tail cache has them.
    pub fn read(
        &self,
        _: GroupId,
        _from: Index,
        _max_bytes: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        match self.never {}
    }

    /// Like [`read`](Self::read), from memory alone.
    #[must_use]
    pub fn cached(&self, _group: GroupId, _from: Index, _max_bytes: usize) -> Option<Vec<Entry>> {
        match self.never {}
    }

    /// What is durable of a group.
    #[must_use]
    pub fn group(&self, _group: GroupId) -> Option<GroupState> {
        match self.never {}
    }

    /// Every group of the log, sorted.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupId> {
        match self.never {}
    }

    /// Counters and sizes.
    #[must_use]
    pub fn stats(&self) -> Stats {
        match self.never {}
    }
}
