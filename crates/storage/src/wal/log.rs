//! The log itself, without threads: stage writes, flush them, do a piece of housekeeping.
//!
//! Its one owner calls
//!
//! 1. [`Log::stage`] for what arrived; that encodes into the batch buffer and touches no disk;
//! 2. [`Log::flush`]: one write and one fsync for all of it, then readers see it;
//! 3. [`Log::next_job`], runs the job, here or on another thread, and hands the result to
//!    [`Log::finish_job`];
//! 4. [`Log::confirm`] when there has been nothing to do for a while, and before the end.
//!
//! [`Wal`](super::Wal) does so on a thread; the simulator does so with a disk that lies.
//!
//! **Invariant:** nothing is visible to readers, and no token is returned, before the fsync.
//! **Invariant:** after the first failed write or fsync nothing is accepted any more (B33).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use consensus::GroupId;

use super::admission::{Admission, Purpose, encoded_len};
use super::batch::{BatchBuffer, Position};
use super::checkpoint::encode_op;
use super::format::{Kind, RecordHeader};
use super::jobs::Housekeeping;
use super::ranges::Ranges;
use super::segments::Active;
use super::state::{Op, Placed};
use super::stats::Stats;
use super::view::LogView;
use crate::config::Config;
use crate::error::{SubmitError, WriteError};
use crate::file_system::{FileSystem, Lock};
use crate::mutants::{self, Mutant};
use crate::types::{IoToken, Write};
use consensus::Entry;

/// A write-ahead log with one owner.
pub struct Log {
    pub(crate) file_system: Arc<dyn FileSystem>,
    pub(crate) dir: PathBuf,
    pub(crate) config: Config,
    pub(crate) view: LogView,
    pub(crate) admission: Admission,
    pub(crate) active: Active,
    pub(crate) batch: BatchBuffer,
    /// What the batch does to the state, once it is durable.
    pub(crate) pending: Vec<Pending>,
    pub(crate) staged: IoToken,
    pub(crate) durable: IoToken,
    pub(crate) failed: Option<Arc<WriteError>>,
    /// Nothing has been written since the last [`confirm`](Log::confirm).
    pub(crate) confirmed: bool,
    pub(crate) housekeeping: Housekeeping,
    pub(crate) stats: Stats,
    /// Released last.
    pub(crate) _lock: Box<dyn Lock>,
}

/// The effect of a staged write; `at` is its offset in the batch.
pub(crate) enum Pending {
    Append { group: GroupId, at: u32, entries: Vec<Entry> },
    Op(Op),
}

impl Log {
    /// For readers, on any thread.
    #[must_use]
    pub fn view(&self) -> LogView {
        self.view.clone()
    }

    /// Bytes in the batch so far.
    #[must_use]
    pub fn staged_bytes(&self) -> usize {
        self.batch.len()
    }

    /// Why the log stopped, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<WriteError>> {
        self.failed.clone()
    }

    /// Adds writes to the batch, all or none. They take effect with the next flush.
    pub fn stage(&mut self, writes: Vec<Write>) -> Result<IoToken, SubmitError> {
        let purpose = Purpose::of(&writes, false);
        self.stage_for(purpose, writes)
    }

    /// Like [`stage`](Self::stage), for entries that let others go.
    pub fn stage_freeing(&mut self, writes: Vec<Write>) -> Result<IoToken, SubmitError> {
        let purpose = Purpose::of(&writes, true);
        self.stage_for(purpose, writes)
    }

    fn stage_for(&mut self, purpose: Purpose, writes: Vec<Write>) -> Result<IoToken, SubmitError> {
        if self.failed.is_some() {
            return Err(SubmitError::Failed);
        }
        let (bytes, max) = (encoded_len(&writes), self.config.queue_bytes);
        if bytes > max {
            return Err(SubmitError::TooLarge { bytes, max });
        }
        if self.batch.len() + bytes > max + self.config.batch_bytes {
            return Err(SubmitError::QueueFull);
        }
        self.space_for(purpose)?;
        self.admission.admit(&writes)?;
        Ok(self.stage_admitted(writes))
    }

    /// Adds writes that passed the checks of [`stage`](Self::stage) elsewhere.
    pub(crate) fn stage_admitted(&mut self, writes: Vec<Write>) -> IoToken {
        for write in writes {
            match write {
                // Where an entry belongs shows in its index.
                Write::Append { group, entries } | Write::Refill { group, entries } => {
                    self.stage_entries(group, entries);
                }
                Write::HardState { group, hard_state } => {
                    self.stage_op(Op::HardState { group, hard_state });
                }
                Write::Truncate { group, from } => {
                    self.stage_op(Op::Truncate { group, from: from.0 });
                }
                Write::Compact { group, through, keep } => {
                    let spans = keep.iter().map(|range| range.start().0..=range.end().0);
                    let keep = Ranges::from_inclusive(&spans.collect::<Vec<_>>());
                    self.stage_op(Op::Compact { group, through: through.0, keep });
                }
                Write::Reset { group, next, term, keep, filling } => {
                    let spans = keep.iter().map(|range| range.start().0..=range.end().0);
                    let keep = Ranges::from_inclusive(&spans.collect::<Vec<_>>());
                    let (next, term) = (next.0, term.0);
                    self.stage_op(Op::Reset { group, next, term, keep, filling });
                }
                Write::Filled { group } => self.stage_op(Op::Filled { group }),
                Write::Remove { group } => self.stage_op(Op::Remove { group }),
            }
        }
        self.staged = IoToken(self.staged.0 + 1);
        self.staged
    }

    fn stage_entries(&mut self, group: GroupId, entries: Vec<Entry>) {
        let at = u32::try_from(self.batch.len()).expect("a batch is smaller than a segment");
        for entry in &entries {
            let header = RecordHeader::entry(group.0, entry);
            self.batch.push(header, &entry.payload);
            self.stats.appended_bytes += entry.payload.len() as u64;
        }
        self.stats.appended_entries += entries.len() as u64;
        self.pending.push(Pending::Append { group, at, entries });
    }

    pub(crate) fn stage_op(&mut self, op: Op) {
        let (header, payload) = encode_op(&op);
        self.batch.push(header, &payload);
        self.pending.push(Pending::Op(op));
    }

    /// Makes everything staged durable with one write and one fsync, and then visible. Returns the
    /// newest durable token.
    pub fn flush(&mut self) -> Result<IoToken, Arc<WriteError>> {
        if let Some(failed) = &self.failed {
            return Err(Arc::clone(failed));
        }
        if !self.batch.is_empty() {
            let begin = match self.write_batch() {
                Ok(begin) => begin,
                Err(error) => return Err(self.fail(error)),
            };
            self.stats.batches += 1;
            self.stats.fsyncs += 1;
            self.publish(begin);
            self.confirmed = false;
        }
        self.durable = self.staged;
        Ok(self.durable)
    }

    /// Follows the last batch with an empty one, unless that was done. Only a batch with a follower
    /// was certainly acknowledged: a start tells damage in it from a torn write. Call it when
    /// there is nothing to do, and before the end.
    pub fn confirm(&mut self) -> Result<(), Arc<WriteError>> {
        if let Some(failed) = &self.failed {
            return Err(Arc::clone(failed));
        }
        if self.confirmed || !self.batch.is_empty() {
            return Ok(());
        }
        // A segment that is full to the brim is followed by the next one, some time.
        let room = self.active.position.at + self.batch.len_on_disk() <= self.active.size;
        if room && !mutants::is(Mutant::NoConfirm) {
            let begin = self.write_batch().map_err(|error| self.fail(error))?;
            self.publish(begin);
        }
        self.confirmed = true;
        Ok(())
    }

    /// Whether the last batch has a follower, or there is none.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// Returns where the batch begins.
    fn write_batch(&mut self) -> Result<u64, WriteError> {
        if self.active.position.at + self.batch.len_on_disk() > self.active.size {
            self.rotate()?;
        }
        let from = self.active.position;
        let (bytes, next) = self.batch.finish(self.active.open.salt, from);
        let path = |active: &Active| self.dir.join(active.file_name());
        let failed = |action, source| WriteError { action, path: path(&self.active), source };
        self.active.open.file.write_at(bytes, from.at).map_err(|e| failed("write", e))?;
        let mut synced = Ok(());
        if !mutants::is(Mutant::AckBeforeSync) {
            synced = self.active.open.file.sync_data();
        }
        if mutants::is(Mutant::RetriedSync) && synced.is_err() {
            synced = self.active.open.file.sync_data();
        }
        synced.map_err(|e| failed("sync", e))?;
        self.stats.written_bytes += bytes.len() as u64;
        self.active.position = next;
        Ok(from.at)
    }

    /// Lets readers see the batch that begins at `begin`.
    fn publish(&mut self, begin: u64) {
        let Position { at: end, .. } = self.active.position;
        let segment = self.active.number;
        let view = self.view.clone();
        let mut state = view.state_mut();
        for pending in self.pending.drain(..) {
            match pending {
                Pending::Append { group, at, entries } => {
                    let mut at = begin + u64::from(at);
                    for entry in entries {
                        let header = RecordHeader::new(Kind::Entry, 0, 0, 0);
                        let bytes = header.size() + entry.payload.len() as u64;
                        let (term, index) = (entry.term.0, entry.index.0);
                        let placed = Placed { term, index, at, bytes };
                        state.take(group, segment, placed, Some(entry));
                        at += bytes;
                    }
                }
                Pending::Op(op) => {
                    if !matches!(op, Op::HardState { .. }) {
                        self.housekeeping.note_change();
                    }
                    if matches!(op, Op::Install(_))
                        && let Some((number, segment)) = self.housekeeping.arriving.take()
                    {
                        state.segments.insert(number, segment);
                    }
                    state.apply(op);
                }
            }
        }
        if let Some(active) = state.segments.get_mut(&segment) {
            active.end = end;
        }
        state.shrink_cache();
        drop(state);
        self.batch.clear(2 * self.config.batch_bytes);
    }

    /// Ends the log: the first failed write or fsync is final.
    pub(crate) fn fail(&mut self, error: WriteError) -> Arc<WriteError> {
        tracing::error!(
            action = error.action,
            path = %error.path.display(),
            error = %error.source,
            "the log failed"
        );
        Arc::clone(self.failed.insert(Arc::new(error)))
    }

    /// Counters since the log was opened, and sizes now. `queue_bytes` and `last_fsync` are known
    /// only to [`Wal`](super::Wal).
    #[must_use]
    pub fn stats(&self) -> Stats {
        let state = self.view.state();
        let mut stats = Stats { queue_bytes: self.batch.len() as u64, ..self.stats.clone() };
        for segment in state.segments.values() {
            let count =
                if segment.cold { &mut stats.cold_segments } else { &mut stats.hot_segments };
            *count += 1;
            stats.disk_bytes += segment.size;
            stats.live_bytes += segment.live_bytes;
        }
        stats.disk_bytes += self.housekeeping.spare_bytes();
        stats.cached_bytes = state.cache.bytes() as u64;
        stats.disk_full = self.space_for(Purpose::Grow) == Err(SubmitError::DiskFull);
        stats
    }

    /// The data directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}
