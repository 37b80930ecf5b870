//! The newest entries of all groups, in memory, bounded by bytes.
//!
//! Payloads are shared, not copied. What goes first is what came first, whichever its group: a
//! reader of any tail that keeps up never touches the disk.

use std::collections::{BTreeMap, VecDeque};

use consensus::GroupId;

use consensus::Entry;

/// Counted per entry besides its payload, so that many empty entries are bounded too.
const ENTRY_OVERHEAD: usize = 96;

/// The cached tail of one group: its last entries, without gaps.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    entries: VecDeque<Cached>,
}

#[derive(Debug)]
struct Cached {
    /// Unique: tells this entry from an earlier one with its index.
    stamp: u64,
    entry: Entry,
}

impl Tail {
    /// The entries from `index` on, if that one is cached.
    pub(crate) fn from(&self, index: u64) -> Option<impl Iterator<Item = &Entry>> {
        let first = self.first()?;
        let skip = usize::try_from(index.checked_sub(first)?).ok()?;
        (skip < self.entries.len()).then(|| self.entries.iter().skip(skip).map(|c| &c.entry))
    }

    /// The lowest cached index.
    pub(crate) fn first(&self) -> Option<u64> {
        self.entries.front().map(|cached| cached.entry.index.0)
    }
}

/// What all tails have in common: the order of arrival and the bound.
#[derive(Debug)]
pub(crate) struct TailCache {
    max_bytes: usize,
    bytes: usize,
    count: usize,
    stamp: u64,
    order: VecDeque<(GroupId, u64)>,
}

impl TailCache {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, bytes: 0, count: 0, stamp: 0, order: VecDeque::new() }
    }

    /// Bytes held, with the overhead per entry.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds an entry at the end of its group's tail.
    pub(crate) fn push(&mut self, group: GroupId, tail: &mut Tail, entry: Entry) {
        self.stamp += 1;
        self.bytes += cost(&entry);
        self.count += 1;
        self.order.push_back((group, self.stamp));
        tail.entries.push_back(Cached { stamp: self.stamp, entry });
    }

    /// Drops the entries from `index` on.
    pub(crate) fn truncate(&mut self, tail: &mut Tail, index: u64) {
        while let Some(cached) = tail.entries.pop_back_if(|last| last.entry.index.0 >= index) {
            self.forget(&cached.entry);
        }
    }

    /// Drops the entries below `index`.
    pub(crate) fn advance(&mut self, tail: &mut Tail, index: u64) {
        while let Some(cached) = tail.entries.pop_front_if(|first| first.entry.index.0 < index) {
            self.forget(&cached.entry);
        }
    }

    fn forget(&mut self, entry: &Entry) {
        self.bytes -= cost(entry);
        self.count -= 1;
    }

    /// True while [`next_victim`](Self::next_victim) has to be evicted.
    pub(crate) fn is_over(&self) -> bool {
        // Dropped entries leave their place in `order` behind; that is bounded too.
        self.bytes > self.max_bytes || self.order.len() > 2 * self.count + 1024
    }

    /// The oldest entry by arrival; it may be gone already.
    pub(crate) fn next_victim(&mut self) -> Option<(GroupId, u64)> {
        self.order.pop_front()
    }

    /// Drops the victim if it is still the first of its group's tail. An older victim cannot be
    /// behind a younger one, so if it is not the first, it is gone.
    pub(crate) fn evict(&mut self, tail: &mut Tail, stamp: u64) {
        if let Some(cached) = tail.entries.pop_front_if(|first| first.stamp == stamp) {
            self.forget(&cached.entry);
        }
    }

    /// Drops the oldest entries until the bound holds.
    pub(crate) fn shrink<G>(
        &mut self,
        groups: &mut BTreeMap<GroupId, G>,
        tail: impl Fn(&mut G) -> &mut Tail,
    ) {
        while self.is_over()
            && let Some((group, stamp)) = self.next_victim()
        {
            if let Some(group) = groups.get_mut(&group) {
                self.evict(tail(group), stamp);
            }
        }
    }
}

fn cost(entry: &Entry) -> usize {
    entry.payload.len() + ENTRY_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use consensus::{Index, Term};

    fn entry(index: u64) -> Entry {
        Entry::command(Term(1), Index(index), Bytes::from(vec![0; 904]))
    }

    #[test]
    fn the_oldest_go_first_whatever_their_group() {
        let mut cache = TailCache::new(4_000);
        let mut tails: BTreeMap<GroupId, Tail> = BTreeMap::new();
        for index in 1..=3 {
            for group in [GroupId(1), GroupId(2)] {
                cache.push(group, tails.entry(group).or_default(), entry(index));
                cache.shrink(&mut tails, |tail| tail);
            }
        }
        assert_eq!(cache.bytes(), 4_000);
        assert!(tails[&GroupId(1)].from(1).is_none());
        assert_eq!(tails[&GroupId(2)].from(2).unwrap().count(), 2);
    }

    #[test]
    fn replaced_entries_are_not_evicted_in_place_of_their_predecessors() {
        let mut cache = TailCache::new(10_000);
        let mut tails: BTreeMap<GroupId, Tail> = BTreeMap::new();
        let group = GroupId(1);
        for _ in 0..2_000 {
            let tail = tails.entry(group).or_default();
            cache.truncate(tail, 1);
            cache.push(group, tail, entry(1));
            cache.shrink(&mut tails, |tail| tail);
        }
        assert_eq!(tails[&group].from(1).unwrap().count(), 1);
        assert!(cache.order.len() < 1_100, "stale places are dropped");
    }
}
