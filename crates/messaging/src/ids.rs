//! Names, positions and identities.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch. It comes from whoever proposes, never from a clock here.
pub type Millis = u64;

/// The name of a topic, a subscription or a queue: 1 to 80 of `A-Z a-z 0-9 . _ -`, and neither
/// `.` nor `..`. Checked once, where it enters the program. Case counts, as it does in SQS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A name with a character, or of a length, that names may not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is not a name: use 1 to 80 of A-Z, a-z, 0-9, dot, underscore and dash")]
pub struct InvalidName {
    shown: String,
}

impl Name {
    /// Longest name, in bytes.
    pub const MAX_BYTES: usize = 80;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a topic or subscription may be called so: at most 64 bytes and no capitals. Only
    /// queues are reached by clients that bring their own names.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.0.len() <= 64 && !self.0.bytes().any(|c| c.is_ascii_uppercase())
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        let fits = (1..=Self::MAX_BYTES).contains(&name.len());
        // HTTP clients resolve dot segments away before they send a path.
        if fits && name.bytes().all(allowed) && name != "." && name != ".." {
            Ok(Self(name))
        } else {
            Err(InvalidName { shown: name.chars().take(40).collect() })
        }
    }
}

impl std::str::FromStr for Name {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::try_from(name.to_owned())
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The position of a message in its partition. The first is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub u64);

/// The identity of a message in its queue. Grows with every message, is never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(pub u64);

/// The identity of a subscription: one that is deleted and made again has another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SubscriptionId(pub u64);

/// One life of the process that hands out messages. Two lives never have the same, so that an
/// ack id from before a restart cannot be mistaken for a delivery made after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// A stable 64-bit hash (FNV-1a) of a key or group: it chooses partitions and is kept instead of
/// the text. Two groups that share a hash wait for each other; nothing else comes of it.
#[must_use]
pub fn stable_hash(text: &[u8]) -> u64 {
    let fnv = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // FNV's low bits are weak, and partitions are chosen by them.
    let mixed = (fnv ^ (fnv >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["a", "orders.created", "x_1-2", "Orders.fifo", &"a".repeat(80)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\0", &"a".repeat(81)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_spread_over_partitions() {
        let mut counts = [0_u32; 8];
        for key in 0..8_000 {
            let hash = stable_hash(format!("key-{key}").as_bytes());
            counts[usize::try_from(hash % 8).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }
}
