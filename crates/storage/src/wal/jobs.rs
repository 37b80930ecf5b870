//! Housekeeping off the ack path: spare segments, dead segments, rewriting.
//!
//! The log names one job at a time; whoever owns the log runs it, on another thread or in place,
//! and brings back the result. A job touches only files that no batch goes to.
//!
//! **Invariant:** a segment is given up only after the write that killed its last entry is durable.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use consensus::GroupId;

use super::admission::Purpose;
use super::format::file_name;
use super::log::Log;
use super::rewrite::{Moved, Rewrite};
use super::segments::{Spare, spare_name};
use super::state::Segment;
use crate::error::{Fault, SubmitError, WriteError};
use crate::file_system::{File, FileSystem};
use crate::mutants::{self, Mutant};

/// Spares in waiting: one is reserved for what frees space on a full disk.
const SPARES: usize = 2;
/// Zeros are written in pieces of this size, so that a job can be stopped soon.
const ZEROS: usize = 1 << 20;
/// Zeros are synced in pieces of this size: the log's own fsyncs may have to wait for them (B37).
const SYNC_ZEROS: u64 = 8 << 20;

/// What the log keeps for itself about its files.
#[derive(Default)]
pub(crate) struct Housekeeping {
    spares: Vec<Spare>,
    next_number: u64,
    running: bool,
    /// The newest attempt to reserve space failed.
    full: bool,
    /// Try again although it is full.
    pub(crate) retry: bool,
    /// Something may have become dead.
    dirty: bool,
    /// Something may have become worth rewriting.
    mostly_dead: bool,
    dead: Vec<(u64, Segment)>,
    /// Damage that a job met; whoever admits writes has to know.
    pub(crate) faults: Vec<(GroupId, Fault)>,
    /// A cold segment whose install record is on its way.
    pub(crate) arriving: Option<(u64, Segment)>,
}

impl Housekeeping {
    pub(crate) fn new(next_number: u64, spares: Vec<Spare>) -> Self {
        Self { spares, next_number, dirty: true, mostly_dead: true, ..Self::default() }
    }

    /// Entries have died or moved, or a segment was sealed.
    pub(crate) fn note_change(&mut self) {
        self.dirty = true;
        self.mostly_dead = true;
    }

    pub(crate) fn take_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }

    pub(crate) fn take_spare(&mut self) -> Option<Spare> {
        self.spares.pop()
    }

    pub(crate) fn spare_bytes(&self) -> u64 {
        self.spares.iter().map(|spare| spare.size).sum()
    }

    /// True while new entries have no room because space could not be reserved.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Whether `left` bytes in the segment and the spares are enough to accept writes.
    pub(crate) fn space(
        &self,
        left: u64,
        purpose: Purpose,
        queue_bytes: u64,
    ) -> Result<(), SubmitError> {
        // What was accepted already, queued and in flight, must still fit.
        let roomy = left >= 2 * queue_bytes;
        let spares = self.spares.len();
        let purpose = if mutants::is(Mutant::NoReserve) { Purpose::Upkeep } else { purpose };
        let grow = spares >= SPARES || (roomy && (spares > 0 || !self.full));
        // Once the reserve is in use, most of it is left to compactions.
        let reserve = spares > 0 || left >= 3 * queue_bytes + queue_bytes / 2;
        let enough = match purpose {
            Purpose::Grow => grow,
            Purpose::Free => grow || (self.full && reserve),
            Purpose::Upkeep => roomy || spares > 0 || !self.full,
        };
        match (enough, self.full) {
            (true, _) => Ok(()),
            (false, true) => Err(SubmitError::DiskFull),
            (false, false) => Err(SubmitError::QueueFull),
        }
    }
}

/// A piece of work that the log wants done.
pub struct Job {
    file_system: Arc<dyn FileSystem>,
    dir: PathBuf,
    work: Work,
}

pub(crate) enum Work {
    /// Reserve space for a segment.
    Prepare { number: u64, size: u64, write_zeros: bool },
    /// Recycle (with a new name) or remove dead segments.
    Discard { files: Vec<Discard> },
    /// Move live entries to a cold segment.
    Rewrite(Rewrite),
}

pub(crate) struct Discard {
    name: String,
    /// Becomes a spare of this name.
    recycle: Option<(String, Arc<dyn File>, u64)>,
}

/// The result of a job. Give it to [`Log::finish_job`].
pub struct JobDone {
    result: Result<Outcome, WriteError>,
}

enum Outcome {
    Spares { spares: Vec<Spare>, freed: bool },
    Moved(Box<Moved>),
    Cancelled,
}

impl Job {
    /// Does it. Blocks on the disk; returns soon after `cancel` is set.
    #[must_use]
    pub fn run(self, cancel: &AtomicBool) -> JobDone {
        let result = match &self.work {
            Work::Prepare { number, size, write_zeros } => {
                self.prepare(*number, *size, write_zeros.then_some(cancel))
            }
            Work::Discard { files } => self.discard(files),
            Work::Rewrite(rewrite) => rewrite
                .run(&*self.file_system, &self.dir, cancel)
                .map(|moved| moved.map_or(Outcome::Cancelled, |m| Outcome::Moved(Box::new(m)))),
        };
        JobDone { result }
    }

    fn prepare(
        &self,
        number: u64,
        size: u64,
        write_zeros: Option<&AtomicBool>,
    ) -> Result<Outcome, WriteError> {
        let (name, temporary) = (spare_name(number), format!("{number:016x}.new"));
        let (from, to) = (self.dir.join(&temporary), self.dir.join(&name));
        let create = || {
            let file = self.file_system.create(&from)?;
            file.allocate(size)?;
            if let Some(cancel) = write_zeros
                && !fill_with_zeros(&*file, size, cancel)?
            {
                return Ok(None);
            }
            file.sync_data()?;
            self.file_system.rename(&from, &to)?;
            self.file_system.sync_dir(&self.dir)?;
            Ok(Some(file))
        };
        match create() {
            Ok(Some(file)) => {
                let spares = vec![Spare { name, file, size, zeroed: true }];
                Ok(Outcome::Spares { spares, freed: false })
            }
            Ok(None) => Ok(Outcome::Cancelled),
            Err(source) => {
                // Gives back what little space there was; a leftover goes at the next start.
                let _ = self.file_system.remove(&from);
                Err(WriteError { action: "reserve space in", path: from.clone(), source })
            }
        }
    }

    fn discard(&self, files: &[Discard]) -> Result<Outcome, WriteError> {
        let mut spares = Vec::new();
        let mut freed = false;
        for Discard { name, recycle } in files {
            let path = self.dir.join(name);
            let failed = |source| WriteError { action: "give up", path: path.clone(), source };
            match recycle {
                Some((name, file, size)) => {
                    self.file_system.rename(&path, &self.dir.join(name)).map_err(failed)?;
                    let (name, file, size) = (name.clone(), Arc::clone(file), *size);
                    spares.push(Spare { name, file, size, zeroed: false });
                }
                None => match self.file_system.remove(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(failed(error));
                    }
                    _ => freed = true,
                },
            }
        }
        let failed = |source| WriteError { action: "sync", path: self.dir.clone(), source };
        self.file_system.sync_dir(&self.dir).map_err(failed)?;
        Ok(Outcome::Spares { spares, freed })
    }
}

/// Writes every block once, so that later fsyncs need not record that blocks became valid.
/// `Ok(false)` if it was cancelled.
fn fill_with_zeros(file: &dyn File, size: u64, cancel: &AtomicBool) -> io::Result<bool> {
    let zeros = vec![0; ZEROS];
    let mut at = 0;
    while at < size {
        if cancel.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let len = usize::try_from(size - at).unwrap_or(ZEROS).min(ZEROS);
        file.write_at(&zeros[..len], at)?;
        at += len as u64;
        if at.is_multiple_of(SYNC_ZEROS) {
            file.sync_data()?;
        }
    }
    Ok(true)
}

impl Log {
    /// Names the next piece of work, if any and if none is under way.
    pub fn next_job(&mut self) -> Option<Job> {
        if self.housekeeping.running || self.failed.is_some() {
            return None;
        }
        let work = self.discard_work().or_else(|| self.prepare_work());
        let work = work.or_else(|| self.rewrite_work())?;
        self.housekeeping.running = true;
        let (file_system, dir) = (Arc::clone(&self.file_system), self.dir.clone());
        Some(Job { file_system, dir, work })
    }

    fn prepare_work(&mut self) -> Option<Work> {
        let keep = &mut self.housekeeping;
        if keep.spares.len() >= SPARES || (keep.full && !keep.retry) {
            return None;
        }
        // The first is needed soon, so it is only reserved; the second has time to be written, and
        // a log that hardly grows never needs it.
        let write_zeros = !keep.spares.is_empty();
        if write_zeros && self.active.position.at < self.active.size / 4 {
            return None;
        }
        keep.retry = false;
        let number = keep.take_number();
        Some(Work::Prepare { number, size: self.spare_size(), write_zeros })
    }

    fn rewrite_work(&mut self) -> Option<Work> {
        if self.housekeeping.full && !self.housekeeping.retry {
            return None;
        }
        if !std::mem::take(&mut self.housekeeping.mostly_dead) {
            return None;
        }
        let rewrite = Rewrite::choose(self, self.housekeeping.next_number)?;
        self.housekeeping.next_number += 1;
        self.housekeeping.retry = false;
        Some(Work::Rewrite(rewrite))
    }

    fn discard_work(&mut self) -> Option<Work> {
        if std::mem::take(&mut self.housekeeping.dirty) {
            let mut state = self.view.state_mut();
            for number in state.dead_segments(self.active.number) {
                if let Some(segment) = state.segments.remove(&number) {
                    self.housekeeping.dead.push((number, segment));
                }
            }
        }
        if self.housekeeping.dead.is_empty() {
            return None;
        }
        let size = self.spare_size();
        let keep = &mut self.housekeeping;
        let mut wanted = (SPARES + 1).saturating_sub(keep.spares.len());
        let mut files = Vec::new();
        for (number, segment) in std::mem::take(&mut keep.dead) {
            let name = file_name(number, segment.cold);
            // A reader that still has it open must not see it overwritten: then it is removed.
            let recycle = segment.open.map(|open| open.file).filter(|file| {
                !segment.cold && segment.size >= size && Arc::strong_count(file) == 1 && wanted > 0
            });
            let recycle = recycle.map(|file| {
                wanted -= 1;
                (spare_name(keep.take_number()), file, segment.size)
            });
            files.push(Discard { name, recycle });
        }
        Some(Work::Discard { files })
    }

    /// Takes a job's result back. What it changed becomes durable with the next flush.
    pub fn finish_job(&mut self, done: JobDone) -> Result<(), Arc<WriteError>> {
        self.housekeeping.running = false;
        match done.result {
            Ok(Outcome::Cancelled) => (),
            Ok(Outcome::Spares { spares, freed }) => {
                let keep = &mut self.housekeeping;
                keep.full &= spares.is_empty();
                keep.retry |= freed;
                keep.spares.extend(spares);
            }
            Ok(Outcome::Moved(moved)) => {
                self.housekeeping.full = false;
                self.finish_rewrite(*moved);
            }
            Err(error) if error.source.kind() == io::ErrorKind::StorageFull => {
                tracing::warn!(path = %error.path.display(), "the disk is full");
                self.housekeeping.full = true;
                self.housekeeping.mostly_dead = true;
            }
            Err(error) => return Err(self.fail(error)),
        }
        Ok(())
    }

    /// Lets the next job try to reserve space although the last attempt failed. Call it now and
    /// then while [`is_full`](Self::is_full).
    pub fn retry_space(&mut self) {
        self.housekeeping.retry = true;
    }

    /// True while space could not be reserved.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.housekeeping.is_full()
    }
}
