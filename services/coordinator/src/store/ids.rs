//! Names and positions: revisions, leases, ranges of keys.

use std::fmt;
use std::ops::Bound;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A point in the store's history. An empty store is at revision 1; every transaction that
/// changes something moves it by one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// Where an empty store is.
    pub const FIRST: Self = Self(1);

    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a lease. [`LeaseId::NONE`] is no lease.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct LeaseId(pub i64);

impl LeaseId {
    pub const NONE: Self = Self(0);
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of neighbouring keys, in byte order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyRange {
    One(Bytes),
    /// `start <= key < end`; nothing when `end <= start`.
    Between {
        start: Bytes,
        end: Bytes,
    },
    /// Every key from here on.
    From(Bytes),
}

impl KeyRange {
    /// Every key.
    #[must_use]
    pub const fn all() -> Self {
        Self::From(Bytes::new())
    }

    /// The keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(prefix: Bytes) -> Self {
        match after_prefix(&prefix) {
            Some(end) => Self::Between { start: prefix, end },
            None => Self::From(prefix),
        }
    }

    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Between { start, end } => start <= key && key < end,
            Self::From(start) => start <= key,
        }
    }

    /// True for a range that can hold no key at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Between { start, end } if end <= start)
    }

    #[must_use]
    pub const fn start(&self) -> &Bytes {
        match self {
            Self::One(start) | Self::Between { start, .. } | Self::From(start) => start,
        }
    }

    pub(super) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        match self {
            Self::One(key) => (Bound::Included(&key[..]), Bound::Included(&key[..])),
            // Nothing lies between a key and itself; a reversed pair would be a mistake of ours.
            Self::Between { start, end } if end <= start => {
                (Bound::Included(&start[..]), Bound::Excluded(&start[..]))
            }
            Self::Between { start, end } => {
                (Bound::Included(&start[..]), Bound::Excluded(&end[..]))
            }
            Self::From(start) => (Bound::Included(&start[..]), Bound::Unbounded),
        }
    }
}

/// The first key behind all keys with this prefix; none behind `0xff…`.
fn after_prefix(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_behind_its_last_key() {
        let range = KeyRange::prefix(Bytes::from_static(b"a/\xff"));
        assert!(range.contains(b"a/\xff") && range.contains(b"a/\xff\xff\xff"));
        assert!(!range.contains(b"a0") && !range.contains(b"a/\xfe"));
    }

    #[test]
    fn a_prefix_of_nothing_but_ff_has_no_end() {
        assert_eq!(
            KeyRange::prefix(Bytes::from_static(b"\xff\xff")),
            KeyRange::From(Bytes::from_static(b"\xff\xff"))
        );
    }
}
