//! Names and positions. Each is a newtype, so that an index is never taken for a term.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::mutants::{self, Mutant};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize,
            Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// One replicated log and its state machine. A recreated queue is a new group: ids are
    /// never reused, so nobody reads a predecessor's entries.
    GroupId
}
id! {
    /// A member of a cluster.
    NodeId
}
id! {
    /// §5.1: logical time. At most one leader per term; terms never go back. The replica service
    /// stores its epochs in the same field.
    Term
}
id! {
    /// The position of an entry in its group's log. The first entry has index 1; 0 means none.
    Index
}

impl Index {
    /// The index before the first entry.
    pub const ZERO: Self = Self(0);

    /// The index after this one.
    ///
    /// # Panics
    ///
    /// After 2^64 - 1 entries, which no log reaches.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("an index fits 64 bits"))
    }
}

/// What a node has promised its group. §5.1: durable before any answer that depends on it; term
/// and vote are one record, so a crash cannot keep one without the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HardState {
    /// The newest term this node has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub voted_for: Option<NodeId>,
    /// The highest index it knew to be committed. A hint: it may lag, it is never ahead.
    pub commit: Index,
    /// Term and index of the last entry that this node had when it let its log go, see
    /// [`left`](Self::left). (0, 0) if it never did.
    pub forgotten: (Term, Index),
}

impl HardState {
    /// What a node keeps of a group that it leaves and may come back to, when the last entry of its
    /// log was this one. The entries go; the promise and how far the log had come stay. Members
    /// that have not heard of its leaving may still count on its vote, and with it on what it has
    /// confirmed: so it votes for nobody who has less, and does not campaign before it has as much.
    #[must_use]
    pub fn left(self, last_term: Term, last: Index) -> Self {
        if mutants::is(Mutant::LeavingForgets) {
            return Self::default();
        }
        Self { commit: Index::ZERO, forgotten: self.forgotten.max((last_term, last)), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_follows_the_zero_index() {
        assert_eq!(Index::ZERO.next(), Index(1));
    }

    #[test]
    fn ids_are_plain_numbers_on_the_wire() {
        assert_eq!(serde_json::to_string(&Term(7)).unwrap(), "7");
        assert_eq!(serde_json::from_str::<GroupId>("3").unwrap(), GroupId(3));
    }
}
