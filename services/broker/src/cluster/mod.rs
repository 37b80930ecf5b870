//! The broker as one of many: the catalog, and what it makes each broker do.
//!
//! ```text
//! catalog (a copy on every broker) ──applied──▶ reconcile ─▶ groups start and leave here,
//!                                                            addresses, directory
//! catalog's leader ─▶ planner: who is up, which copies move, who should lead
//! a group's leader ─▶ mover: members change as the catalog says, leading is handed over
//! ```
//!
//! **Invariant:** a copy of a group is removed only while the applied catalog lists it as leaving,
//! or when it was started here by an older catalog after that: see `Catalog::has_no_copy`.

mod brokers;
mod catalog;
mod member;
mod mover;
mod planner;
mod reconcile;

pub(crate) use member::Member;
pub(crate) use mover::Mover;
pub(crate) use planner::Planner;
pub(crate) use reconcile::Reconcile;
