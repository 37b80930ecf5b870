//! Which entries a fetched snapshot's machine still reads.
//!
//! A machine whose payloads stay in the log is worth nothing without them. So a node confirms a
//! snapshot only when it holds every entry that the machine still reads: those that it had, and the
//! others from another member's log ([`crate::fill`]). Until then it neither votes nor leads, and
//! its process may end at any time: the log remembers that something is missing.

use std::ops::RangeInclusive;

use consensus::{GroupId, Index};
use storage::Wal;

/// Ranges of entries that one write to the log may keep: more would not fit its queue.
const KEEP_MAX: usize = 64 << 10;

/// What becomes of the entries below a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// This node may have them, and then they are what is meant.
    pub(crate) keep: Vec<RangeInclusive<Index>>,
    /// It has not.
    pub(crate) missing: Vec<RangeInclusive<Index>>,
}

impl Needs {
    /// Of a machine as of a snapshot that covers everything `through` there, and that reads these
    /// entries, in a log that is known to be committed up to `trusted`: what it has behind that
    /// may be something else.
    pub(crate) fn of(
        wal: &Wal,
        group: GroupId,
        (retained, through): (Vec<RangeInclusive<Index>>, Index),
        trusted: Index,
    ) -> Self {
        let retained = below(retained, through);
        let keep = below(retained.clone(), trusted);
        let mut missing = wal.missing(group, &keep);
        let behind = retained.into_iter().filter(|range| trusted < *range.end());
        missing.extend(behind.map(|range| (*range.start()).max(trusted.next())..=*range.end()));
        Self { keep: fewer(keep, KEEP_MAX), missing }
    }
}

/// As many ranges of what a snapshot keeps as a compaction takes.
pub(crate) fn kept_by(
    keep: Vec<RangeInclusive<Index>>,
    through: Index,
) -> Vec<RangeInclusive<Index>> {
    fewer(below(keep, through), KEEP_MAX)
}

/// The part of the ranges up to an index.
pub(crate) fn below(
    keep: Vec<RangeInclusive<Index>>,
    through: Index,
) -> Vec<RangeInclusive<Index>> {
    keep.into_iter()
        .filter(|range| *range.start() <= through)
        .map(|range| *range.start()..=(*range.end()).min(through))
        .collect()
}

/// So many ranges at most, by closing the smallest gaps: what is kept too much goes later.
fn fewer(keep: Vec<RangeInclusive<Index>>, max: usize) -> Vec<RangeInclusive<Index>> {
    if keep.len() <= max {
        return keep;
    }
    let gap = |at: usize| keep[at + 1].start().0 - keep[at].end().0;
    let mut gaps: Vec<usize> = (0..keep.len() - 1).collect();
    gaps.select_nth_unstable_by_key(max - 1, |at| std::cmp::Reverse(gap(*at)));
    gaps.truncate(max - 1);
    gaps.sort_unstable();
    let firsts = std::iter::once(0).chain(gaps.iter().map(|at| at + 1));
    let lasts = gaps.iter().copied().chain([keep.len() - 1]);
    firsts.zip(lasts).map(|(first, last)| *keep[first].start()..=*keep[last].end()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_ranges_become_fewer_over_the_smallest_gaps() {
        let ranges = |all: &[(u64, u64)]| -> Vec<RangeInclusive<Index>> {
            all.iter().map(|(first, last)| Index(*first)..=Index(*last)).collect()
        };
        let keep = ranges(&[(1, 2), (4, 4), (20, 22), (25, 25), (90, 90)]);
        assert_eq!(fewer(keep.clone(), 5), keep);
        assert_eq!(fewer(keep.clone(), 3), ranges(&[(1, 4), (20, 25), (90, 90)]));
        assert_eq!(fewer(keep.clone(), 2), ranges(&[(1, 25), (90, 90)]));
        assert_eq!(fewer(keep, 1), ranges(&[(1, 90)]));
        // As many as a queue of millions of messages leaves, every other one acknowledged.
        let many: Vec<_> = (0..1_000_000).map(|n| Index(2 * n + 1)..=Index(2 * n + 1)).collect();
        let kept = fewer(many, KEEP_MAX);
        assert_eq!(kept.len(), KEEP_MAX);
        assert_eq!((kept[0].start(), kept[KEEP_MAX - 1].end()), (&Index(1), &Index(1_999_999)));
        assert!(kept.is_sorted_by(|a, b| a.end() < b.start()));
    }
}
