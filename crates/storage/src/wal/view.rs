//! What readers see of the log, on any thread: the durable state, and entries by index.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use consensus::{GroupId, Index, Term};

use super::format::file_name;
use super::ranges::{Ranges, Span};
use super::read::{Collected, Fail, Plan};
use super::state::{Group, State};
use crate::error::{Fault, ReadError};
use crate::types::GroupState;
use consensus::Entry;

/// Shares the durable state of a log with its writer. Clones are cheap.
#[derive(Clone)]
pub struct LogView {
    state: Arc<RwLock<State>>,
    dir: Arc<PathBuf>,
}

/// What to do next for a reader.
enum Step {
    /// Nothing (more) to read.
    End,
    /// The tail cache had it; go on behind.
    Cached,
    Disk(Plan),
    /// The segment is missing, or so damaged that it could not be opened.
    Lost(u64),
}

impl LogView {
    pub(crate) fn new(state: State, dir: PathBuf) -> Self {
        Self { state: Arc::new(RwLock::new(state)), dir: Arc::new(dir) }
    }

    /// Held for lookups only. A panic elsewhere leaves the state as the last whole operation did.
    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is durable of a group.
    #[must_use]
    pub fn group(&self, group: GroupId) -> Option<GroupState> {
        self.state().groups.get(&group).map(Group::state)
    }

    /// Every group, sorted.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupId> {
        self.state().groups.keys().copied().collect()
    }

    /// The term of a live entry, or of the one before the first.
    #[must_use]
    pub fn term(&self, group: GroupId, index: Index) -> Option<Term> {
        self.state().groups.get(&group)?.term(index.0).map(Term)
    }

    /// What of these indexes is not live.
    #[must_use]
    pub fn missing(
        &self,
        group: GroupId,
        wanted: &[RangeInclusive<Index>],
    ) -> Vec<RangeInclusive<Index>> {
        match self.state().groups.get(&group) {
            Some(log) => log.missing(wanted),
            None => wanted.iter().filter(|range| !range.is_empty()).cloned().collect(),
        }
    }

    /// The groups whose logs reach back into the oldest segments; see [`Wal`](super::Wal::pinning).
    #[must_use]
    pub fn pinning(&self, segments: usize) -> Vec<GroupId> {
        self.state().pinning(segments)
    }

    /// Entries from memory alone; `None` if the first one is not there. See
    /// [`read`](Self::read) for `max_bytes`.
    #[must_use]
    pub fn cached(&self, group: GroupId, from: Index, max_bytes: usize) -> Option<Vec<Entry>> {
        let state = self.state();
        let log = state.groups.get(&group).filter(|log| log.fault.is_none())?;
        let first = log.next_live(from.0.max(1))?;
        let mut collected = Collected::new(max_bytes);
        let all = Ranges::from_spans(vec![Span::new(first, u64::MAX - 1)]);
        collect_cached(log, &all, first, &mut collected).then_some(collected.entries)
    }

    /// Live entries from `from` on: up to `max_bytes` of payload, but at least one if there is
    /// one. Compacted holes are skipped. Blocks on the disk for what the tail cache lacks.
    pub fn read(
        &self,
        group: GroupId,
        from: Index,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let all = Ranges::from_spans(vec![Span::new(from.0.max(1), u64::MAX - 1)]);
        self.collect(group, &all, max_bytes)
    }

    /// Like [`read`](Self::read), of these indexes alone.
    pub fn read_ranges(
        &self,
        group: GroupId,
        ranges: &[RangeInclusive<Index>],
        max_bytes: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let spans = ranges.iter().map(|range| range.start().0..=range.end().0);
        let asked = Ranges::from_inclusive(&spans.collect::<Vec<_>>());
        self.collect(group, &asked, max_bytes)
    }

    fn collect(
        &self,
        group: GroupId,
        asked: &Ranges,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let mut collected = Collected::new(max_bytes);
        loop {
            let behind = collected.entries.last().map_or(1, |last| last.index.0 + 1);
            match self.step(group, (asked, behind), &mut collected)? {
                Step::End => return Ok(collected.entries),
                Step::Cached => (),
                Step::Lost(segment) => return Err(self.corrupt(group, segment, 0)),
                Step::Disk(plan) => match plan.read(&mut collected) {
                    Ok(None) => (),
                    Ok(Some(_)) => return Ok(collected.entries),
                    // Moved or dropped while we read: look it up again.
                    Err(_) if !self.is_current(&plan) => (),
                    Err(Fail::Io(source)) => {
                        let path = self.path(plan.segment);
                        return Err(ReadError::Io { path, source });
                    }
                    Err(Fail::Corrupt(at)) => return Err(self.corrupt(group, plan.segment, at)),
                },
            }
        }
    }

    fn step(
        &self,
        group: GroupId,
        (asked, from): (&Ranges, u64),
        collected: &mut Collected,
    ) -> Result<Step, ReadError> {
        let state = self.state();
        let log = state.groups.get(&group).ok_or(ReadError::UnknownGroup { group })?;
        if let Some(Fault { file, offset }) = &log.fault {
            return Err(ReadError::Corrupt { group, file: self.dir.join(file), offset: *offset });
        }
        let Some(first) = next_wanted(log, asked, from) else { return Ok(Step::End) };
        let before = collected.entries.len();
        if collect_cached(log, asked, first, collected) {
            let added = collected.entries.len() > before;
            return Ok(if added { Step::Cached } else { Step::End });
        }
        Ok(plan(&state, (group, log), asked, first))
    }

    /// False if the entries that `plan` looked for have moved or are gone.
    fn is_current(&self, plan: &Plan) -> bool {
        let state = self.state();
        let first = plan.wanted.first().map_or(0, |span| span.start);
        state.groups.get(&plan.group).and_then(|log| log.run_of(first)).is_some_and(|run| {
            run.segment == plan.segment
                && run.point_before(first).is_some_and(|point| u64::from(point.at) == plan.at)
        })
    }

    /// Marks the group: what is damaged once is not served again.
    fn corrupt(&self, group: GroupId, segment: u64, offset: u64) -> ReadError {
        let file = self.path(segment);
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(log) = self.state_mut().groups.get_mut(&group) {
            log.fault.get_or_insert(Fault { file: name, offset });
        }
        tracing::error!(%group, file = %file.display(), offset, "entry is damaged on disk");
        ReadError::Corrupt { group, file, offset }
    }

    fn path(&self, segment: u64) -> PathBuf {
        let cold = self.state().segments.get(&segment).is_some_and(|segment| segment.cold);
        self.dir.join(file_name(segment, cold))
    }
}

/// What is live and asked for, from here on.
fn wanted<'a>(log: &'a Group, asked: &'a Ranges, within: Span) -> impl Iterator<Item = Span> + 'a {
    asked.within(within).flat_map(|span| log.live(span))
}

fn next_wanted(log: &Group, asked: &Ranges, from: u64) -> Option<u64> {
    wanted(log, asked, Span::new(from, u64::MAX)).next().map(|span| span.start)
}

/// Takes what is asked for from `first` on out of the tail cache. False if that one is not there.
fn collect_cached(log: &Group, asked: &Ranges, first: u64, into: &mut Collected) -> bool {
    let Some(entries) = log.tail.from(first) else { return false };
    // Most tails have no hole; then the first span is all there is to check.
    let mut live = Span::new(1, 0);
    for entry in entries {
        let index = entry.index.0;
        if index > live.end {
            match wanted(log, asked, Span::new(index, u64::MAX)).next() {
                Some(next) => live = next,
                None => break,
            }
        }
        if index < live.start {
            continue;
        }
        if !into.has_room(entry.payload.len()) {
            break;
        }
        into.push(entry.clone());
    }
    true
}

/// How to read `first` and what follows it in the same run.
fn plan(state: &State, (group, log): (GroupId, &Group), asked: &Ranges, first: u64) -> Step {
    let Some(run) = log.run_of(first) else { return Step::End };
    let segment = state.segments.get(&run.segment);
    let open = segment.and_then(|segment| segment.open.clone());
    let (Some(segment), Some(open), Some(point)) = (segment, open, run.point_before(first)) else {
        return Step::Lost(run.segment);
    };
    let last = log.tail.first().map_or(run.span.end, |cached| run.span.end.min(cached - 1));
    let wanted = wanted(log, asked, Span::new(first, last.max(first))).take(MAX_SPANS).collect();
    Step::Disk(Plan {
        group,
        segment: run.segment,
        open,
        at: u64::from(point.at),
        limit: segment.end,
        wanted,
    })
}

/// Ranges looked up at once; a fragmented log takes several rounds.
const MAX_SPANS: usize = 1024;
