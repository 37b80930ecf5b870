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
    /// Drops the entries, except those in `keep`: a snapshot is installed, and the log goes on
    /// behind it. Heals a group whose entries were damaged, of which nothing is kept; the hard state
    /// stays. See also [`Write::reset`].
    Reset {
        /// Whose log.
        group: GroupId,
        /// The next index to append, one after the snapshot's.
        next: Index,
        /// The term of the snapshot's last entry.
        term: Term,
        /// What the snapshot's reader still reads, of which this log may have a part already: sorted,
        /// disjoint. The caller vouches that what this log has of it is what the snapshot means.
        keep: Vec<RangeInclusive<Index>>,
        /// Entries that the snapshot's reader needs are still missing: [`Write::Refill`] brings
        /// them, [`Write::Filled`] ends that. Until then the group says so after every start.
        filling: bool,
    },
    /// Adds entries below the next index, from another member's log, to one that was reset as
    /// `filling`. An entry that is there already is left as it is.
    Refill {
        /// Whose log.
        group: GroupId,
        /// In ascending order, with gaps.
        entries: Vec<Entry>,
    },
    /// Nothing is missing any more of what the snapshot's reader needs.
    Filled {
        /// Whose log.
        group: GroupId,
    },
    /// Forgets the group. Its id is never used again. Unknown groups are fine.
    Remove {
        /// Which.
        group: GroupId,
    },
}

impl Write {
    /// A reset that drops every entry.
    #[must_use]
    pub const fn reset(group: GroupId, next: Index, term: Term) -> Self {
        Self::Reset { group, next, term, keep: Vec::new(), filling: false }
    }

    /// The group that this changes.
    #[must_use]
    pub const fn group(&self) -> GroupId {
        match self {
            Self::Append { group, .. }
            | Self::HardState { group, .. }
            | Self::Truncate { group, .. }
            | Self::Compact { group, .. }
            | Self::Reset { group, .. }
            | Self::Refill { group, .. }
            | Self::Filled { group }
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
    /// It was reset behind a snapshot whose reader needs entries that are still missing here.
    pub filling: bool,
    /// Damaged on disk: it must neither vote nor serve until it is reset or removed.
    pub faulty: Option<Fault>,
}
