//! Sets of indexes as sorted, disjoint, non-adjacent ranges.

use std::ops::RangeInclusive;

/// An inclusive range of indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Span {
    pub(crate) fn new(start: u64, end: u64) -> Self {
        Self { start, end }
    }

    /// How many indexes it has; 0 if it is upside down.
    pub(crate) fn len(self) -> u64 {
        (self.end + 1).saturating_sub(self.start)
    }

    /// What both have, if anything.
    pub(crate) fn intersect(self, other: Self) -> Option<Self> {
        let both = Self::new(self.start.max(other.start), self.end.min(other.end));
        (both.start <= both.end).then_some(both)
    }
}

/// A set of indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    spans: Vec<Span>,
}

impl Ranges {
    pub(crate) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Adds a range that starts above everything in the set so far, or touches its last range.
    pub(crate) fn push(&mut self, span: Span) {
        match self.spans.last_mut() {
            Some(last) if span.start <= last.end.saturating_add(1) => {
                last.end = last.end.max(span.end);
            }
            _ => self.spans.push(span),
        }
    }

    /// Adds a range that overlaps none of the set.
    pub(crate) fn insert(&mut self, span: Span) {
        let at = self.spans.partition_point(|other| other.start < span.start);
        let joins_next = self.spans.get(at).is_some_and(|next| span.end + 1 == next.start);
        let joins_last = at > 0 && self.spans[at - 1].end + 1 == span.start;
        match (joins_last, joins_next) {
            (true, true) => {
                self.spans[at - 1].end = self.spans[at].end;
                self.spans.remove(at);
            }
            (true, false) => self.spans[at - 1].end = span.end,
            (false, true) => self.spans[at].start = span.start,
            (false, false) => self.spans.insert(at, span),
        }
    }

    /// The set of these ranges, in whatever order and overlap.
    pub(crate) fn from_spans(mut spans: Vec<Span>) -> Self {
        spans.retain(|span| span.start <= span.end);
        if !spans.is_sorted_by_key(|span| span.start) {
            spans.sort_unstable_by_key(|span| span.start);
        }
        let mut ranges = Self::default();
        for span in spans {
            ranges.push(span);
        }
        ranges
    }

    pub(crate) fn from_inclusive<'a, T: Into<u64> + Copy + 'a>(
        ranges: impl IntoIterator<Item = &'a RangeInclusive<T>>,
    ) -> Self {
        let spans = ranges.into_iter().map(|r| Span::new((*r.start()).into(), (*r.end()).into()));
        Self::from_spans(spans.collect())
    }

    /// The part of the set inside `within`, in order.
    pub(crate) fn within(&self, within: Span) -> impl Iterator<Item = Span> + '_ {
        let first = self.spans.partition_point(|span| span.end < within.start);
        self.spans[first..].iter().map_while(move |span| span.intersect(within))
    }

    /// The highest index below `index`.
    pub(crate) fn last_before(&self, index: u64) -> Option<u64> {
        let after = self.spans.partition_point(|span| span.start < index);
        after.checked_sub(1).map(|at| self.spans[at].end.min(index - 1))
    }

    /// How many indexes of `within` are in the set.
    pub(crate) fn count(&self, within: Span) -> u64 {
        self.within(within).map(Span::len).sum()
    }

    /// What both sets have.
    pub(crate) fn intersect(&self, other: &Self) -> Self {
        let mut both = Self::default();
        for span in &other.spans {
            self.within(*span).for_each(|span| both.push(span));
        }
        both
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn set(ranges: &Ranges) -> BTreeSet<u64> {
        ranges.spans.iter().flat_map(|span| span.start..=span.end).collect()
    }

    fn any_spans() -> impl Strategy<Value = Vec<Span>> {
        let span = (1u64..60, 0u64..8).prop_map(|(start, len)| Span::new(start, start + len));
        proptest::collection::vec(span, 0..8)
    }

    proptest! {
        #[test]
        fn ranges_are_sets(a in any_spans(), b in any_spans(), cut in 1u64..70) {
            let naive = |spans: &[Span]| -> BTreeSet<u64> {
                spans.iter().flat_map(|span| span.start..=span.end).collect()
            };
            let (ranges_a, ranges_b) =
                (Ranges::from_spans(a.clone()), Ranges::from_spans(b.clone()));
            prop_assert_eq!(set(&ranges_a), naive(&a));
            let both = ranges_a.intersect(&ranges_b);
            prop_assert_eq!(set(&both), &naive(&a) & &naive(&b));
            let window = Span::new(cut, cut + 10);
            let inside = naive(&a).iter().filter(|i| (cut..=cut + 10).contains(i)).count() as u64;
            prop_assert_eq!(ranges_a.count(window), inside);
            let mut one_by_one = Ranges::default();
            let mut indexes: Vec<u64> = naive(&a).into_iter().collect();
            let middle = cut as usize % indexes.len().max(1);
            indexes.rotate_left(middle);
            for index in indexes {
                one_by_one.insert(Span::new(index, index));
            }
            prop_assert_eq!(one_by_one, ranges_a);
        }
    }
}
