//! What the log is made of.

use bytes::Bytes;

use crate::ids::{Index, Term};

/// What an entry is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// For the state machine.
    #[default]
    Command = 0,
    /// §8: the first entry of a leader's term. It commits what earlier terms left behind.
    Blank = 1,
    /// §6: who is a member from here on. The payload is an encoded
    /// [`Membership`](crate::Membership).
    Membership = 2,
}

impl EntryKind {
    /// The kind with this number, as it stands on disk and on the wire.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Command),
            1 => Some(Self::Blank),
            2 => Some(Self::Membership),
            _ => None,
        }
    }
}

/// One entry of a group's log. Its payload is opaque.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The term in which it was proposed; the replica service's epoch.
    pub term: Term,
    /// Its position; the first entry of a group has 1, each next one more.
    pub index: Index,
    /// Who it is for.
    pub kind: EntryKind,
    /// Shared, never copied, between the log, the network and the state machine.
    pub payload: Bytes,
}

impl Entry {
    /// An entry for the state machine.
    #[must_use]
    pub const fn command(term: Term, index: Index, payload: Bytes) -> Self {
        Self { term, index, kind: EntryKind::Command, payload }
    }

    /// Bytes that limits count: the payload and what surrounds it in memory and on the wire.
    #[must_use]
    pub const fn cost(&self) -> usize {
        self.payload.len() + Self::OVERHEAD
    }

    /// What an entry costs besides its payload.
    pub const OVERHEAD: usize = 48;
}
