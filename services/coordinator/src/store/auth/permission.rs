//! Permissions: which keys a role may read or write.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::ids::KeyRange;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PermissionKind {
    #[default]
    Read,
    Write,
    ReadWrite,
}

/// What somebody wants to do with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    pub kind: PermissionKind,
    pub range: KeyRange,
}

impl Permission {
    pub(super) const fn grants(&self, access: Access) -> bool {
        match self.kind {
            PermissionKind::Read => matches!(access, Access::Read),
            PermissionKind::Write => matches!(access, Access::Write),
            PermissionKind::ReadWrite => true,
        }
    }
}

/// Whether these ranges together hold every key of `wanted`. Neighbours add up: `a..b` and `b..c`
/// cover `a..c`.
pub(super) fn cover<'a>(ranges: impl Iterator<Item = &'a KeyRange>, wanted: &KeyRange) -> bool {
    let (start, end) = match wanted {
        KeyRange::One(key) => {
            let mut ranges = ranges;
            return ranges.any(|range| range.contains(key));
        }
        KeyRange::Between { start, end } => (start, Some(end)),
        KeyRange::From(start) => (start, None),
    };
    // No key is asked for. Etcd wants a right to the first one nevertheless.
    if end.is_some_and(|end| end <= start) {
        let mut ranges = ranges;
        return ranges.any(|range| range.contains(start));
    }
    let mut spans: Vec<_> = ranges.filter(|range| !range.is_empty()).map(span).collect();
    spans.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    // Everything before here is covered.
    let mut at = start.clone();
    for (from, to) in spans {
        if at < from {
            return false;
        }
        let Some(to) = to else { return true };
        at = at.max(to);
        if end.is_some_and(|end| *end <= at) {
            return true;
        }
    }
    false
}

/// First key and the key behind the last one.
fn span(range: &KeyRange) -> (Bytes, Option<Bytes>) {
    match range {
        KeyRange::One(key) => {
            let next: Vec<u8> = key.iter().copied().chain([0]).collect();
            (key.clone(), Some(next.into()))
        }
        KeyRange::Between { start, end } => (start.clone(), Some(end.clone())),
        KeyRange::From(start) => (start.clone(), None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn between(start: &'static str, end: &'static str) -> KeyRange {
        KeyRange::Between { start: start.into(), end: end.into() }
    }

    #[track_caller]
    fn check(ranges: &[KeyRange], wanted: &KeyRange, expected: bool) {
        assert_eq!(cover(ranges.iter(), wanted), expected, "{wanted:?} by {ranges:?}");
    }

    #[test]
    fn neighbours_add_up_and_gaps_do_not() {
        check(&[between("b", "c"), between("a", "b")], &between("a", "c"), true);
        check(&[between("a", "b"), between("c", "d")], &between("a", "d"), false);
        check(&[between("a", "b"), KeyRange::One("b".into())], &between("a", "b\0"), true);
        check(&[between("a", "b")], &KeyRange::From("a".into()), false);
        check(&[between("a", "b"), KeyRange::From("b".into())], &KeyRange::From("a".into()), true);
        check(&[KeyRange::all()], &KeyRange::From("\0".into()), true);
        check(&[], &KeyRange::One("a".into()), false);
        check(&[between("a", "c")], &between("b", "b"), true);
        check(&[between("b", "d")], &between("d", "b"), false);
    }

    /// Keys of up to two letters out of two: few enough to ask for each.
    fn key() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(0_u8..2, 1..3).prop_map(Bytes::from)
    }

    fn range() -> impl Strategy<Value = KeyRange> {
        prop_oneof![
            key().prop_map(KeyRange::One),
            key().prop_map(KeyRange::From),
            (key(), key()).prop_map(|(start, end)| KeyRange::Between { start, end }),
        ]
    }

    proptest! {
        /// Never more than the ranges give: a covered range has no key that none of them has.
        #[test]
        fn what_is_covered_is_in_one_of_them(
            ranges in proptest::collection::vec(range(), 0..4),
            wanted in range(),
            asked in key(),
        ) {
            if cover(ranges.iter(), &wanted) && wanted.contains(&asked) {
                prop_assert!(ranges.iter().any(|range| range.contains(&asked)));
            }
        }

        #[test]
        fn a_range_covers_itself(wanted in range()) {
            prop_assert!(wanted.is_empty() || cover([&wanted].into_iter(), &wanted));
        }
    }
}
