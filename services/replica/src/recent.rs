//! The newest entries, in memory: what replicas are sent while our own disk still writes.
//!
//! The log hands out only what is durable. Waiting for that would put two disks in a row behind
//! every quorum write instead of side by side.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use replication::{Entry, Index};

/// Bytes of entries kept. A replica that is further behind reads the log.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// Written by the owner, read by the streams.
#[derive(Clone, Default)]
pub(crate) struct Recent(Arc<Mutex<Window>>);

#[derive(Default)]
struct Window {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Recent {
    fn lock(&self) -> std::sync::MutexGuard<'_, Window> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes entries that the log has accepted.
    pub(crate) fn push(&self, entries: &[Entry]) {
        let mut window = self.lock();
        for entry in entries {
            window.bytes += entry.command.len();
            window.entries.push_back(entry.clone());
        }
        while BYTES_MAX < window.bytes
            && let Some(oldest) = window.entries.pop_front()
        {
            window.bytes -= oldest.command.len();
        }
    }

    /// Entries from `from` on, up to `max_bytes` but at least one, if `from` is among them.
    pub(crate) fn read(&self, from: Index, max_bytes: usize) -> Vec<Entry> {
        let window = self.lock();
        let first = window.entries.partition_point(|entry| entry.position.index < from);
        let begins_there = |entry: &Entry| entry.position.index == from;
        if !window.entries.get(first).is_some_and(begins_there) {
            return Vec::new();
        }
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let fits = bytes == 0 || bytes + entry.command.len() <= max_bytes;
            bytes += entry.command.len().max(1);
            fits
        };
        window.entries.range(first..).take_while(fits).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use replication::{Epoch, Head};

    use super::*;

    fn entries(count: usize, bytes: usize) -> Vec<Entry> {
        let mut head = Head::genesis("g");
        let next = |_| {
            let entry = head.extend(Epoch(1), Bytes::from(vec![0; bytes]));
            head = entry.head();
            entry
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn a_reader_gets_what_follows_or_nothing() {
        let recent = Recent::default();
        assert!(recent.read(Index(1), 100).is_empty());
        let entries = entries(5, 10);
        recent.push(&entries);
        assert_eq!(recent.read(Index(2), 25), entries[1..3]);
        assert_eq!(recent.read(Index(5), 1), entries[4..], "at least one");
        assert!(recent.read(Index(6), 100).is_empty());
    }

    #[test]
    fn the_oldest_give_way() {
        let recent = Recent::default();
        recent.push(&entries(20, BYTES_MAX / 10));
        assert!(recent.read(Index(1), 1).is_empty());
        assert_eq!(recent.read(Index(20), 1).len(), 1);
    }
}
