//! The identity of a history: entries chained by hash.
//!
//! `hash[i] = H(hash[i-1], epoch, index, command)`, so two logs with the same hash at an index
//! are the same up to there, and where they part can be found by bisection
//! ([`crate::handshake`]).

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::{Epoch, Index, Position};

/// A chained hash.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hash(pub u128);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Keeps the hashes of the chain apart from those of digests, which hash other things.
const CHAIN_SEED: u64 = 0x5175_6172_7465_7401;
const REQUEST_SEED: u64 = 0x5175_6172_7465_7404;

/// How far a history goes: its last position, and the hash over all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The last entry; index 0 if there is none.
    pub position: Position,
    /// The chained hash up to and with it.
    pub hash: Hash,
}

impl Head {
    /// The empty history of a group. Groups of different names never agree on an entry.
    #[must_use]
    pub fn genesis(group: &str) -> Self {
        let mut hasher = Xxh3::with_seed(CHAIN_SEED);
        hasher.update(group.as_bytes());
        Self { position: Position::default(), hash: Hash(hasher.digest128()) }
    }

    /// The index of the last entry.
    #[must_use]
    pub const fn index(&self) -> Index {
        self.position.index
    }

    /// The entry that continues this history with `command`.
    #[must_use]
    pub fn extend(&self, epoch: Epoch, command: Bytes) -> Entry {
        let position = Position { epoch, index: self.index().next() };
        let hash = chain(self.hash, position, &command);
        Entry { position, hash, command }
    }
}

fn chain(previous: Hash, position: Position, command: &[u8]) -> Hash {
    let mut hasher = Xxh3::with_seed(CHAIN_SEED);
    hasher.update(&previous.0.to_le_bytes());
    hasher.update(&position.epoch.0.to_le_bytes());
    hasher.update(&position.index.0.to_le_bytes());
    hasher.update(command);
    Hash(hasher.digest128())
}

/// A hash of several byte strings in order, each told apart from its neighbours: to recognise a
/// repeated request.
pub fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u128 {
    let mut hasher = Xxh3::with_seed(REQUEST_SEED);
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.digest128()
}

/// One entry of the log, with the hash of the history it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it stands.
    pub position: Position,
    /// The chained hash up to and with it.
    pub hash: Hash,
    /// What it does: see [`crate::command`].
    pub command: Bytes,
}

/// A log record too short to be an entry.
#[derive(Debug, thiserror::Error)]
#[error("the log record at index {0} is not an entry of a replicated history")]
pub struct InvalidPayload(Index);

const HASH_BYTES: usize = size_of::<u128>();

impl Entry {
    /// The history that ends here.
    #[must_use]
    pub const fn head(&self) -> Head {
        Head { position: self.position, hash: self.hash }
    }

    /// Whether this continues `head` and says the truth about its own hash.
    #[must_use]
    pub fn follows(&self, head: &Head) -> bool {
        self.position.index == head.index().next()
            && head.position.epoch <= self.position.epoch
            && self.hash == chain(head.hash, self.position, &self.command)
    }

    /// What is logged: hash (16 bytes, little endian), then the command. Epoch and index are
    /// fields of the log's own record.
    #[must_use]
    pub fn to_payload(&self) -> Bytes {
        let mut payload = BytesMut::with_capacity(HASH_BYTES + self.command.len());
        payload.put_u128_le(self.hash.0);
        payload.put_slice(&self.command);
        payload.freeze()
    }

    /// The entry in a log record.
    pub fn from_payload(position: Position, payload: &Bytes) -> Result<Self, InvalidPayload> {
        let (hash, _) =
            payload.split_first_chunk::<HASH_BYTES>().ok_or(InvalidPayload(position.index))?;
        let hash = Hash(u128::from_le_bytes(*hash));
        Ok(Self { position, hash, command: payload.slice(HASH_BYTES..) })
    }
}

/// Where each epoch of a history begins: tells for any position whether it is on the history.
///
/// Epochs that begin below what the history still remembers are forgotten, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epochs(Vec<(Epoch, Index)>);

/// Epochs remembered. One is added each time a primary starts.
const EPOCHS_MAX: usize = 4096;

impl Epochs {
    /// Takes the next entry of the history.
    pub fn push(&mut self, position: Position) {
        if self.0.last().is_none_or(|(epoch, _)| *epoch < position.epoch) {
            if self.0.len() == EPOCHS_MAX {
                self.0.remove(0);
            }
            self.0.push((position.epoch, position.index));
        }
    }

    /// Forgets what comes after `last`.
    pub fn truncate(&mut self, last: Index) {
        self.0.retain(|(_, first)| *first <= last);
    }

    /// The epoch of the entry at `index`, if the index is not older than what is remembered.
    #[must_use]
    pub fn at(&self, index: Index) -> Option<Epoch> {
        let after = self.0.partition_point(|(_, first)| *first <= index);
        Some(self.0[after.checked_sub(1)?].0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(head: &Head, epoch: u64, command: &'static str) -> Entry {
        head.extend(Epoch(epoch), Bytes::from_static(command.as_bytes()))
    }

    #[test]
    fn an_entry_follows_only_its_own_history() {
        let genesis = Head::genesis("orders");
        let first = entry(&genesis, 1, "a");
        let second = entry(&first.head(), 1, "b");
        assert!(first.follows(&genesis) && second.follows(&first.head()));
        assert!(!second.follows(&genesis));
        assert!(!first.follows(&Head::genesis("carts")));
        let other = entry(&genesis, 1, "x");
        assert!(!second.follows(&other.head()));
    }

    #[test]
    fn a_changed_command_or_epoch_shows_in_the_hash() {
        let genesis = Head::genesis("orders");
        let honest = entry(&genesis, 1, "a");
        assert!(!Entry { command: Bytes::from_static(b"b"), ..honest }.follows(&genesis));
        let later = Position { epoch: Epoch(2), ..honest.position };
        assert!(!Entry { position: later, ..honest }.follows(&genesis));
    }

    #[test]
    fn an_epoch_never_falls_along_a_history() {
        let first = entry(&Head::genesis("orders"), 5, "a");
        assert!(!entry(&first.head(), 4, "b").follows(&first.head()));
    }

    #[test]
    fn an_entry_survives_the_log() {
        let first = entry(&Head::genesis("orders"), 1, "abc");
        let payload = first.to_payload();
        assert_eq!(Entry::from_payload(first.position, &payload).unwrap(), first);
        assert!(Entry::from_payload(first.position, &payload.slice(..15)).is_err());
    }

    #[test]
    fn the_epoch_of_an_index_is_that_of_its_run() {
        let mut epochs = Epochs::default();
        for (epoch, index) in [(1, 1), (1, 2), (3, 3), (3, 4), (4, 5)] {
            epochs.push(Position { epoch: Epoch(epoch), index: Index(index) });
        }
        let at = |index| epochs.at(Index(index)).map(|epoch| epoch.0);
        assert_eq!(
            [at(0), at(1), at(2), at(3), at(4), at(5), at(9)],
            [None, Some(1), Some(1), Some(3), Some(3), Some(4), Some(4)]
        );
        epochs.truncate(Index(4));
        assert_eq!(epochs.at(Index(5)), Some(Epoch(3)));
    }
}
