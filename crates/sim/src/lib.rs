//! What a deterministic test needs: seeds, random numbers, time and a disk that fails on demand.
//!
//! A simulated run is a function of its seed: everything random comes from one [`Rng`], time moves
//! only when the test moves a [`Clock`], and [`disk::SimDisk`] decides from its seed what a crash
//! leaves behind. A failure is replayed with `QUARTET_SIM_SEED=<seed>`, which makes [`seeds`] yield
//! that one seed; `QUARTET_SIM_SEEDS=<n>` makes every simulation run `n` seeds, for a long night.
//!
//! **Invariant:** nothing here is linked into a service.
//! **Invariant:** no wall clock and no operating-system randomness, except the one arbitrary
//! instant that [`start`] names once per process.

pub mod clock;
pub mod disk;
mod rng;
mod seeds;

pub use clock::{Clock, start};
pub use rng::Rng;
pub use seeds::{Seeds, seeds};
