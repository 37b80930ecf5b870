//! Where a group's entries are: one run for many entries, not a place for each.
//!
//! A run is a stretch of one group's entries in one segment. Between them stand entries of other
//! groups, so a reader starts at the nearest sparse point and steps over record headers. There is
//! at most one point per [`POINT_BYTES`] of segment and run, which bounds both the memory and how
//! far a reader steps.

use super::ranges::Span;

/// A reader steps over at most this much, plus one record, before it meets what it looks for.
pub(crate) const POINT_BYTES: u64 = 64 * 1024;

/// Offset of one entry of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) index: u64,
    pub(crate) at: u32,
}

/// Entries of one group and term in one segment. Indexes inside may be missing if they are dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) span: Span,
    pub(crate) term: u64,
    pub(crate) segment: u64,
    /// Offset of its first entry. What stands before it was truncated, even if it has an index of
    /// this run.
    pub(crate) begin: u64,
    /// Entries written, dead or live; with `bytes` this gives the average size.
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    /// Rising in both fields, the first at or before the first live entry.
    pub(crate) points: Vec<Point>,
}

impl Run {
    /// With its first entry.
    pub(crate) fn new(term: u64, segment: u64, first: u64) -> Self {
        let span = Span::new(first, first);
        Self { span, term, segment, begin: 0, entries: 0, bytes: 0, points: Vec::new() }
    }

    /// Notes one more entry, at the end.
    pub(crate) fn add(&mut self, index: u64, at: u64, bytes: u64) {
        if self.entries == 0 {
            self.begin = at;
        }
        self.span.end = index;
        self.entries += 1;
        self.bytes += bytes;
        self.add_point(index, at);
    }

    /// Notes where an entry is, unless the last point is near.
    pub(crate) fn add_point(&mut self, index: u64, at: u64) {
        let is_near = |last: &Point| at < u64::from(last.at) + POINT_BYTES || index <= last.index;
        if !self.points.last().is_some_and(is_near) {
            let at = u32::try_from(at).expect("a segment is at most a few GiB");
            self.points.push(Point { index, at });
        }
    }

    /// Where to start reading for `index`.
    pub(crate) fn point_before(&self, index: u64) -> Option<Point> {
        let after = self.points.partition_point(|point| point.index <= index);
        after.checked_sub(1).map(|at| self.points[at])
    }

    /// About how many bytes of it are live, given how many entries are.
    pub(crate) fn live_bytes(&self, live_entries: u64) -> u64 {
        if live_entries >= self.entries {
            return self.bytes;
        }
        let bytes = u128::from(self.bytes) * u128::from(live_entries);
        u64::try_from(bytes / u128::from(self.entries)).expect("less than self.bytes")
    }

    /// Gives up the indexes outside `span`, and the points nobody needs then.
    pub(crate) fn clip(&mut self, span: Span) {
        self.span = span;
        let first = self.points.partition_point(|point| point.index <= span.start);
        self.points.drain(..first.saturating_sub(1));
        let after = self.points.partition_point(|point| point.index <= span.end);
        self.points.truncate(after);
    }

    /// A clipped copy.
    pub(crate) fn clipped(&self, span: Span) -> Self {
        let mut run = self.clone();
        run.clip(span);
        run
    }
}

/// Takes what is in `sources` out of `runs`, and puts in what holds the same entries now.
pub(crate) fn relocate(runs: &mut Vec<Run>, sources: &[u64], moved: &[Run]) {
    let mut placed = Vec::with_capacity(runs.len());
    for run in runs.drain(..) {
        if !sources.contains(&run.segment) {
            placed.push(run);
            continue;
        }
        // What was truncated meanwhile is no longer in `run`, and must not come back.
        let same = moved.iter().filter(|new| new.term == run.term);
        placed.extend(same.filter_map(|new| Some(new.clipped(new.span.intersect(run.span)?))));
    }
    *runs = placed;
}

/// Drops what is dead everywhere and narrows the rest to its live ends.
pub(crate) fn trim(runs: &mut Vec<Run>, live: impl Fn(Span) -> Option<Span>) {
    runs.retain_mut(|run| {
        let Some(span) = live(run.span) else { return false };
        if span != run.span {
            run.clip(span);
        }
        true
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u64, last: u64, segment: u64) -> Run {
        let mut run = Run::new(1, segment, first);
        for index in first..=last {
            run.add(index, 1024 + index * 50_000, 50_000);
        }
        run
    }

    #[test]
    fn points_are_sparse_and_found_from_behind() {
        let run = run(1, 10, 1);
        let indexes: Vec<u64> = run.points.iter().map(|point| point.index).collect();
        assert_eq!(indexes, [1, 3, 5, 7, 9]);
        assert_eq!(run.point_before(4).unwrap().index, 3);
        assert_eq!(run.point_before(0), None);
    }

    #[test]
    fn a_clipped_run_still_finds_its_first_entry() {
        let clipped = run(1, 10, 1).clipped(Span::new(4, 6));
        let indexes: Vec<u64> = clipped.points.iter().map(|point| point.index).collect();
        assert_eq!(indexes, [3, 5]);
        assert_eq!(clipped.live_bytes(3), 150_000);
    }

    #[test]
    fn what_was_truncated_during_a_move_does_not_come_back() {
        let mut runs = vec![run(1, 4, 1), run(5, 9, 2)];
        relocate(&mut runs, &[1], &[run(1, 7, 3)]);
        let places: Vec<(u64, u64, u64)> =
            runs.iter().map(|run| (run.span.start, run.span.end, run.segment)).collect();
        assert_eq!(places, [(1, 4, 3), (5, 9, 2)]);
    }
}
