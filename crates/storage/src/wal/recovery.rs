//! Opening a log: what the files say, and what is done about it.
//!
//! The newest segment begins with a checkpoint of everything before it; folding its records over
//! that gives the state. The older segments are read for two things: where their live entries
//! are, and whether every one of them is still intact.
//!
//! **Invariant:** only an unfinished last batch is cut. Damage stays on disk as it is, and every
//! group that lost something acknowledged is reported faulty, with file and offset.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use consensus::GroupId;

use super::admission::Admission;
use super::batch::{BatchBuffer, Position};
use super::checkpoint::{self, Checkpoint};
use super::files::{Files, Opened, io_error};
use super::format::{BadHeader, HEADERS, Kind, SegmentHeader, VERSION, file_name};
use super::jobs::Housekeeping;
use super::locate::Locator;
use super::log::Log;
use super::scan::{Damage, Found, Verdict, Walk, scan, walk_batch};
use super::segments::{Active, Head, begin, create_spare, spare_size};
use super::source::FileSource;
use super::state::{OpenFile, Placed, Segment, State};
use super::stats::Stats;
use super::view::LogView;
use crate::config::Config;
use crate::error::{Fault, OpenError, WriteError};
use crate::file_system::{FileSystem, Lock};
use crate::mutants::{self, Mutant};
use crate::types::IoToken;

/// What opening a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The last batch was incomplete, so nobody was told it is durable: it was cut off here.
    pub torn: Option<Fault>,
    /// Every damaged place that was met, whether or not it cost a group anything.
    pub damage: Vec<Fault>,
    /// Groups that lost something acknowledged. Each has to be reset or removed.
    pub faulty: Vec<(GroupId, Fault)>,
}

/// Name of the lock file.
const LOCK: &str = "LOCK";

impl Log {
    /// Opens the log in `dir`, or creates it. Takes the directory lock.
    pub fn open(
        file_system: Arc<dyn FileSystem>,
        dir: &Path,
        config: Config,
    ) -> Result<(Self, Recovery), OpenError> {
        config.validate().map_err(OpenError::Config)?;
        file_system.create_dir_all(dir).map_err(io_error("create", dir))?;
        let lock_path = dir.join(LOCK);
        let lock = file_system.lock(&lock_path).map_err(io_error("lock", &lock_path))?;
        let lock = lock.ok_or_else(|| OpenError::Locked { dir: dir.to_owned() })?;
        let files = Files::list(&*file_system, dir)?;
        let mut opening = Opening {
            file_system,
            dir: dir.to_owned(),
            state: State::new(config.cache_bytes),
            config,
            recovery: Recovery::default(),
        };
        let active = match files.hot.last() {
            Some(newest) => opening.recover(*newest, &files)?,
            None => opening.create(&files)?,
        };
        opening.finish(active, files, lock)
    }
}

/// A log on its way to being open.
pub(crate) struct Opening {
    pub(crate) file_system: Arc<dyn FileSystem>,
    pub(crate) dir: PathBuf,
    config: Config,
    pub(crate) state: State,
    pub(crate) recovery: Recovery,
}

impl Opening {
    fn create(&mut self, files: &Files) -> Result<Active, OpenError> {
        if let Some(cold) = files.cold.first() {
            // Somebody removed the segments that say what is in the cold ones.
            let file = self.dir.join(file_name(*cold, true));
            return Err(OpenError::Corrupt { file, offset: 0 });
        }
        self.next_segment(files.next_number, Position { at: 0, lsn: 1, chain: 0 })
    }

    /// Begins a segment with the state as it is.
    fn next_segment(&mut self, number: u64, after: Position) -> Result<Active, OpenError> {
        let checkpoint = checkpoint::encode(&self.state);
        let size = spare_size(self.config.segment_bytes, HEADERS + 2 * checkpoint.len() as u64);
        let spare =
            create_spare(&*self.file_system, &self.dir, number, size).map_err(open_error)?;
        let head = Head { number, after, checkpoint, room: 0 };
        begin(&*self.file_system, &self.dir, spare, &head).map_err(open_error)
    }

    fn recover(&mut self, newest: u64, files: &Files) -> Result<Active, OpenError> {
        let name = file_name(newest, false);
        let path = self.dir.join(&name);
        let corrupt = |offset| OpenError::Corrupt { file: path.clone(), offset };
        let opened = Opened::new(&*self.file_system, &path, newest)?.ok_or_else(|| corrupt(0))?;
        let Opened { file, header, bad_copy } = opened;
        if let Some(at) = bad_copy {
            self.note(&name, at);
        }
        let mut source = FileSource::new(Arc::clone(&file)).map_err(io_error("read", &path))?;
        let checkpoint = self
            .read_checkpoint(&mut source, &header, &name)
            .map_err(io_error("read", &path))?
            .ok_or_else(|| corrupt(HEADERS))?;
        self.state.groups = checkpoint.groups;
        for listed in checkpoint.segments {
            let segment = Segment::listed(listed.cold, listed.end);
            self.state.segments.insert(listed.number, segment);
        }
        let open = OpenFile { file: Arc::clone(&file), salt: header.salt };
        let start = header.data_start();
        let size = file.size().map_err(io_error("read", &path))?;
        let position = Position { at: start, lsn: header.first_lsn + 2, chain: header.chain };
        let mut active = Active { number: newest, open, position, start, size };
        self.state.segments.insert(newest, active.segment());

        let verdict = self.fold(&mut source, &header, position).map_err(io_error("read", &path))?;
        active.position = verdict.end;
        if let Some(segment) = self.state.segments.get_mut(&newest) {
            segment.end = verdict.end.at;
        }
        self.judge_newest(&name, &verdict.damage);
        self.settle(&active, &header, &verdict).map_err(io_error("write", &path))?;
        Locator::new(self).locate(newest)?;
        self.report_faulty();
        if verdict.damage.is_empty() {
            return Ok(active);
        }
        // Nothing is written behind damage: what is there may still be needed.
        let position = Position { lsn: active.position.lsn + 1, ..active.position };
        self.next_segment(files.next_number, position)
    }

    /// The first of the two checkpoints that is intact.
    fn read_checkpoint(
        &mut self,
        source: &mut FileSource,
        header: &SegmentHeader,
        name: &str,
    ) -> io::Result<Option<Checkpoint>> {
        let mut intact = None;
        for copy in 0..2 {
            let at = HEADERS + copy * u64::from(header.checkpoint_bytes);
            let expected = Position { at, lsn: header.first_lsn + copy, chain: header.chain };
            let checkpoint = match walk_batch(source, header.salt, at)? {
                Walk::Whole(batch) if batch.follows(expected) => batch
                    .records
                    .iter()
                    .find(|found| found.header.kind == Kind::Checkpoint)
                    .and_then(|found| checkpoint::decode(&found.payload)),
                _ => None,
            };
            match checkpoint {
                Some(checkpoint) => intact = intact.or(Some(checkpoint)),
                None => self.note(name, at),
            }
        }
        Ok(intact)
    }

    /// Applies the records of the newest segment.
    fn fold(
        &mut self,
        source: &mut FileSource,
        header: &SegmentHeader,
        from: Position,
    ) -> io::Result<Verdict> {
        let state = &mut self.state;
        let mut unknown = Vec::new();
        let mut verdict = scan(source, header, from, None, &mut |found: Found| {
            let Found { header: record, at, payload } = found;
            if record.kind == Kind::Entry {
                let placed =
                    Placed { term: record.term, index: record.index, at, bytes: record.size() };
                state.take(GroupId(record.group), header.number, placed, None);
            } else if let Some(op) = checkpoint::decode_op(&record, &payload) {
                state.replay(op);
            } else {
                unknown.push(Damage { at, group: None });
            }
        })?;
        verdict.damage.append(&mut unknown);
        Ok(verdict)
    }

    /// Blames the groups that the damage may have hit.
    fn judge_newest(&mut self, name: &str, damage: &[Damage]) {
        for Damage { at, group } in damage {
            self.note(name, *at);
            let fault = Fault { file: name.to_owned(), offset: *at };
            match group {
                Some(Some(group)) => {
                    let group = self.state.groups.entry(GroupId(*group)).or_default();
                    group.fault.get_or_insert(fault);
                }
                // Only padding.
                Some(None) => (),
                None => self.state.groups.values_mut().for_each(|group| {
                    group.fault.get_or_insert(fault.clone());
                }),
            }
        }
    }

    /// Removes an unfinished batch, and makes sure that what was just read is durable: it may
    /// have been in memory only when the process died.
    fn settle(
        &mut self,
        active: &Active,
        header: &SegmentHeader,
        verdict: &Verdict,
    ) -> io::Result<()> {
        if let Some(until) = verdict.torn_until {
            let at = verdict.end.at;
            tracing::warn!(file = active.file_name(), offset = at, "unfinished batch cut off");
            self.recovery.torn = Some(Fault { file: active.file_name(), offset: at });
            if header.zeroed {
                let len = usize::try_from(until - at).map_err(io::Error::other)?;
                active.open.file.write_at(&vec![0; len], at)?;
            }
        }
        if verdict.damage.is_empty() {
            // Also where a copy of the directory lost the reserved space.
            active.open.file.allocate(active.size.max(self.config.segment_bytes))?;
        }
        if mutants::is(Mutant::NoSyncOnOpen) {
            return Ok(());
        }
        active.open.file.sync_data()?;
        self.file_system.sync_dir(&self.dir)
    }

    pub(crate) fn note(&mut self, file: &str, offset: u64) {
        tracing::error!(file, offset, "the log is damaged");
        self.recovery.damage.push(Fault { file: file.to_owned(), offset });
    }

    fn report_faulty(&mut self) {
        let faulty = self.state.groups.iter();
        self.recovery.faulty =
            faulty.filter_map(|(group, log)| Some((*group, log.fault.clone()?))).collect();
    }

    fn finish(
        mut self,
        mut active: Active,
        files: Files,
        lock: Box<dyn Lock>,
    ) -> Result<(Log, Recovery), OpenError> {
        active.size = active.open.file.size().map_err(io_error("read", &self.dir))?;
        self.state.segments.insert(active.number, active.segment());
        self.state.recount();
        let known = |number: u64, cold: bool| {
            self.state.segments.get(&number).is_some_and(|segment| segment.cold == cold)
        };
        let needed = spare_size(self.config.segment_bytes, active.start);
        let spares = files.tidy(&*self.file_system, &self.dir, needed, known)?;
        let next_number = files.next_number.max(active.number) + 1;
        let confirmed = active.position.at == active.start;
        let log = Log {
            admission: Admission::new(&self.state),
            view: LogView::new(self.state, self.dir.clone()),
            file_system: self.file_system,
            dir: self.dir,
            config: self.config,
            active,
            batch: BatchBuffer::default(),
            pending: Vec::new(),
            staged: IoToken(0),
            durable: IoToken(0),
            failed: None,
            confirmed,
            housekeeping: Housekeeping::new(next_number, spares),
            stats: Stats::default(),
            _lock: lock,
        };
        Ok((log, self.recovery))
    }
}

fn open_error(error: WriteError) -> OpenError {
    OpenError::Io { action: error.action, path: error.path, source: error.source }
}

/// A refusal that names the file, if its header says it is too new.
pub(crate) fn check_version(bad: BadHeader, path: &Path) -> Result<(), OpenError> {
    match bad {
        BadHeader::Damaged => Ok(()),
        BadHeader::Version(found) => {
            Err(OpenError::Version { file: path.to_owned(), found, supported: VERSION })
        }
    }
}
