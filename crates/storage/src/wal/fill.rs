//! Entries below the log of a group that was reset behind a snapshot: those that the snapshot's
//! reader needs and this log did not have, brought from another member's.
//!
//! They are records like all others; that they belong below shows in their index. They may fall
//! anywhere between entries that were kept, so a run that has a hole there is split: a reader steps
//! through a run in the order of the file.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use consensus::{GroupId, Index};

use super::ranges::{Ranges, Span};
use super::runs::Run;
use super::state::{Group, Placed, Segment, State};
use crate::mutants::{self, Mutant};

impl Group {
    /// Notes an entry at or below `base`. False if it is not wanted: it is there already, or nothing
    /// is missing.
    pub(super) fn refill(&mut self, entry: Placed, segment: u64) -> bool {
        let Placed { term, index, at, bytes } = entry;
        if !self.filling || self.live(Span::new(index, index)).next().is_some() {
            // Its record stands there all the same, and may be met by who reads on behind another.
            self.filled_to = None;
            return false;
        }
        let mut place = self.runs.partition_point(|run| run.span.start < index);
        let before = place.checked_sub(1);
        if let Some(before) = before.filter(|before| index < self.runs[*before].span.end)
            && !mutants::is(Mutant::RefillNoSplit)
        {
            // Both begin and end with what is live, for somebody may fill in what is next to it.
            let run = &self.runs[before];
            let last = self.retained.last_before(index).unwrap_or(run.span.start);
            let next = self.next_live(index).unwrap_or(run.span.end);
            let left = run.clipped(Span::new(run.span.start, last));
            let right = run.clipped(Span::new(next, run.span.end));
            self.runs.splice(before..=before, [left, right]);
        }
        let follows = |run: &Run| {
            let is_next = self.filled_to == Some(run.span.end);
            is_next && run.segment == segment && run.term == term
        };
        if !before.is_some_and(|before| follows(&self.runs[before])) {
            self.runs.insert(place, Run::new(term, segment, index));
            place += 1;
        }
        self.runs[place - 1].add(index, at, bytes);
        self.retained.insert(Span::new(index, index));
        self.filled_to = Some(index);
        true
    }

    /// Nothing is missing any more.
    pub(super) fn end_filling(&mut self) {
        self.filling = false;
        self.filled_to = None;
        self.split = true;
        self.trim();
    }

    /// What of these indexes is not live.
    pub(super) fn missing(&self, wanted: &[RangeInclusive<Index>]) -> Vec<RangeInclusive<Index>> {
        let spans = wanted.iter().map(|range| range.start().0..=range.end().0);
        let wanted = Ranges::from_inclusive(&spans.collect::<Vec<_>>());
        let mut missing = Vec::new();
        for span in wanted.spans() {
            let mut from = span.start;
            for live in self.live(*span) {
                if from < live.start {
                    missing.push(Index(from)..=Index(live.start - 1));
                }
                from = live.end + 1;
            }
            if from <= span.end {
                missing.push(Index(from)..=Index(span.end));
            }
        }
        missing
    }
}

impl State {
    /// Groups whose entries behind their snapshots reach into the oldest segments, by segment.
    pub(super) fn pinning(&self, segments: usize) -> Vec<GroupId> {
        let sealed = |(number, segment): &(&u64, &Segment)| {
            !segment.cold && self.segments.last_key_value().is_some_and(|(last, _)| last != *number)
        };
        let oldest: BTreeSet<u64> =
            self.segments.iter().filter(sealed).take(segments).map(|(number, _)| *number).collect();
        let mut pinning: BTreeMap<u64, Vec<GroupId>> = BTreeMap::new();
        for (group, log) in &self.groups {
            // A snapshot lets nothing else go.
            let behind = log.runs.iter().filter(|run| log.base < run.span.end);
            if let Some(first) = behind.map(|run| run.segment).filter(|n| oldest.contains(n)).min()
            {
                pinning.entry(first).or_default().push(*group);
            }
        }
        pinning.into_values().flatten().collect()
    }
}
