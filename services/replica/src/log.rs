//! The history in the write-ahead log: its entries, and their hashes.

use replication::{Entry, Epoch, Hash, Head, Index, Position};
use storage::{Wal, Write};

/// The one history of a process.
pub(crate) const GROUP: consensus::GroupId = consensus::GroupId(1);

/// Entries could not be read back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The log's own error.
    #[error("the log cannot be read")]
    Read(#[from] storage::ReadError),
    /// An entry that is none of ours.
    #[error("the log holds something else than a history")]
    Payload(#[from] replication::history::InvalidPayload),
    /// Its hash is not the one that follows from the entries before it.
    #[error("the entry at index {0} does not continue the history before it")]
    Chain(Index),
}

/// Reads the history. Clones share the log.
#[derive(Clone)]
pub(crate) struct Log {
    wal: Wal,
    genesis: Head,
}

impl Log {
    pub(crate) fn new(wal: Wal, group: &str) -> Self {
        Self { wal, genesis: Head::genesis(group) }
    }

    pub(crate) const fn wal(&self) -> &Wal {
        &self.wal
    }

    /// Consecutive entries from `from` on, at least one if there is one. Empty if the log ends
    /// before `from` or begins after it. Blocks on the disk for what is not in memory.
    pub(crate) fn read(&self, from: Index, max_bytes: usize) -> Result<Vec<Entry>, LogError> {
        match self.wal.read(GROUP, from, max_bytes) {
            Ok(records) => decode(from, records),
            Err(storage::ReadError::UnknownGroup { .. }) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// The same if it is in memory.
    pub(crate) fn cached(&self, from: Index, max_bytes: usize) -> Option<Vec<Entry>> {
        decode(from, self.wal.cached(GROUP, from, max_bytes)?).ok()
    }

    /// The same, off the runtime's threads where the disk is needed.
    pub(crate) async fn fetch(
        &self,
        from: Index,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, LogError> {
        if let Some(entries) = self.cached(from, max_bytes).filter(|entries| !entries.is_empty()) {
            return Ok(entries);
        }
        let log = self.clone();
        let read = tokio::task::spawn_blocking(move || log.read(from, max_bytes));
        read.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    /// The hash of the history up to `index`. `applied` is the engine's: its entry may be gone.
    pub(crate) async fn hash_at(
        &self,
        index: Index,
        applied: Head,
    ) -> Result<Option<Hash>, LogError> {
        if index == Index::ZERO {
            return Ok(Some(self.genesis.hash));
        }
        if index == applied.index() {
            return Ok(Some(applied.hash));
        }
        let entries = self.fetch(index, 1).await?;
        Ok(entries.first().map(|entry| entry.hash))
    }

    /// The oldest index whose hash is still known, when the engine is at `applied`.
    pub(crate) fn base(&self, applied: Head) -> Index {
        let Some(state) = self.wal.group(GROUP) else { return applied.index() };
        match Index(state.first.0.saturating_sub(1)) {
            before if before == Index::ZERO || before == applied.index() => before,
            // Its own entry is gone, and with it its hash.
            _ => state.first.min(applied.index()),
        }
    }
}

fn decode(from: Index, records: Vec<storage::Entry>) -> Result<Vec<Entry>, LogError> {
    if records.first().is_some_and(|first| first.index != from) {
        // Compacted away: what follows does not continue what the caller has.
        return Ok(Vec::new());
    }
    let entry = |record: storage::Entry| {
        let position = Position { epoch: Epoch(record.term.0), index: record.index };
        Ok(Entry::from_payload(position, &record.payload)?)
    };
    records.into_iter().map(entry).collect()
}

/// What the log is asked to append.
pub(crate) fn append(entries: &[Entry]) -> Write {
    let record = |entry: &Entry| {
        let epoch = consensus::Term(entry.position.epoch.0);
        storage::Entry::command(epoch, entry.position.index, entry.to_payload())
    };
    Write::Append { group: GROUP, entries: entries.iter().map(record).collect() }
}

/// The epoch and the commit index as the log keeps them.
pub(crate) fn hard_state(epoch: Epoch, commit: Index) -> Write {
    let term = consensus::Term(epoch.0);
    let hard_state = consensus::HardState { term, commit, ..consensus::HardState::default() };
    Write::HardState { group: GROUP, hard_state }
}
