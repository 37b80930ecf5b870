//! Where committed records live.
//!
//! [`fjall`] is the one services run on, [`memory`] the one tests compare it with. The log is the
//! durable truth: an engine may lose its newest batches in a power cut, never parts of a batch,
//! and is then brought up from the log again.
//!
//! **Invariant:** records, applied head, epochs and digest change in one atomic batch.
//! **Invariant:** only committed entries get here, so nothing is ever undone.

pub(crate) mod fjall;
pub(crate) mod generations;
#[cfg(test)]
pub(crate) mod memory;
#[cfg(test)]
mod model;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use replication::command::{Mutation, Record};
use replication::digest::{Digest, Sum};
use replication::{Epochs, Hash, Head, Index, Position};
use serde::{Deserialize, Serialize};

/// What an engine's records are the state of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Applied {
    /// The last entry whose effect is in.
    pub(crate) head: Head,
    /// The hash of the history's first entry.
    pub(crate) birth: Option<Hash>,
    /// Where the epochs up to `head` begin.
    pub(crate) epochs: Epochs,
}

impl Applied {
    /// The state before the first entry.
    pub(crate) fn nothing(group: &str) -> Self {
        Self { head: Head::genesis(group), birth: None, epochs: Epochs::default() }
    }

    /// Takes the next entry.
    pub(crate) fn advance(&mut self, head: Head) {
        if head.index() == Index(1) {
            self.birth = Some(head.hash);
        }
        self.epochs.push(head.position);
        self.head = head;
    }
}

/// A decoded entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The history with it.
    pub(crate) head: Head,
    /// What it does, in order.
    pub(crate) mutations: Vec<Mutation>,
    /// A digest of the primary to compare with.
    pub(crate) check: Option<(Index, Sum)>,
}

/// The file system or the engine failed. The process ends: the log has everything.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// The storage engine's own error.
    #[error("the storage engine failed")]
    Fjall(#[from] ::fjall::Error),
    /// What it holds is not what was written.
    #[error("the storage engine holds a malformed record")]
    Malformed(#[from] postcard::Error),
    /// It ran out of space, has some again and is just catching up.
    #[error("the store is being opened again after the disk was full; repeat shortly")]
    Reopening,
    /// Around the engine: its directories.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: std::path::PathBuf,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
}

impl EngineError {
    /// There was no space. What failed has not happened, and nothing was lost: the log has it.
    pub(crate) fn is_disk_full(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            let io = error.downcast_ref::<std::io::Error>();
            if io.is_some_and(|io| matches!(io.kind(), StorageFull | QuotaExceeded)) {
                return true;
            }
            cause = error.source();
        }
        false
    }

    /// An earlier failure, here or on a thread of the engine's own, made it refuse all writes.
    pub(crate) fn is_aftermath(&self) -> bool {
        matches!(self, Self::Fjall(::fjall::Error::Poisoned))
    }
}

/// Records in key order.
pub(crate) type Records<'a> =
    Box<dyn Iterator<Item = Result<(Bytes, Record), EngineError>> + Send + 'a>;

/// A store of records.
pub(crate) trait Engine: Send + Sync + 'static {
    /// One record, expired or not.
    fn get(&self, key: &[u8]) -> Result<Option<Record>, EngineError>;

    /// Carries out consecutive entries in one batch. Returns the digest after each.
    fn apply(&self, steps: &[Arc<Step>]) -> Result<Vec<Sum>, EngineError>;

    /// What the records are the state of.
    fn applied(&self) -> Applied;

    /// The digest of all records.
    fn root(&self) -> Sum;

    /// A view that later batches do not change.
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, EngineError>;

    /// Up to `limit` keys whose time was over at `now_ms`, with their versions; oldest first.
    fn expired(&self, now_ms: u64, limit: usize) -> Result<Vec<(Bytes, Position)>, EngineError>;

    /// Makes everything applied so far survive a power cut.
    fn persist(&self) -> Result<(), EngineError>;

    /// Opens it again after it ran out of space. It may have lost its newest batches; it refuses
    /// readers until [`resume`](Self::resume). `Ok(false)` while somebody still reads a snapshot.
    fn reopen(&self) -> Result<bool, EngineError>;

    /// It has everything that it had before it ran out of space.
    fn resume(&self);

    /// Adds records of a snapshot to an engine that has applied nothing.
    fn load(&self, records: Vec<(Bytes, Record)>) -> Result<(), EngineError>;

    /// The snapshot is complete: from now on this is the state of `applied`. Durable on return.
    fn loaded(&self, applied: Applied) -> Result<(), EngineError>;
}

/// A pinned state.
pub(crate) trait Snapshot: Send + Sync {
    /// What it is the state of.
    fn applied(&self) -> &Applied;

    /// The digest of it.
    fn root(&self) -> Sum;

    /// Its records from `start` on, within one key space and the next.
    fn records(&self, start: Bound<Bytes>) -> Records<'_>;
}

/// What one batch writes, worked out against the state before it: the same for every engine.
pub(crate) struct Batch {
    /// Per key the record before the batch and the one after it.
    pub(crate) changes: BTreeMap<Bytes, (Option<Record>, Option<Record>)>,
    /// Buckets of the digest that changed.
    pub(crate) buckets: std::collections::BTreeSet<usize>,
    /// The digest after each entry.
    pub(crate) roots: Vec<Sum>,
}

impl Batch {
    /// Plays `steps` on `digest` and collects the net changes.
    pub(crate) fn new(
        steps: &[Arc<Step>],
        digest: &mut Digest,
        get: impl Fn(&[u8]) -> Result<Option<Record>, EngineError>,
    ) -> Result<Self, EngineError> {
        let mut batch = Self {
            changes: BTreeMap::new(),
            buckets: std::collections::BTreeSet::new(),
            roots: Vec::with_capacity(steps.len()),
        };
        for step in steps {
            for (key, new) in &step.mutations {
                let (_, now) = match batch.changes.entry(key.clone()) {
                    std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                    std::collections::btree_map::Entry::Vacant(entry) => {
                        let old = get(key)?;
                        entry.insert((old.clone(), old))
                    }
                };
                batch.buckets.insert(digest.replace(key, now.as_ref(), new.as_ref()));
                now.clone_from(new);
            }
            batch.roots.push(digest.root());
        }
        Ok(batch)
    }
}
