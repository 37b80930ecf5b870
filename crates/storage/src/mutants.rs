//! Bugs to plant, to see that the tests would notice: `cargo test -p storage --features mutants`.
//!
//! Without the feature every question here is answered with a constant `false`.

/// One deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "mutants"), expect(unreachable_pub, reason = "public with the feature"))]
pub enum Mutant {
    /// A batch is acknowledged without an fsync.
    AckBeforeSync,
    /// A new segment's name is not made durable.
    NoDirectorySync,
    /// What was read at the start is not synced before it is relied on.
    NoSyncOnOpen,
    /// A failed fsync is tried again (B33).
    RetriedSync,
    /// Damage is cut like a torn tail (B35).
    DamageCut,
    /// The last batch of a log at rest stays the last.
    NoConfirm,
    /// Batches need not continue each other.
    NoChainCheck,
    /// The payload's checksum is not looked at.
    PayloadUnchecked,
    /// A compaction drops what it was told to keep.
    KeptDropped,
    /// A reset drops what it was told to keep.
    ResetDropsKept,
    /// A log that was being filled when its process ended is taken for whole.
    FillingForgotten,
    /// What is filled in does not end the run it falls into.
    RefillNoSplit,
    /// A compaction also drops the entry after it.
    CompactOneMore,
    /// Rewritten segments are given up before the move is logged.
    MoveNotLogged,
    /// A run goes on across what was truncated.
    NoSplit,
    /// Entries are taken although they use up the reserve.
    NoReserve,
}

#[cfg(feature = "mutants")]
mod planted {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Plants a bug in every log of this thread, or takes it out again.
    pub fn plant(mutant: Option<Mutant>) {
        PLANTED.set(mutant);
    }

    pub(crate) fn is(mutant: Mutant) -> bool {
        PLANTED.get() == Some(mutant)
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
