//! Bugs to plant, to see that the tests would notice: `cargo test -p raft-node --features mutants
//! --test it mutants`.
//!
//! Without the feature every question here is answered with a constant `false`.

/// One deliberate bug. One at a time in a process, for the groups run on many threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "mutants"), expect(unreachable_pub, reason = "public with the feature"))]
#[repr(u8)]
pub enum Mutant {
    /// A snapshot is confirmed before the entries that its machine reads are there.
    TicketBeforeFilled = 1,
    /// Who is started again while it is being filled takes itself for whole.
    ResumedAsWhole = 2,
}

#[cfg(feature = "mutants")]
mod planted {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Mutant;

    static PLANTED: AtomicU8 = AtomicU8::new(0);

    /// Plants a bug in this process, or takes it out again.
    pub fn plant(mutant: Option<Mutant>) {
        PLANTED.store(mutant.map_or(0, |mutant| mutant as u8), Ordering::SeqCst);
    }

    pub(crate) fn is(mutant: Mutant) -> bool {
        PLANTED.load(Ordering::SeqCst) == mutant as u8
    }
}

#[cfg(feature = "mutants")]
pub(crate) use planted::is;
#[cfg(feature = "mutants")]
pub use planted::plant;

#[cfg(not(feature = "mutants"))]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}
