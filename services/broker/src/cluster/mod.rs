//! The broker as one of many: the catalog, and what it makes each broker do.
//!
//! ```text
//! catalog (a copy on every broker) ──applied──▶ reconcile ─▶ groups start and leave here,
//!                                                            addresses, directory
//! ```
//!
//! **Invariant:** a copy of a group is removed only while the applied catalog lists it as leaving.

pub(crate) mod catalog;
mod reconcile;

pub(crate) use reconcile::Reconcile;
