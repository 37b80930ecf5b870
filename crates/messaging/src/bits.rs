//! A set of numbers that lie close together: ids of messages, indexes of log entries.
//!
//! One bit per number in words of 64, so a million neighbours take some 400 KiB however they come
//! and go; ranges would take up to forty times that when every other number is missing.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Bits {
    /// By number / 64; never 0.
    words: BTreeMap<u64, u64>,
    /// The word above all of these, which may be 0. Numbers grow and soon go again, so that most
    /// sets are this one, and need no memory of their own.
    last: (u64, u64),
}

impl Bits {
    /// Adds a number. False if it was there.
    pub fn insert(&mut self, number: u64) -> bool {
        let (at, bit) = split(number);
        if self.last.0 < at {
            let (at, word) = std::mem::replace(&mut self.last, (at, 0));
            if word != 0 {
                self.words.insert(at, word);
            }
        }
        let word =
            if self.last.0 == at { &mut self.last.1 } else { self.words.entry(at).or_default() };
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Takes a number out. False if it was not there.
    pub fn remove(&mut self, number: u64) -> bool {
        let (at, bit) = split(number);
        if self.last.0 == at {
            let there = self.last.1 & bit != 0;
            self.last.1 &= !bit;
            return there;
        }
        let Some(word) = self.words.get_mut(&at) else { return false };
        let there = *word & bit != 0;
        *word &= !bit;
        if *word == 0 {
            self.words.remove(&at);
        }
        there
    }

    /// Whether this number is in it.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        let (at, bit) = split(number);
        let word = if self.last.0 == at { Some(&self.last.1) } else { self.words.get(&at) };
        word.is_some_and(|word| word & bit != 0)
    }

    /// The lowest number.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        let (at, word) = self.words.first_key_value().map_or(self.last, |(at, word)| (*at, *word));
        (word != 0).then(|| at * 64 + u64::from(word.trailing_zeros()))
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty() && self.last.1 == 0
    }

    /// All numbers, the lowest first.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.words().flat_map(|(at, word)| ones(at * 64, word))
    }

    /// The same as ranges that do not touch.
    #[must_use]
    pub fn ranges(&self) -> Vec<RangeInclusive<u64>> {
        let mut ranges: Vec<RangeInclusive<u64>> = Vec::new();
        for (at, word) in self.words() {
            for (first, last) in runs(at * 64, word) {
                match ranges.last_mut() {
                    Some(range) if *range.end() + 1 == first => *range = *range.start()..=last,
                    _ => ranges.push(first..=last),
                }
            }
        }
        ranges
    }

    fn words(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.words.iter().map(|(at, word)| (*at, *word)).chain([self.last])
    }
}

const fn split(number: u64) -> (u64, u64) {
    (number / 64, 1 << (number % 64))
}

/// The numbers that a word's bits stand for.
fn ones(base: u64, mut word: u64) -> impl Iterator<Item = u64> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros())?;
        word &= word - 1;
        Some(base + u64::from(bit))
    })
}

/// First and last of each run of ones.
fn runs(base: u64, word: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = word.checked_shr(at)?;
        let first = (rest != 0).then(|| at + rest.trailing_zeros())?;
        let len = (!(word >> first)).trailing_zeros().min(64 - first);
        at = first + len;
        Some((base + u64::from(first), base + u64::from(at) - 1))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set_of_numbers(
            steps in proptest::collection::vec((any::<bool>(), 0_u64..300), 0..400),
        ) {
            let (mut bits, mut model) = (Bits::default(), BTreeSet::new());
            for (add, number) in steps {
                if add {
                    prop_assert_eq!(bits.insert(number), model.insert(number));
                } else {
                    prop_assert_eq!(bits.remove(number), model.remove(&number));
                }
                prop_assert_eq!(bits.first(), model.first().copied());
                prop_assert_eq!(bits.is_empty(), model.is_empty());
                prop_assert_eq!(bits.contains(number), add);
            }
            prop_assert_eq!(bits.iter().collect::<Vec<_>>(), Vec::from_iter(model.clone()));
            let ranges = bits.ranges();
            prop_assert!(ranges.windows(2).all(|two| two[0].end() + 1 < *two[1].start()));
            prop_assert_eq!(ranges.into_iter().flatten().collect::<Vec<_>>(), Vec::from_iter(model));
        }
    }

    #[test]
    fn whole_words_make_one_range() {
        let mut bits = Bits::default();
        for number in 60..300 {
            bits.insert(number);
        }
        assert_eq!(bits.ranges(), [60..=299]);
    }
}
