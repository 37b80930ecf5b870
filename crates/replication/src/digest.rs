//! A digest of the state that is kept up to date at O(1) a change.
//!
//! Each record hashes to 128 bits together with its key, version and expiry. The records of a
//! bucket are *added up* (wrapping): a sum, unlike XOR, does not lose a record that is there
//! twice. The root is the sum of the buckets, so that it too costs one addition a change and
//! every index has one; equal buckets narrow a difference down to a range of keys.
//!
//! It finds bugs and corruption. It does not withstand somebody who chooses records to collide.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use crate::command::Record;

/// Changes whenever the same state would give another digest.
pub const ALGORITHM: u32 = 1;
/// How many ranges a difference can be narrowed down to.
pub const BUCKETS: usize = 1024;

const RECORD_SEED: u64 = 0x5175_6172_7465_7402;
const BUCKET_SEED: u64 = 0x5175_6172_7465_7403;

/// A sum of hashes of records.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sum(pub u128);

impl Sum {
    /// This with a record more.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// This with a record less.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0))
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a record adds to its bucket.
#[must_use]
pub fn of_record(key: &[u8], record: &Record) -> Sum {
    let mut hasher = Xxh3::with_seed(RECORD_SEED);
    // Every part has its length in front, so no two records feed the same bytes.
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(key);
    part(&record.value);
    part(record.content_type.as_deref().unwrap_or_default().as_bytes());
    let mut number = |number: u64| hasher.update(&number.to_le_bytes());
    number(record.version.epoch.0);
    number(record.version.index.0);
    number(u64::from(record.content_type.is_some()));
    number(u64::from(record.expires_at_ms.is_some()));
    number(record.expires_at_ms.unwrap_or_default());
    Sum(hasher.digest128())
}

/// The bucket of a key.
#[must_use]
pub fn bucket_of(key: &[u8]) -> usize {
    (xxh3_64_with_seed(key, BUCKET_SEED) % BUCKETS as u64) as usize
}

/// The digest of a whole state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    buckets: Vec<Sum>,
    root: Sum,
}

impl Default for Digest {
    fn default() -> Self {
        Self { buckets: vec![Sum::default(); BUCKETS], root: Sum::default() }
    }
}

impl Digest {
    /// The digest with these buckets; missing ones are empty.
    pub fn from_buckets(buckets: impl IntoIterator<Item = (usize, Sum)>) -> Self {
        let mut digest = Self::default();
        for (bucket, sum) in buckets {
            digest.buckets[bucket] = sum;
            digest.root = digest.root.plus(sum);
        }
        digest
    }

    /// Replaces what `key` held by what it holds now. Returns the bucket that changed.
    pub fn replace(&mut self, key: &[u8], old: Option<&Record>, new: Option<&Record>) -> usize {
        let bucket = bucket_of(key);
        let minus = old.map_or_else(Sum::default, |record| of_record(key, record));
        let plus = new.map_or_else(Sum::default, |record| of_record(key, record));
        self.buckets[bucket] = self.buckets[bucket].minus(minus).plus(plus);
        self.root = self.root.minus(minus).plus(plus);
        bucket
    }

    /// The sum over everything.
    #[must_use]
    pub const fn root(&self) -> Sum {
        self.root
    }

    /// The sum of one bucket.
    #[must_use]
    pub fn bucket(&self, bucket: usize) -> Sum {
        self.buckets[bucket]
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Epoch, Index, Position};

    fn record(index: u64, value: &'static str) -> Record {
        let version = Position { epoch: Epoch(1), index: Index(index) };
        let value = Bytes::from_static(value.as_bytes());
        Record { version, expires_at_ms: None, content_type: None, value }
    }

    #[test]
    fn the_order_of_changes_does_not_matter_and_undoing_them_leaves_nothing() {
        let (one, two) = (record(1, "1"), record(2, "2"));
        let mut forward = Digest::default();
        forward.replace(b"a", None, Some(&one));
        forward.replace(b"b", None, Some(&two));
        let mut backward = Digest::default();
        backward.replace(b"b", None, Some(&two));
        backward.replace(b"a", None, Some(&one));
        assert_eq!(forward, backward);
        forward.replace(b"a", Some(&one), None);
        forward.replace(b"b", Some(&two), None);
        assert_eq!(forward, Digest::default());
    }

    #[test]
    fn every_part_of_a_record_counts() {
        let base = record(1, "1");
        let others = [
            record(2, "1"),
            record(1, "2"),
            Record { expires_at_ms: Some(0), ..base.clone() },
            Record { content_type: Some(String::new()), ..base.clone() },
        ];
        for other in others {
            assert_ne!(of_record(b"a", &base), of_record(b"a", &other), "{other:?}");
        }
        assert_ne!(of_record(b"a", &base), of_record(b"b", &base));
    }

    #[test]
    fn a_record_that_is_there_twice_does_not_cancel_itself() {
        let sum = of_record(b"a", &record(1, "1"));
        assert_ne!(Sum::default().plus(sum).plus(sum), Sum::default());
    }

    #[test]
    fn buckets_restore_the_whole() {
        let mut digest = Digest::default();
        for (key, index) in [(&b"a"[..], 1), (b"b", 2), (b"c", 3)] {
            digest.replace(key, None, Some(&record(index, "v")));
        }
        let buckets = (0..BUCKETS).map(|bucket| (bucket, digest.bucket(bucket)));
        assert_eq!(Digest::from_buckets(buckets), digest);
    }
}
