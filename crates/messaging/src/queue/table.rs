//! Messages by id, in chunks that a snapshot shares instead of copying.
//!
//! A message that has nothing out of the ordinary takes 40 bytes here; what only some have, a
//! group, a time, deliveries, is in a box of its own. A million messages may wait while others
//! come and go, so this is where their memory is.

use std::sync::Arc;

use consensus::Index;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::{Source, Stored};
use crate::dispatch::{Progress, Spec};
use crate::frame::RecordSize;
use crate::ids::Millis;

/// Ids per chunk, as a power of two: a write after a snapshot copies at most 64 messages.
const CHUNK_BITS: u32 = 6;

/// A map whose clone costs the same however many messages it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    chunks: OrdMap<u64, Arc<Vec<Slot>>>,
    /// The chunk to which the latest message went: the only one that may be empty.
    last: u64,
    len: u64,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Slot {
    index: Index,
    sent_ms: Millis,
    rare: Option<Box<Rare>>,
    at: u32,
    size: RecordSize,
    /// The id's place within its chunk.
    low: u8,
    priority: u8,
}

const _: () = assert!(size_of::<Slot>() == 40, "a message is to be cheap");

/// What few messages have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Rare {
    due_ms: Millis,
    expires_ms: Millis,
    group: Option<u64>,
    source: Option<Source>,
    progress: Option<Box<Progress>>,
}

impl Slot {
    pub(super) const fn size(&self) -> RecordSize {
        self.size
    }

    pub(super) const fn priority(&self) -> u8 {
        self.priority
    }

    pub(super) const fn index(&self) -> Index {
        self.index
    }

    pub(super) const fn sent_ms(&self) -> Millis {
        self.sent_ms
    }

    /// Where it was dead-lettered from.
    pub(super) fn source(&self) -> Option<Source> {
        self.rare.as_ref()?.source
    }

    /// Its deliveries, as far as they are replicated.
    pub(super) fn progress(&self) -> Option<&Progress> {
        self.rare.as_ref()?.progress.as_deref()
    }

    pub(super) fn set_progress(&mut self, progress: Progress) {
        self.rare.get_or_insert_default().progress = Some(Box::new(progress));
    }

    /// How often it was delivered, as far as that is replicated.
    pub(super) fn attempts(&self) -> u32 {
        self.progress().map_or(0, |progress| progress.attempts)
    }

    pub(super) fn spec(&self) -> Spec {
        let plain = Spec { priority: self.priority, ..Spec::default() };
        self.rare.as_ref().map_or(plain, |rare| Spec {
            group: rare.group,
            due: rare.due_ms,
            expires: rare.expires_ms,
            ..plain
        })
    }

    /// All of it but its deliveries.
    pub(super) fn stored(&self) -> Stored {
        let Self { index, at, size, priority, sent_ms, .. } = *self;
        let Spec { group, due: due_ms, expires: expires_ms, .. } = self.spec();
        let source = self.source();
        Stored { index, at, size, priority, sent_ms, due_ms, expires_ms, group, source }
    }

    fn new(id: u64, stored: &Stored) -> Self {
        let Stored { index, at, size, priority, sent_ms, due_ms, expires_ms, group, source } =
            *stored;
        let rare = Rare { due_ms, expires_ms, group, source, progress: None };
        let rare = (rare != Rare::default()).then(|| Box::new(rare));
        Self { index, sent_ms, rare, at, size, low: low(id), priority }
    }
}

/// A message that was taken out.
#[derive(Debug)]
pub(super) struct Removed {
    pub(super) slot: Slot,
    /// No other message is in the same log entry.
    pub(super) alone: bool,
}

impl Table {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn get(&self, id: u64) -> Option<&Slot> {
        let chunk = self.chunks.get(&(id >> CHUNK_BITS))?;
        place(chunk, id).map(|at| &chunk[at])
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Slot> {
        let chunk = self.chunks.get_mut(&(id >> CHUNK_BITS))?;
        let at = place(chunk, id)?;
        Some(&mut Arc::make_mut(chunk)[at])
    }

    /// Adds a message with a higher id than any before it.
    pub(super) fn push(&mut self, id: u64, stored: &Stored) {
        let key = id >> CHUNK_BITS;
        if self.last != key {
            // What stays empty is not kept.
            if self.chunks.get(&self.last).is_some_and(|chunk| chunk.is_empty()) {
                self.chunks.remove(&self.last);
            }
            self.last = key;
        }
        let chunk = Arc::make_mut(self.chunks.entry(key).or_default());
        debug_assert!(chunk.last().is_none_or(|last| last.low < low(id)), "ids grow");
        chunk.push(Slot::new(id, stored));
        self.len += 1;
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Removed> {
        let key = id >> CHUNK_BITS;
        let chunk = self.chunks.get_mut(&key)?;
        let at = place(chunk, id)?;
        let chunk = Arc::make_mut(chunk);
        let slot = chunk.remove(at);
        self.len -= 1;
        // Ids and log indexes grow together: others of the entry would be next to it.
        let before = at.checked_sub(1).map(|before| chunk[before].index);
        let after = chunk.get(at).map(|after| after.index);
        if key == self.last {
            // The next message will be here: a queue that is nearly empty keeps its only chunk.
        } else if chunk.is_empty() {
            self.chunks.remove(&key);
        } else if chunk.len() * 4 < chunk.capacity() {
            // A few messages that stay long must not keep the room of a whole chunk.
            chunk.shrink_to(chunk.len() * 2);
        }
        let shared = Some(slot.index) == before.or_else(|| self.last_before(key))
            || Some(slot.index) == after.or_else(|| self.first_after(key));
        Some(Removed { slot, alone: !shared })
    }

    /// All messages, by id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Slot)> + '_ {
        self.chunks.iter().flat_map(numbered)
    }

    /// Messages from this id on.
    pub(super) fn from(&self, id: u64) -> impl Iterator<Item = (u64, &Slot)> + '_ {
        self.chunks.range(id >> CHUNK_BITS..).flat_map(numbered).skip_while(move |(at, _)| *at < id)
    }

    fn last_before(&self, key: u64) -> Option<Index> {
        let (_, chunk) = self.chunks.get_prev(&key.checked_sub(1)?)?;
        chunk.last().map(Slot::index)
    }

    fn first_after(&self, key: u64) -> Option<Index> {
        let (_, chunk) = self.chunks.get_next(&(key + 1))?;
        chunk.first().map(Slot::index)
    }
}

fn numbered<'a>(
    (key, chunk): (&'a u64, &'a Arc<Vec<Slot>>),
) -> impl Iterator<Item = (u64, &'a Slot)> + use<'a> {
    chunk.iter().map(move |slot| ((key << CHUNK_BITS) + u64::from(slot.low), slot))
}

const fn low(id: u64) -> u8 {
    (id & ((1 << CHUNK_BITS) - 1)) as u8
}

fn place(chunk: &[Slot], id: u64) -> Option<usize> {
    chunk.binary_search_by_key(&low(id), |slot| slot.low).ok()
}
