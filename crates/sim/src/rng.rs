//! Random numbers that are a function of a seed.

use std::ops::Range;

use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};

/// A seeded source of random numbers. Two with the same seed draw the same numbers.
#[derive(Clone, Debug)]
pub struct Rng {
    inner: StdRng,
}

impl Rng {
    /// A source that is a function of `seed` alone.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { inner: StdRng::seed_from_u64(seed) }
    }

    /// An independent source for one part of the simulation, so that a draw more in one part does
    /// not shift all the others.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::new(self.next_u64())
    }

    /// Any number.
    pub fn next_u64(&mut self) -> u64 {
        self.inner.next_u64()
    }

    /// A number in `range`, which must not be empty.
    pub fn range(&mut self, range: Range<u64>) -> u64 {
        self.inner.random_range(range)
    }

    /// An index into something of length `len`, which must not be 0.
    pub fn index(&mut self, len: usize) -> usize {
        self.inner.random_range(0..len)
    }

    /// True in `numerator` of `denominator` draws.
    pub fn chance(&mut self, numerator: u32, denominator: u32) -> bool {
        self.inner.random_ratio(numerator, denominator)
    }

    /// One element, or `None` of an empty slice.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { Some(&from[self.index(from.len())]) }
    }

    /// Fisher and Yates: every order is equally likely.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }

    /// `len` random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.inner.fill_bytes(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_numbers() {
        let draw = |seed| {
            let mut rng = Rng::new(seed);
            let mut fork = rng.fork();
            (rng.next_u64(), rng.range(0..1_000_000), fork.bytes(8), rng.chance(1, 2))
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn a_shuffle_loses_nothing() {
        let mut items: Vec<u32> = (0..100).collect();
        Rng::new(1).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
