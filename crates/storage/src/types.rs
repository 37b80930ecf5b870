//! What goes into the log and what comes out.

use std::ops::RangeInclusive;
use std::sync::Arc;

use consensus::{Entry, GroupId, HardState, Index, Term};

use crate::error::{Fault, WriteError};

/// One change of one group. The writes of one submit become durable together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Adds entries at the end. The first index is the one after the last entry; an unknown group
    /// begins at 1.
    Append {
        /// Whose log.
        group: GroupId,
        /// Without gaps, in order.
        entries: Vec<Entry>,
    },
    /// Replaces the promise of this node to the group.
    HardState {
        /// Whose.
        group: GroupId,
        /// Term, vote and commit hint, atomically.
        hard_state: HardState,
    },
    /// Drops the entries `from..=last`, which conflict with the leader's.
    Truncate {
        /// Whose log.
        group: GroupId,
        /// The first to go. Never below the first entry of the unbroken tail.
        from: Index,
    },
    /// Declares the entries up to `through` dead, except those in `keep`: a snapshot covers them.
    Compact {
        /// Whose log.
        group: GroupId,
        /// The last index the snapshot covers, at most the last entry.
        through: Index,
        /// What is still read although the snapshot covers it: sorted, disjoint, complete. What an
        /// earlier compaction has dropped does not come back.
        keep: Vec<RangeInclusive<Index>>,
    },
    /// Drops every entry: a snapshot was installed, and the log goes on behind it. Heals a group
    /// whose entries were damaged; the hard state stays.
    Reset {
        /// Whose log.
        group: GroupId,
        /// The next index to append, one after the snapshot's.
        next: Index,
        /// The term of the snapshot's last entry.
        term: Term,
    },
    /// Forgets the group. Its id is never used again. Unknown groups are fine.
    Remove {
        /// Which.
        group: GroupId,
    },
}

impl Write {
    /// The group that this changes.
    #[must_use]
    pub const fn group(&self) -> GroupId {
        match self {
            Self::Append { group, .. }
            | Self::HardState { group, .. }
            | Self::Truncate { group, .. }
            | Self::Compact { group, .. }
            | Self::Reset { group, .. }
            | Self::Remove { group } => *group,
        }
    }
}

/// Names one submit. Tokens are durable in order, so one stands for all before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IoToken(pub u64);

/// How far the log is on disk.
#[derive(Clone, Debug, Default)]
pub struct Durable {
    /// Everything up to this token is.
    pub token: IoToken,
    /// The log failed and takes nothing any more. What was submitted after `token` may or may not
    /// be on disk. The process has to end: only a restart finds out.
    pub failed: Option<Arc<WriteError>>,
}

/// What the log holds of one group, as far as it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupState {
    /// The newest durable promise.
    pub hard_state: HardState,
    /// The first entry of the unbroken tail; `last + 1` if there is none. Entries that a
    /// compaction kept lie below.
    pub first: Index,
    /// The newest entry; `first - 1` if the tail is empty.
    pub last: Index,
    /// The term of `last`, also where that is only known from a snapshot.
    pub last_term: Term,
    /// The term of the entry before `first`; 0 if `first` is 1.
    pub compacted_term: Term,
    /// What a compaction kept below `first`: sorted, disjoint.
    pub retained: Vec<RangeInclusive<Index>>,
    /// Damaged on disk: it must neither vote nor serve until it is reset or removed.
    pub faulty: Option<Fault>,
}
