//! Raft, without I/O: for now the names that every log and every group shares.
//!
//! A *group* is one replicated log with its state machine. An entry is named by (group, term,
//! index); a node's promise to its group is its [`HardState`]. Section numbers (§) refer to the
//! extended Raft paper (Ongaro and Ousterhout, 2014).
//!
//! **Invariant:** nothing in here reads a clock, draws a random number or does I/O.

mod ids;

pub use ids::{GroupId, HardState, Index, NodeId, Term};
