//! Which seeds a simulation runs. The only place that reads the environment.

use std::ops::Range;

/// Replays one seed: `QUARTET_SIM_SEED=17 cargo test --test simulation`.
const ONE: &str = "QUARTET_SIM_SEED";
/// Overrides how many seeds every simulation runs.
const COUNT: &str = "QUARTET_SIM_SEEDS";

/// Overrides how many states every exploration visits.
const STATES: &str = "QUARTET_SIM_STATES";

/// The seeds of one test; see [`seeds`].
pub type Seeds = Range<u64>;

/// The seeds `0..n`; only the seed in `QUARTET_SIM_SEED` if that is set; `0..m` if
/// `QUARTET_SIM_SEEDS` is set to `m`.
///
/// # Panics
///
/// If one of the variables is set to something that is not a number: a typo must not look like a
/// passed replay.
#[must_use]
pub fn seeds(n: u64) -> Seeds {
    choose(n, variable(ONE), variable(COUNT))
}

/// How many states an exploration may visit: `n`, or what `QUARTET_SIM_STATES` says.
///
/// # Panics
///
/// Like [`seeds`].
#[must_use]
pub fn states(n: usize) -> usize {
    variable(STATES).map_or(n, |states| usize::try_from(states).unwrap_or(usize::MAX))
}

fn choose(n: u64, one: Option<u64>, count: Option<u64>) -> Seeds {
    match (one, count) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(count)) => 0..count,
        (None, None) => 0..n,
    }
}

#[expect(clippy::disallowed_methods, reason = "the one switch of the test harness")]
fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a seed: give a number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_seed_is_the_only_one() {
        assert_eq!(choose(500, Some(17), Some(9)), 17..18);
    }

    #[test]
    fn the_count_can_be_raised_from_outside() {
        assert_eq!(choose(500, None, Some(10_000)), 0..10_000);
        assert_eq!(choose(500, None, None), 0..500);
    }
}
