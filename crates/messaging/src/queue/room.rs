//! Whether a send fits, and what it takes the place of.

use super::table::Table;
use super::{Outgoing, Queue, Refused};
use crate::bits::Bits;
use crate::config::{Overflow, QueueConfig};
use crate::dispatch::LEVELS;
use crate::frame::RecordSize;
use crate::ids::MessageId;

/// All messages of a queue, by priority and age: what a queue that drops its oldest asks. It
/// follows from the table and is not part of a snapshot.
#[derive(Clone, Debug)]
pub(super) struct ByAge {
    levels: Vec<Level>,
}

#[derive(Clone, Debug, Default)]
struct Level {
    ids: Bits,
    len: u64,
    bytes: u64,
}

impl ByAge {
    /// `None` for a queue that drops nothing: then it costs nothing.
    pub(super) fn of(config: &QueueConfig, table: &Table) -> Option<Self> {
        if config.overflow == Overflow::Reject {
            return None;
        }
        let mut ages = Self { levels: vec![Level::default(); LEVELS] };
        for (id, slot) in table.iter() {
            ages.insert(id, slot.priority(), slot.size());
        }
        Some(ages)
    }

    pub(super) fn insert(&mut self, id: u64, priority: u8, size: RecordSize) {
        let level = &mut self.levels[usize::from(priority)];
        level.ids.insert(id);
        level.len += 1;
        level.bytes += size.total();
    }

    pub(super) fn remove(&mut self, id: u64, priority: u8, size: RecordSize) {
        let level = &mut self.levels[usize::from(priority)];
        level.ids.remove(id);
        level.len -= 1;
        level.bytes -= size.total();
    }

    /// What goes first, of priorities up to this one.
    fn oldest(&self, priority: u8) -> Option<u64> {
        self.levels[..=usize::from(priority)].iter().find_map(|level| level.ids.first())
    }

    /// How many messages and bytes there are of priorities up to this one.
    fn up_to(&self, priority: u8) -> (u64, u64) {
        let levels = self.levels[..=usize::from(priority)].iter();
        levels.fold((0, 0), |(len, bytes), level| (len + level.len, bytes + level.bytes))
    }
}

impl Queue {
    /// Makes sure that these messages fit, all of them or none. Drops older ones for them if the
    /// settings say so; a refused send drops nothing.
    pub(super) fn make_room<'a>(
        &mut self,
        new: impl Iterator<Item = &'a Outgoing>,
    ) -> Result<(), Refused> {
        let max = self.state.config.max_priority;
        let (mut len, mut bytes, mut lowest) = (0, 0_u64, u8::MAX);
        for message in new {
            len += 1;
            bytes = bytes.saturating_add(message.size.total());
            lowest = lowest.min(message.priority);
        }
        if len == 0 || self.fits(len, bytes).is_ok() {
            return Ok(());
        }
        // A queue that once had more levels still has what was sent to them.
        let lowest = lowest.min(max);
        let (less, smaller) = self.ages.as_ref().map_or((0, 0), |ages| ages.up_to(lowest));
        let (held, held_bytes) = (self.len() - less, self.state.bytes - smaller);
        self.fits_beside((held, held_bytes), len, bytes).map_err(|refused| {
            // What is told is what it holds, not what it would hold.
            self.fits(len, bytes).err().unwrap_or(refused)
        })?;
        while self.fits(len, bytes).is_err() {
            let oldest = self.ages.as_ref().and_then(|ages| ages.oldest(lowest));
            let oldest = oldest.expect("there is room when all of these are gone");
            self.remove(MessageId(oldest));
            self.state.counters.dropped += 1;
        }
        Ok(())
    }

    fn fits(&self, len: u64, bytes: u64) -> Result<(), Refused> {
        self.fits_beside((self.len(), self.state.bytes), len, bytes)
    }

    fn fits_beside(&self, held: (u64, u64), len: u64, bytes: u64) -> Result<(), Refused> {
        let config = &self.state.config;
        let (held, held_bytes) = held;
        if config.max_messages < held.saturating_add(len) {
            return Err(Refused::TooMany { len: held, max: config.max_messages });
        }
        if config.max_bytes < held_bytes.saturating_add(bytes) {
            return Err(Refused::TooBig { bytes: held_bytes, max: config.max_bytes });
        }
        Ok(())
    }
}
