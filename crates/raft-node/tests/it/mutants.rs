//! Plants known bugs and demands that a test fails: `cargo test -p raft-node --features mutants
//! --test it mutants`. One after the other: a bug is planted in the whole process.

use std::panic::{AssertUnwindSafe, catch_unwind};

use raft_node::mutants::{Mutant, plant};

use super::bodies;

/// Whether a test fails with this bug.
fn is_found(mutant: Mutant, test: impl Future<Output = ()>) -> bool {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    plant(Some(mutant));
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(test)));
    plant(None);
    outcome.is_err()
}

#[test]
fn mutants_are_found() {
    let (early, resumed) = (Mutant::TicketBeforeFilled, Mutant::ResumedAsWhole);
    assert!(is_found(early, bodies::lagging()), "{early:?} lives");
    assert!(is_found(resumed, bodies::killed()), "{resumed:?} lives");
}
