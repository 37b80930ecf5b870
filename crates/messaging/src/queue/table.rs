//! Messages by id, in chunks that a snapshot shares instead of copying.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Stored;

/// Ids per chunk, as a power of two: a write after a snapshot copies at most 64 messages.
const CHUNK_BITS: u32 = 6;

/// A map whose clone costs one pointer for every 64 messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    chunks: BTreeMap<u64, Arc<Vec<(u64, Stored)>>>,
    len: u64,
}

impl Table {
    /// How many messages.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One message.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&Stored> {
        let chunk = self.chunks.get(&(id >> CHUNK_BITS))?;
        chunk.binary_search_by_key(&id, |(id, _)| *id).ok().map(|at| &chunk[at].1)
    }

    /// One message, to be changed.
    pub fn get_mut(&mut self, id: u64) -> Option<&mut Stored> {
        let chunk = self.chunks.get_mut(&(id >> CHUNK_BITS))?;
        let at = chunk.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&mut Arc::make_mut(chunk)[at].1)
    }

    /// Adds a message with a higher id than any before it.
    pub fn push(&mut self, id: u64, stored: Stored) {
        let chunk = Arc::make_mut(self.chunks.entry(id >> CHUNK_BITS).or_default());
        debug_assert!(chunk.last().is_none_or(|(last, _)| *last < id), "ids grow");
        chunk.push((id, stored));
        self.len += 1;
    }

    /// Takes a message out.
    pub fn remove(&mut self, id: u64) -> Option<Stored> {
        let key = id >> CHUNK_BITS;
        let chunk = self.chunks.get_mut(&key)?;
        let at = chunk.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        let chunk = Arc::make_mut(chunk);
        let (_, stored) = chunk.remove(at);
        if chunk.is_empty() {
            self.chunks.remove(&key);
        } else if chunk.len() * 4 < chunk.capacity() {
            // A few messages that stay long must not keep the room of a whole chunk.
            chunk.shrink_to(chunk.len() * 2);
        }
        self.len -= 1;
        Some(stored)
    }

    /// All messages, by id.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Stored)> + '_ {
        self.chunks.values().flat_map(|chunk| chunk.iter().map(|(id, stored)| (*id, stored)))
    }
}
