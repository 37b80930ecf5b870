//! The machines against naive models, through restarts, and under seeded simulation.
//!
//! `QUARTET_SIM_SEED=17 cargo test -p messaging --test it simulation` replays one seed.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod checks;
mod cluster;
mod host;
mod moves;
mod overflow;
mod partition_model;
mod plan_model;
mod queue_model;
mod replay;
mod replies;
mod simulation;
mod stream_model;
mod tasks;
