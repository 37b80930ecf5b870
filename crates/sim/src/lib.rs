//! What a deterministic test needs: seeds, random numbers, time, a disk and a network that fail on
//! demand; and what judges a run, simulated or real: recorded histories and their checkers.
//!
//! A simulated run is a function of its seed: everything random comes from one [`Rng`], time moves
//! only when the test moves a [`Clock`], and [`disk::SimDisk`] decides from its seed what a crash
//! leaves behind. A failure is replayed with `QUARTET_SIM_SEED=<seed>`, which makes [`seeds`] yield
//! that one seed; `QUARTET_SIM_SEEDS=<n>` makes every simulation run `n` seeds and
//! `QUARTET_SIM_STATES=<n>` every exploration visit `n` states, for a long night.
//!
//! A run is judged by what clients saw: [`history`] records it, [`linearizability`] looks for an
//! order that explains it, [`serializable`], [`watch`], [`leases`], [`fencing`] and
//! [`elections`] compare it with what was promised.
//!
//! **Invariant:** nothing here is linked into a service.
//! **Invariant:** no wall clock and no operating-system randomness, except the one arbitrary
//! instant that [`start`] names once per process.

pub mod clock;
pub mod disk;
pub mod elections;
mod events;
pub mod fencing;
pub mod history;
pub mod leases;
pub mod linearizability;
pub mod network;
mod rng;
mod seeds;
pub mod serializable;
pub mod watch;

pub use clock::{Clock, start};
pub use events::Events;
pub use network::Network;
pub use rng::Rng;
pub use seeds::{Seeds, seeds, states};
