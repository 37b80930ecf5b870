//! A set of numbers kept as ranges: settled offsets, live log indexes.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// Disjoint ranges that do not touch, by their first number: first → last, inclusive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds all of `first..=last`. Returns how many were new.
    pub fn insert(&mut self, first: u64, last: u64) -> u64 {
        debug_assert!(first <= last, "a range has at least one number");
        let (mut from, mut to) = (first, last);
        let mut known = 0;
        let touching: Vec<_> = self
            .0
            .range(..=last.saturating_add(1))
            .rev()
            .take_while(|(_, end)| first <= end.saturating_add(1))
            .map(|(start, end)| (*start, *end))
            .collect();
        for (start, end) in touching {
            self.0.remove(&start);
            from = from.min(start);
            to = to.max(end);
            let overlap = end.min(last).checked_sub(start.max(first));
            known += overlap.map_or(0, |span| span + 1);
        }
        self.0.insert(from, to);
        last - first + 1 - known
    }

    /// Whether this number is in it.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        self.0.range(..=number).next_back().is_some_and(|(_, last)| number <= *last)
    }

    /// The first number from `number` on that is not in it.
    #[must_use]
    pub fn first_gap(&self, number: u64) -> u64 {
        match self.0.range(..=number).next_back() {
            Some((_, last)) if number <= *last => last + 1,
            _ => number,
        }
    }

    /// Takes out all of `first..=last` that is in it.
    pub fn remove(&mut self, first: u64, last: u64) {
        let reaching = self.0.range(..=last).rev().take_while(|(_, end)| first <= **end);
        let reaching: Vec<_> = reaching.map(|(start, end)| (*start, *end)).collect();
        for (start, end) in reaching {
            self.0.remove(&start);
            if start < first {
                self.0.insert(start, first - 1);
            }
            if last < end {
                self.0.insert(last + 1, end);
            }
        }
    }

    /// Forgets everything below `number`. Returns how many numbers that were.
    pub fn remove_below(&mut self, number: u64) -> u64 {
        let mut removed = 0;
        while let Some(entry) = self.0.first_entry() {
            let (first, last) = (*entry.key(), *entry.get());
            if number <= first {
                break;
            }
            entry.remove();
            if number <= last {
                self.0.insert(number, last);
            }
            removed += last.min(number - 1) - first + 1;
        }
        removed
    }

    /// How many ranges.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
        self.0.iter().map(|(first, last)| *first..=*last)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set_of_numbers(
            inserts in proptest::collection::vec((0_u64..60, 0_u64..8), 0..40),
            cut in 0_u64..70,
            (hole, wide) in (0_u64..70, 0_u64..20),
        ) {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for (first, more) in inserts {
                let fresh = (first..=first + more).filter(|n| model.insert(*n)).count();
                prop_assert_eq!(ranges.insert(first, first + more), fresh as u64);
            }
            let below = model.range(..cut).count() as u64;
            prop_assert_eq!(ranges.remove_below(cut), below);
            model = model.split_off(&cut);
            ranges.remove(hole, hole + wide);
            model.retain(|n| !(hole..=hole + wide).contains(n));
            for n in 0..80 {
                prop_assert_eq!(ranges.contains(n), model.contains(&n));
                let gap = (n..).find(|m| !model.contains(m)).unwrap();
                prop_assert_eq!(ranges.first_gap(n), gap);
            }
            let all: Vec<_> = ranges.iter().flatten().collect();
            prop_assert_eq!(all, model.into_iter().collect::<Vec<_>>());
            let bounds: Vec<_> = ranges.iter().collect();
            prop_assert!(bounds.windows(2).all(|w| w[0].end() + 1 < *w[1].start()));
        }
    }
}
