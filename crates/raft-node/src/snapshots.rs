//! Snapshots: when the log has grown, the machine's state goes to a file, and what it covers may
//! leave the log. A start does the reverse: the file, then the entries after it.

use std::sync::Arc;

use consensus::{GroupId, Index, Term};
use storage::snapshot::{Snapshot, SnapshotStore};
use storage::{Entry, Wal, Write};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use crate::apply::ApplyInput;
use crate::error::StartError;
use crate::machine::{AnyMachine, StateMachine};

/// Snapshots written at a time. Others wait for their next occasion.
const CONCURRENT_MAX: usize = 2;
/// Bytes of log replayed per read at a start.
const REPLAY_BYTES: usize = 4 << 20;

/// Writes snapshots off the apply task.
pub(crate) struct Snapshotter {
    wal: Wal,
    store: Arc<SnapshotStore>,
    done: mpsc::WeakSender<ApplyInput>,
    tasks: TaskTracker,
    permits: Arc<Semaphore>,
}

impl Snapshotter {
    pub(crate) fn new(
        wal: Wal,
        store: Arc<SnapshotStore>,
        done: mpsc::WeakSender<ApplyInput>,
        tasks: TaskTracker,
    ) -> Self {
        Self { wal, store, done, tasks, permits: Arc::new(Semaphore::new(CONCURRENT_MAX)) }
    }

    /// Begins a snapshot, unless enough are being written. Says whether it began.
    pub(crate) fn take(
        &self,
        group: GroupId,
        (index, term): (Index, Term),
        machine: &dyn AnyMachine,
    ) -> bool {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            return false;
        };
        let encode = machine.snapshot();
        let keep = machine.retained();
        let compact = Write::Compact { group, through: index, keep };
        let (wal, store, done) = (self.wal.clone(), self.store.clone(), self.done.clone());
        self.tasks.spawn_blocking(move || {
            let snapshot = Snapshot { index, term, bytes: encode() };
            let result = write(&wal, &store, group, &snapshot, compact);
            drop(permit);
            let result = match result {
                Ok(()) => Ok(index),
                Err(error) => {
                    tracing::warn!(%group, %index, error = &*error, "snapshot not written, the log stays");
                    Err(index)
                }
            };
            if let Some(done) = done.upgrade() {
                // The apply task may have ended; then nobody counts snapshots.
                let _ = done.blocking_send(ApplyInput::Snapshotted { group, result });
            }
        });
        true
    }

    /// Deletes the snapshot of a group that is gone.
    pub(crate) fn discard(&self, group: GroupId) {
        let store = self.store.clone();
        self.tasks.spawn_blocking(move || {
            if let Err(error) = store.remove(group) {
                tracing::warn!(%group, %error, "snapshot of a removed group not deleted");
            }
        });
    }
}

/// The file first: the log may forget only what is durable elsewhere.
fn write(
    wal: &Wal,
    store: &SnapshotStore,
    group: GroupId,
    snapshot: &Snapshot,
    compact: Write,
) -> Result<(), Box<dyn std::error::Error>> {
    store.save(group, snapshot)?;
    wal.submit(vec![compact])?;
    Ok(())
}

/// A machine as its snapshot and log give it.
pub(crate) struct Rebuilt {
    pub(crate) machine: Box<dyn AnyMachine>,
    pub(crate) applied: Index,
    pub(crate) snapshotted: Index,
    pub(crate) log_bytes: u64,
}

/// Restores the snapshot, if there is one, and replays the entries after it.
pub(crate) fn rebuild<M: StateMachine>(
    wal: &Wal,
    store: &SnapshotStore,
    group: GroupId,
    mut machine: M,
) -> Result<Rebuilt, StartError> {
    let snapshot = store.load(group).map_err(|source| StartError::Snapshot { group, source })?;
    let snapshotted = match snapshot {
        Some(Snapshot { index, bytes, .. }) => {
            machine.restore(&bytes).map_err(|source| StartError::Restore { group, source })?;
            index
        }
        None => Index::ZERO,
    };
    let mut rebuilt =
        Rebuilt { machine: Box::new(machine), applied: snapshotted, snapshotted, log_bytes: 0 };
    let last = wal.group(group).map_or(Index::ZERO, |state| state.last);
    while rebuilt.applied < last {
        let from = rebuilt.applied.next();
        let entries = wal
            .read(group, from, REPLAY_BYTES)
            .map_err(|source| StartError::Read { group, source })?;
        if entries.is_empty() {
            return Err(missing(group, from));
        }
        for entry in &entries {
            rebuilt.replay(group, entry)?;
        }
    }
    Ok(rebuilt)
}

impl Rebuilt {
    fn replay(&mut self, group: GroupId, entry: &Entry) -> Result<(), StartError> {
        let next = self.applied.next();
        if entry.index != next {
            return Err(missing(group, next));
        }
        self.machine.replay(entry);
        self.applied = next;
        self.log_bytes += entry.payload.len() as u64;
        Ok(())
    }
}

/// A gap between the snapshot and the log: something acknowledged may be in it.
fn missing(group: GroupId, index: Index) -> StartError {
    StartError::Damaged { group, detail: format!("entry {index} is missing after the snapshot") }
}
