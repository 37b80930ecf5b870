//! What the log knows of its groups: a fold over its records.
//!
//! Writing and recovering apply the same operations in the same order, so they cannot disagree.
//! Readers share the state with the one writer behind a lock that is held for no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use consensus::{GroupId, HardState, Index, Term};

use super::format::parse_name;
use super::ranges::{Ranges, Span};
use super::runs::{self, Run};
use super::tail::{Tail, TailCache};
use crate::error::Fault;
use crate::file_system::File;
use crate::mutants::{self, Mutant};
use crate::types::GroupState;
use consensus::Entry;

/// One group. Live entries are `retained` and everything in `base + 1 ..= last`.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) hard_state: HardState,
    /// The last index that a snapshot covers.
    pub(crate) base: u64,
    pub(crate) base_term: u64,
    pub(crate) last: u64,
    pub(crate) last_term: u64,
    pub(crate) retained: Ranges,
    /// Sorted, disjoint; they hold every live entry.
    pub(crate) runs: Vec<Run>,
    /// The next entry does not follow the last run on disk, since that was cut.
    pub(crate) split: bool,
    /// Entries up to `base` may still be filled in.
    pub(crate) filling: bool,
    /// The last one that was, if the next one may follow it on disk.
    pub(crate) filled_to: Option<u64>,
    pub(crate) fault: Option<Fault>,
    pub(crate) tail: Tail,
}

impl Group {
    /// The live indexes inside `within`, in order.
    pub(crate) fn live(&self, within: Span) -> impl Iterator<Item = Span> + '_ {
        let tail = Span::new(self.base + 1, self.last).intersect(within);
        self.retained.within(within).chain(tail)
    }

    pub(crate) fn live_count(&self, within: Span) -> u64 {
        self.live(within).map(Span::len).sum()
    }

    /// The first live index at or above `index`.
    pub(crate) fn next_live(&self, index: u64) -> Option<u64> {
        self.live(Span::new(index, u64::MAX)).next().map(|span| span.start)
    }

    /// The run that holds the live entry `index`.
    pub(crate) fn run_of(&self, index: u64) -> Option<&Run> {
        let at = self.runs.partition_point(|run| run.span.end < index);
        self.runs.get(at).filter(|run| run.span.start <= index)
    }

    /// The term of an entry that is live, or was compacted last.
    pub(crate) fn term(&self, index: u64) -> Option<u64> {
        if index == self.last {
            return Some(self.last_term);
        }
        if index == self.base {
            return Some(self.base_term);
        }
        self.live(Span::new(index, index)).next()?;
        self.run_of(index).map(|run| run.term)
    }

    pub(crate) fn state(&self) -> GroupState {
        let inclusive = |span: &Span| Index(span.start)..=Index(span.end);
        GroupState {
            hard_state: self.hard_state,
            first: Index(self.base + 1),
            last: Index(self.last),
            last_term: Term(self.last_term),
            compacted_term: Term(self.base_term),
            retained: self.retained.spans().iter().map(inclusive).collect(),
            filling: self.filling && !mutants::is(Mutant::FillingForgotten),
            faulty: self.fault.clone(),
        }
    }

    /// Notes one entry at its place. On a damaged log there may be a gap before it.
    fn add(&mut self, entry: Placed, segment: u64) {
        let Placed { term, index, at, bytes } = entry;
        // Across a gap there may stand truncated entries that had the same indexes.
        let fits =
            |run: &Run| run.segment == segment && run.term == term && run.span.end + 1 == index;
        let split = self.split && !mutants::is(Mutant::NoSplit);
        if split || !self.runs.last().is_some_and(fits) {
            self.split = false;
            self.runs.push(Run::new(term, segment, index));
        }
        self.runs.last_mut().expect("just looked or pushed").add(index, at, bytes);
        self.last = index;
        self.last_term = term;
        self.filled_to = None;
    }

    fn truncate(&mut self, from: u64) {
        let before = from.saturating_sub(1).max(self.base);
        if before >= self.last {
            return;
        }
        self.last_term = self.term(before).unwrap_or(self.base_term);
        self.last = before;
        self.split = true;
        self.trim();
    }

    fn compact(&mut self, through: u64, keep: &Ranges) {
        let none = Ranges::default();
        let keep = if mutants::is(Mutant::KeptDropped) { &none } else { keep };
        let through = through + u64::from(mutants::is(Mutant::CompactOneMore));
        let below: Vec<Span> = self.live(Span::new(1, through)).collect();
        let mut retained = Ranges::from_spans(below).intersect(keep);
        for span in self.retained.within(Span::new(through + 1, u64::MAX)) {
            retained.push(span);
        }
        if through > self.base {
            self.base_term = self.term(through).unwrap_or(self.base_term);
            self.base = through;
            self.last = self.last.max(through);
        }
        self.retained = retained;
        self.trim();
    }

    /// The log goes on at `next`; below it `keep` stays. Of a damaged group nothing does.
    fn reset(&mut self, next: u64, term: u64, keep: &Ranges) {
        let hard_state = self.hard_state;
        let base = next.saturating_sub(1);
        let mut kept = Self {
            hard_state,
            base,
            base_term: term,
            last: base,
            last_term: term,
            ..Self::default()
        };
        if self.fault.is_none() && !mutants::is(Mutant::ResetDropsKept) {
            let below: Vec<Span> = self.live(Span::new(1, base)).collect();
            kept.retained = Ranges::from_spans(below).intersect(keep);
            kept.runs = std::mem::take(&mut self.runs);
            kept.split = true;
        }
        *self = kept;
        self.trim();
    }

    pub(super) fn trim(&mut self) {
        let mut runs = std::mem::take(&mut self.runs);
        runs::trim(&mut runs, |span| {
            let mut live = self.live(span);
            let first = live.next()?;
            let last = live.last().unwrap_or(first);
            Some(Span::new(first.start, last.end))
        });
        self.runs = runs;
    }
}

/// An entry and where its record begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) term: u64,
    pub(crate) index: u64,
    pub(crate) at: u64,
    /// Header and payload.
    pub(crate) bytes: u64,
}

/// One operation on the state; the counterpart of a record that is not an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    HardState { group: GroupId, hard_state: HardState },
    Truncate { group: GroupId, from: u64 },
    Compact { group: GroupId, through: u64, keep: Ranges },
    Reset { group: GroupId, next: u64, term: u64, keep: Ranges, filling: bool },
    Filled { group: GroupId },
    Remove { group: GroupId },
    Install(Install),
}

/// Entries now stand in the cold segment `cold`; what `sources` hold of them is dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Install {
    pub(crate) cold: u64,
    /// Where the footer of the cold file begins.
    pub(crate) end: u64,
    pub(crate) sources: Vec<u64>,
    pub(crate) groups: Vec<(GroupId, Vec<Run>)>,
}

/// An open segment file and the seed of its checksums.
#[derive(Clone)]
pub(crate) struct OpenFile {
    pub(crate) file: Arc<dyn File>,
    pub(crate) salt: u32,
}

/// A segment that holds live entries, or the one being written.
pub(crate) struct Segment {
    pub(crate) cold: bool,
    /// Where its first record begins.
    pub(crate) start: u64,
    /// Behind its last durable record.
    pub(crate) end: u64,
    /// Length of the file.
    pub(crate) size: u64,
    /// Bytes of live entries, about.
    pub(crate) live_bytes: u64,
    /// `None` if it is missing or its header is damaged.
    pub(crate) open: Option<OpenFile>,
}

impl Segment {
    /// Known by name only.
    pub(crate) fn listed(cold: bool, end: u64) -> Self {
        Self { cold, start: 0, end, size: 0, live_bytes: 0, open: None }
    }
}

/// All groups and all segments.
pub(crate) struct State {
    pub(crate) groups: BTreeMap<GroupId, Group>,
    pub(crate) segments: BTreeMap<u64, Segment>,
    pub(crate) cache: TailCache,
}

impl State {
    pub(crate) fn new(cache_bytes: usize) -> Self {
        Self {
            groups: BTreeMap::new(),
            segments: BTreeMap::new(),
            cache: TailCache::new(cache_bytes),
        }
    }

    /// Takes one entry that stands in `segment`: at the end of its log, or below it, where it was
    /// missing.
    pub(crate) fn take(
        &mut self,
        group: GroupId,
        segment: u64,
        entry: Placed,
        payload: Option<Entry>,
    ) {
        match self.groups.get_mut(&group) {
            Some(log) if entry.index <= log.base => {
                if log.refill(entry, segment)
                    && let Some(segment) = self.segments.get_mut(&segment)
                {
                    segment.live_bytes += entry.bytes;
                }
            }
            _ => self.append(group, segment, entry, payload),
        }
    }

    /// Adds one entry that stands in `segment`. The payload goes to the tail cache, if given.
    fn append(&mut self, group: GroupId, segment: u64, entry: Placed, payload: Option<Entry>) {
        let log = self.groups.entry(group).or_default();
        log.add(entry, segment);
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.live_bytes += entry.bytes;
        }
        if let Some(payload) = payload {
            self.cache.push(group, &mut log.tail, payload);
        }
    }

    /// Keeps the tail cache within its bound.
    pub(crate) fn shrink_cache(&mut self) {
        self.cache.shrink(&mut self.groups, |group| &mut group.tail);
    }

    pub(crate) fn apply(&mut self, op: Op) {
        match op {
            Op::HardState { group, hard_state } => {
                self.groups.entry(group).or_default().hard_state = hard_state;
            }
            Op::Truncate { group, from } => self.change(group, |log, cache| {
                log.truncate(from);
                cache.truncate(&mut log.tail, log.last + 1);
            }),
            Op::Compact { group, through, keep } => self.change(group, |log, cache| {
                log.compact(through, &keep);
                let first = log.next_live(1).unwrap_or(log.last + 1);
                cache.advance(&mut log.tail, first);
            }),
            Op::Reset { group, next, term, keep, filling } => {
                self.groups.entry(group).or_default();
                self.change(group, |log, cache| {
                    cache.truncate(&mut log.tail, 0);
                    log.reset(next, term, &keep);
                    log.filling = filling;
                });
            }
            Op::Filled { group } => {
                if let Some(log) = self.groups.get_mut(&group) {
                    log.end_filling();
                }
            }
            Op::Remove { group } => {
                self.change(group, |log, cache| {
                    cache.truncate(&mut log.tail, 0);
                    log.reset(1, 0, &Ranges::default());
                });
                self.groups.remove(&group);
            }
            Op::Install(install) => self.install(&install),
        }
    }

    /// Applies an operation that was read back: an installed segment is not open yet, and where
    /// its entries are is looked up later.
    pub(crate) fn replay(&mut self, op: Op) {
        if let Op::Install(Install { cold, end, .. }) = &op {
            self.segments.insert(*cold, Segment::listed(true, *end));
        }
        self.apply(op);
    }

    fn install(&mut self, install: &Install) {
        for (group, moved) in &install.groups {
            self.change(*group, |log, _| {
                runs::relocate(&mut log.runs, &install.sources, moved);
                // Two sources may hold pieces of one stretch; what moved is all there is.
                log.trim();
            });
        }
    }

    /// Changes one group, and what its segments hold live.
    fn change(&mut self, group: GroupId, change: impl FnOnce(&mut Group, &mut TailCache)) {
        let Some(log) = self.groups.get_mut(&group) else { return };
        account(&mut self.segments, log, u64::saturating_sub);
        change(log, &mut self.cache);
        account(&mut self.segments, log, u64::saturating_add);
    }

    /// Counts the live bytes of every segment anew: after a recovery, and once in a while because
    /// what is added per entry and taken off per run are both estimates.
    pub(crate) fn recount(&mut self) {
        self.segments.values_mut().for_each(|segment| segment.live_bytes = 0);
        for log in self.groups.values() {
            account(&mut self.segments, log, u64::saturating_add);
        }
    }

    /// The segments without a live entry, except the one being written, and except where damage
    /// was found: that stays until the group is healed.
    pub(crate) fn dead_segments(&self, active: u64) -> Vec<u64> {
        // `live_bytes` is an estimate, good enough to not look further most of the time.
        let idle =
            |(number, segment): &(&u64, &Segment)| **number != active && segment.live_bytes == 0;
        let idle: Vec<u64> = self.segments.iter().filter(idle).map(|(number, _)| *number).collect();
        if idle.is_empty() {
            return idle;
        }
        let runs = self.groups.values().flat_map(|log| log.runs.iter().map(|run| run.segment));
        let faults = self.groups.values().filter_map(|log| log.fault.as_ref());
        let damaged = faults.filter_map(|fault| parse_name(&fault.file).map(|(number, _)| number));
        let used: BTreeSet<u64> = runs.chain(damaged).collect();
        idle.into_iter().filter(|number| !used.contains(number)).collect()
    }
}

/// Adds or takes off what a group holds live, per segment.
fn account(segments: &mut BTreeMap<u64, Segment>, log: &Group, with: fn(u64, u64) -> u64) {
    for run in &log.runs {
        if let Some(segment) = segments.get_mut(&run.segment) {
            let live = run.live_bytes(log.live_count(run.span));
            segment.live_bytes = with(segment.live_bytes, live);
        }
    }
}
