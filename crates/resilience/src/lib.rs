//! How a caller treats a service that may be slow, overloaded or gone.
//!
//! Each policy is a folder: `mod.rs` holds its state and its arithmetic, `layer.rs` puts it around
//! a call. They compose from the outside in: [`deadline`], [`limit`], [`retry`] (paying from a
//! [`budget`]), [`balance`], [`breaker`]. Retry sits outside the choice of an endpoint, so every
//! attempt may go somewhere else.
//!
//! Contract: the caller says what time it is (`now`) and brings the randomness (a uniformly
//! distributed `u64`); the policy answers what to do. The same inputs give the same answers, so a
//! test replays a day in a millisecond.
//!
//! **Invariant:** no `mod.rs` below reads a clock, draws a random number, waits, or names tokio.
//! **Invariant:** extra calls (retries, later hedges) of a service all pay from one budget.
//! **Invariant:** nothing is retried once a byte of its answer went downstream.

mod clock;

pub mod deadline;

pub mod limit;

pub mod budget;
pub mod retry;

pub mod balance;
pub mod breaker;

pub use clock::{Clock, Random, SystemClock, system_random};

/// Maps 64 uniformly distributed bits onto `0 <= x < 1`.
fn unit(random: u64) -> f64 {
    // 53 bits is all an f64 holds.
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_interval_is_half_open() {
        assert_eq!(unit(0), 0.0);
        assert!(unit(u64::MAX) < 1.0);
    }
}
