//! Entries of several messages that were read a moment ago.
//!
//! A batch is one entry of the log. Who receives its messages one at a time would have all of it
//! read and checked for each of them, once it has left the log's memory. What is committed does not
//! change, and numbers of groups do not come again, so nothing here is ever out of date.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use consensus::{GroupId, Index};
use raft_node::Entry;

/// Most entries: they are searched one by one.
const MAX_ENTRIES: usize = 64;
/// Most bytes of them.
const MAX_BYTES: usize = 8 << 20;

/// The entries read last, of all groups.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The oldest first.
    entries: VecDeque<(GroupId, Entry)>,
    bytes: usize,
}

impl Recent {
    pub(crate) fn get(&self, group: GroupId, index: Index) -> Option<Entry> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_wanted = |(of, entry): &&(GroupId, Entry)| (*of, entry.index) == (group, index);
        // Who comes next most likely wants what came last.
        kept.entries.iter().rev().find(is_wanted).map(|(_, entry)| entry.clone())
    }

    /// Keeps an entry in place of the oldest. One that is kept already, or too large, is not.
    pub(crate) fn keep(&self, group: GroupId, entry: &Entry) {
        let len = entry.payload.len();
        if MAX_BYTES / 4 < len || self.get(group, entry.index).is_some() {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += len;
        kept.entries.push_back((group, entry.clone()));
        while MAX_ENTRIES < kept.entries.len() || MAX_BYTES < kept.bytes {
            let Some((_, oldest)) = kept.entries.pop_front() else { return };
            kept.bytes -= oldest.payload.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use consensus::Term;

    use super::*;

    fn entry(index: u64, len: usize) -> Entry {
        Entry::command(Term(1), Index(index), Bytes::from(vec![0; len]))
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_or_they_are_too_large() {
        let (recent, group) = (Recent::default(), GroupId(7));
        for index in 1..=MAX_ENTRIES as u64 + 1 {
            recent.keep(group, &entry(index, 10));
        }
        assert!(recent.get(group, Index(1)).is_none());
        assert_eq!(recent.get(group, Index(2)), Some(entry(2, 10)));
        assert!(recent.get(GroupId(8), Index(2)).is_none(), "another group's");
        for index in 100..105 {
            recent.keep(group, &entry(index, MAX_BYTES / 4));
            recent.keep(group, &entry(index, MAX_BYTES / 4));
        }
        let kept: Vec<_> = (1..200).filter(|at| recent.get(group, Index(*at)).is_some()).collect();
        assert_eq!(kept, [101, 102, 103, 104]);
        recent.keep(group, &entry(300, MAX_BYTES / 4 + 1));
        assert!(recent.get(group, Index(300)).is_none());
    }
}
