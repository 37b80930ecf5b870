//! Records that are logged but not yet in the engine: readers look here first.
//!
//! A persistent map, so that the owner's next change costs readers nothing: they keep the version
//! that was published to them.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use replication::command::Record;
use replication::{Head, Index};

use crate::engine::Step;

/// What a key held after some entry; none if it was removed.
pub(crate) type Version = (Index, Option<Record>);

/// For each key the versions since the engine's, oldest first.
#[derive(Clone, Default)]
pub(crate) struct Overlay {
    keys: OrdMap<Bytes, Vec<Version>>,
}

impl Overlay {
    /// The newest version up to `visible`, if the engine's is not it.
    pub(crate) fn get(&self, key: &[u8], visible: Index) -> Option<&Version> {
        self.keys.get(key)?.iter().rev().find(|(index, _)| *index <= visible)
    }

    /// The newest version of every key from `start` on, as of `visible`.
    pub(crate) fn range(
        &self,
        start: std::ops::Bound<Bytes>,
        visible: Index,
    ) -> impl Iterator<Item = (&Bytes, &Version)> {
        let range = self.keys.range((start, std::ops::Bound::Unbounded));
        range.filter_map(move |(key, versions)| {
            let version = versions.iter().rev().find(|(index, _)| *index <= visible)?;
            Some((key, version))
        })
    }

    fn push(&mut self, key: &Bytes, version: Version, visible: Index) {
        let versions = self.keys.entry(key.clone()).or_default();
        // Of what readers may see they only ever ask for the newest.
        let seen = versions.iter().rposition(|(index, _)| *index <= visible).unwrap_or(0);
        versions.drain(..seen);
        versions.push(version);
    }

    fn keep(&mut self, key: &Bytes, keep: impl Fn(Index) -> bool) {
        if let Some(versions) = self.keys.get_mut(key) {
            versions.retain(|(index, _)| keep(*index));
            if versions.is_empty() {
                self.keys.remove(key);
            }
        }
    }
}

/// The owner's side: the entries behind the overlay, oldest first.
#[derive(Default)]
pub(crate) struct Tail {
    overlay: Overlay,
    entries: VecDeque<(Arc<Step>, usize)>,
    bytes: usize,
}

impl Tail {
    /// Takes the next entry. `bytes` is its size in the log.
    pub(crate) fn push(&mut self, step: Step, bytes: usize, visible: Index) {
        let index = step.head.index();
        for (key, record) in &step.mutations {
            self.overlay.push(key, (index, record.clone()), visible);
        }
        self.bytes += bytes;
        self.entries.push_back((Arc::new(step), bytes));
    }

    /// What `key` holds after every entry so far, if the engine's record is not it.
    pub(crate) fn newest(&self, key: &[u8]) -> Option<&Version> {
        self.overlay.get(key, Index(u64::MAX))
    }

    /// The entries after `from`, up to `through`, at most `limit`.
    pub(crate) fn between(&self, from: Index, through: Index, limit: usize) -> Vec<Arc<Step>> {
        let first = self.entries.partition_point(|(step, _)| step.head.index() <= from);
        let after = self.entries.partition_point(|(step, _)| step.head.index() <= through);
        let range = self.entries.range(first..after.max(first));
        range.take(limit).map(|(step, _)| Arc::clone(step)).collect()
    }

    /// The engine has everything up to `through` now.
    pub(crate) fn applied(&mut self, through: Index) {
        while let Some((step, bytes)) =
            self.entries.pop_front_if(|(step, _)| step.head.index() <= through)
        {
            self.bytes -= bytes;
            for (key, _) in &step.mutations {
                self.overlay.keep(key, |index| through < index);
            }
        }
    }

    /// Everything after `last` never happened.
    pub(crate) fn truncate(&mut self, last: Index) {
        while let Some((step, bytes)) =
            self.entries.pop_back_if(|(step, _)| last < step.head.index())
        {
            self.bytes -= bytes;
            for (key, _) in &step.mutations {
                self.overlay.keep(key, |index| index <= last);
            }
        }
    }

    /// The history with the entry at `index`, if it is here.
    pub(crate) fn head_at(&self, index: Index) -> Option<Head> {
        let position = self.entries.partition_point(|(step, _)| step.head.index() < index);
        let (step, _) = self.entries.get(position)?;
        (step.head.index() == index).then_some(step.head)
    }

    /// Bytes of log that wait here.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// For readers.
    pub(crate) fn overlay(&self) -> Overlay {
        self.overlay.clone()
    }
}

#[cfg(test)]
mod tests {
    use replication::{Epoch, Hash, Position};

    use super::*;

    fn step(index: u64, writes: &[(&'static str, Option<&'static str>)]) -> Step {
        let position = Position { epoch: Epoch(1), index: Index(index) };
        let record = |value: &'static str| Record {
            version: position,
            expires_at_ms: None,
            content_type: None,
            value: Bytes::from_static(value.as_bytes()),
        };
        let mutation = |&(key, value): &(&'static str, Option<&'static str>)| {
            (Bytes::from_static(key.as_bytes()), value.map(record))
        };
        let mutations = writes.iter().map(mutation).collect();
        Step { head: Head { position, hash: Hash(0) }, mutations, check: None }
    }

    fn value(overlay: &Overlay, key: &str, visible: u64) -> Option<Option<String>> {
        let (_, record) = overlay.get(key.as_bytes(), Index(visible))?;
        Some(record.as_ref().map(|record| String::from_utf8(record.value.to_vec()).unwrap()))
    }

    #[test]
    fn a_reader_sees_the_newest_version_that_is_visible() {
        let mut tail = Tail::default();
        tail.push(step(1, &[("a", Some("1"))]), 1, Index(0));
        tail.push(step(2, &[("a", Some("2")), ("a", Some("3"))]), 1, Index(0));
        tail.push(step(3, &[("a", None)]), 1, Index(0));
        let overlay = tail.overlay();
        assert_eq!(value(&overlay, "a", 0), None);
        assert_eq!(value(&overlay, "a", 1), Some(Some("1".into())));
        assert_eq!(value(&overlay, "a", 2), Some(Some("3".into())));
        assert_eq!(value(&overlay, "a", 3), Some(None));
    }

    #[test]
    fn versions_that_nobody_can_ask_for_are_dropped() {
        let mut tail = Tail::default();
        for index in 1..=100 {
            tail.push(step(index, &[("a", Some("v"))]), 1, Index(index - 1));
        }
        assert_eq!(tail.overlay.keys.get(&b"a"[..]).unwrap().len(), 2);
    }

    #[test]
    fn applied_entries_go_to_the_engine_and_truncated_ones_nowhere() {
        let mut tail = Tail::default();
        tail.push(step(1, &[("a", Some("1"))]), 10, Index(0));
        tail.push(step(2, &[("a", Some("2")), ("b", Some("2"))]), 10, Index(0));
        tail.push(step(3, &[("b", Some("3"))]), 10, Index(0));
        let published = tail.overlay();
        tail.truncate(Index(2));
        assert_eq!(value(&tail.overlay(), "b", 9), Some(Some("2".into())));
        assert_eq!(
            value(&published, "b", 9),
            Some(Some("3".into())),
            "its reader is not disturbed"
        );
        tail.applied(Index(1));
        assert_eq!((tail.bytes(), tail.between(Index(0), Index(9), 9).len()), (10, 1));
        assert_eq!(value(&tail.overlay(), "a", 1), None);
        tail.applied(Index(2));
        assert!(tail.overlay.keys.is_empty() && tail.bytes() == 0);
    }
}
