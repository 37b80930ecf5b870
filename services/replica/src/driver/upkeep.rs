//! What the owner does now and then: expiry, digests, checkpoints, compaction.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use replication::Index;
use replication::command::Command;

use super::{Driver, Failure};
use crate::apply::Task;
use crate::engine::Engine;
use crate::engine::generations::Generations;
use crate::log::{self, GROUP, Log};
use crate::view::Mark;

pub(super) const TICK: Duration = Duration::from_millis(100);
/// Expired keys logged in one entry.
const EXPIRED_MAX: usize = 256;
/// Entries after which the primary logs a digest.
const DIGEST_ENTRIES: u64 = 1000;
/// Bytes of log after which the engine is made to survive a power cut: what a restart after one
/// has to carry out again.
const CHECKPOINT_BYTES: u64 = 64 * 1024 * 1024;
/// The log is compacted in steps of this.
const MARK_BYTES: u64 = 1024 * 1024;
/// Moments remembered for lag in time.
const MARKS_MAX: usize = 512;

/// Ticks between two of something.
const EVERY_SECOND: u64 = 10;
const EVERY_TEN_SECONDS: u64 = 100;

#[derive(Default)]
pub(super) struct Upkeep {
    ticks: u64,
    /// The oldest entry of the log, as far as this task knows.
    pub(super) first: Index,
    /// The engine survives a power cut up to here.
    pub(super) persisted: Index,
    pub(super) looking_for_expired: bool,
    digest_at: Index,
    hinted: Index,
    /// Bytes appended, all told.
    bytes: u64,
    checkpoint_bytes: u64,
    /// Where the log was after each mebibyte.
    sizes: VecDeque<(Index, u64)>,
    marks: VecDeque<Mark>,
    replaced: Vec<(String, Arc<dyn Engine>)>,
}

impl Upkeep {
    pub(super) fn new(head: Index, log: &Log) -> Self {
        let bytes = log.wal().stats().live_bytes;
        let first = log.wal().group(GROUP).map_or(Index(1), |state| state.first);
        let sizes = VecDeque::from([(head, bytes)]);
        Self { first, sizes, bytes, checkpoint_bytes: bytes, digest_at: head, ..Self::default() }
    }

    /// Takes note of an appended entry.
    pub(super) fn appended(&mut self, index: Index, bytes: usize, now_ms: u64) {
        /// Moments closer than this are one.
        const RESOLUTION_MS: u64 = 5;
        self.bytes += bytes as u64;
        if self.sizes.back().is_none_or(|(_, at)| at + MARK_BYTES <= self.bytes) {
            self.sizes.push_back((index, self.bytes));
        }
        let mark = Mark { index, at_ms: now_ms, bytes: self.bytes };
        match self.marks.back_mut() {
            // The oldest of them counts for the age, so only size and index move on.
            Some(last) if now_ms < last.at_ms + RESOLUTION_MS => {
                *last = Mark { at_ms: last.at_ms, ..mark };
            }
            _ => self.marks.push_back(mark),
        }
        if MARKS_MAX < self.marks.len() {
            self.marks.pop_front();
        }
    }

    pub(super) fn marks(&self) -> Arc<Vec<Mark>> {
        Arc::new(self.marks.iter().copied().collect())
    }

    /// The last index that may go so that at most `keep` bytes of log remain.
    fn beyond(&self, keep: u64) -> Option<Index> {
        let old = self.sizes.iter().take_while(|(_, at)| at + keep < self.bytes);
        old.last().map(|(index, _)| *index)
    }

    /// An engine was replaced: its directory goes when its last reader has.
    pub(super) fn replaced(&mut self, name: String, former: Arc<dyn Engine>, at: Index) {
        self.replaced.push((name, former));
        self.sizes = VecDeque::from([(at, self.bytes)]);
        (self.persisted, self.first) = (at, at.next());
    }

    /// An install came too late.
    pub(super) fn discard(&self, generations: &Generations, name: &str, engine: Arc<dyn Engine>) {
        drop(engine);
        if let Err(error) = generations.remove(name) {
            tracing::warn!(%error, "an unused state stays until the next start");
        }
    }

    fn drop_replaced(&mut self, generations: &Generations) {
        self.replaced.retain_mut(|(name, engine)| {
            if 1 < Arc::strong_count(engine) {
                return true;
            }
            if let Err(error) = generations.remove(name) {
                tracing::warn!(%error, "a replaced state stays until the next start");
            }
            false
        });
    }
}

impl Driver {
    pub(super) fn tick(&mut self) -> Result<(), Failure> {
        self.upkeep.ticks += 1;
        self.room.look();
        self.send_report_again();
        if self.upkeep.ticks.is_multiple_of(EVERY_SECOND) {
            self.look_for_expired();
            self.hint_commit()?;
            self.compact()?;
            self.upkeep.drop_replaced(&self.generations);
        }
        self.log_digest(self.upkeep.ticks.is_multiple_of(EVERY_TEN_SECONDS));
        self.checkpoint(self.upkeep.ticks.is_multiple_of(EVERY_TEN_SECONDS));
        Ok(())
    }

    /// A replica also reports into a silence, so that its primary knows it is there.
    fn send_report_again(&mut self) {
        self.following.report_due |= self.upkeep.ticks.is_multiple_of(EVERY_SECOND);
    }

    fn look_for_expired(&mut self) {
        if self.core.is_primary() && !self.upkeep.looking_for_expired {
            let now_ms = self.clock.unix_ms();
            let task = Task::Expired { now_ms, limit: EXPIRED_MAX };
            self.upkeep.looking_for_expired = self.apply.try_send(task).is_ok();
        }
    }

    /// Lets a restart know what was committed, without an fsync of its own for every entry.
    fn hint_commit(&mut self) -> Result<(), Failure> {
        let commit = self.core.commit();
        if self.upkeep.hinted < commit {
            match self.log.wal().submit(vec![log::hard_state(self.core.epoch(), commit)]) {
                Ok(_) => self.upkeep.hinted = commit,
                Err(storage::SubmitError::QueueFull | storage::SubmitError::DiskFull) => (),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// States what the digest was at the newest applied entry, for replicas to compare.
    fn log_digest(&mut self, due: bool) {
        let Some((head, root)) = self.digests.last() else { return };
        let since = head.index().0.saturating_sub(self.upkeep.digest_at.0);
        // Its own entry is one of them: alone it is no reason for another.
        let enough = DIGEST_ENTRIES <= since || (due && 1 < since);
        if enough && self.may_lead() {
            let digest = Command::Digest { at: head.index(), root };
            if let Ok(position) = self.append_command(&digest) {
                self.upkeep.digest_at = position.index;
            }
        }
    }

    fn may_lead(&mut self) -> bool {
        let primary = self.core.primary();
        primary.is_some_and(|primary| primary.is_open() && primary.fenced_by().is_none())
    }

    fn checkpoint(&mut self, due: bool) {
        let since = self.upkeep.bytes - self.upkeep.checkpoint_bytes;
        let behind = self.upkeep.persisted < self.applied;
        if behind
            && (due || CHECKPOINT_BYTES <= since)
            && self.apply.try_send(Task::Persist).is_ok()
        {
            self.upkeep.checkpoint_bytes = self.upkeep.bytes;
        }
    }

    /// Drops log that neither a restart nor a connected replica needs, and that is old enough.
    fn compact(&mut self) -> Result<(), Failure> {
        let keep = self.config.store.log_retention_bytes;
        let needed = self.leading.streams.values().map(|stream| stream.needs).min();
        let polite = self.upkeep.beyond(keep).map(|old| needed.map_or(old, |it| old.min(it)));
        // A replica that does not keep up must not fill the disk: a snapshot is its way back.
        let forced = self.upkeep.beyond(keep.saturating_mul(2));
        let Some(through) = polite.max(forced) else { return Ok(()) };
        let through = through.min(self.upkeep.persisted);
        if through < self.upkeep.first || through == Index::ZERO {
            return Ok(());
        }
        let compact = storage::Write::Compact { group: GROUP, through, keep: Vec::new() };
        match self.log.wal().submit(vec![compact]) {
            Ok(_) => {
                tracing::debug!(%through, "log compacted");
                self.upkeep.first = through.next();
                while self.upkeep.sizes.front().is_some_and(|(index, _)| *index <= through) {
                    self.upkeep.sizes.pop_front();
                }
                if let Some(replica) = self.core.replica() {
                    replica.compacted(through.next());
                }
                Ok(())
            }
            Err(storage::SubmitError::QueueFull | storage::SubmitError::DiskFull) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
