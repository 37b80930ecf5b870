//! What a node has on disk of one group, and what one write does to it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use consensus::{
    Entry, EntryKind, HardState, Index, Membership, Persist, Restored, SnapshotMeta, Term, TermRun,
};

use super::Bug;

pub(super) type Ranges = Vec<RangeInclusive<Index>>;

/// A state with what goes with it.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) meta: SnapshotMeta,
    pub(super) machine: Vec<u8>,
}

/// Each is there whole after a crash, or not at all.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Persist(Persist),
    /// A snapshot in a file of its own.
    Save(Snapshot),
    /// The log goes on behind that snapshot, whose machine reads the `wanted` entries below it.
    /// Those up to `trusted` are what is meant, if they are here.
    Reset {
        wanted: Ranges,
        trusted: Index,
    },
    Refill(Vec<Entry>),
    Filled,
    Compact {
        through: Index,
        keep: Ranges,
    },
}

#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) hard_state: HardState,
    /// The last entry that the log does not need any more.
    pub(super) base: (Index, Term),
    pub(super) base_membership: Option<(Index, Arc<Membership>)>,
    /// Entries behind the base, and those below it that a machine still reads.
    pub(super) log: BTreeMap<Index, Entry>,
    pub(super) snapshot: Option<Snapshot>,
    /// Entries are missing that the snapshot's machine reads.
    pub(super) filling: bool,
}

impl Disk {
    pub(super) fn founding(founders: &Membership) -> Self {
        let (hard_state, first) = Restored::founding(founders);
        Self { hard_state, log: BTreeMap::from([(first.index, first)]), ..Self::default() }
    }

    pub(super) fn last(&self) -> Index {
        self.log.last_key_value().map_or(self.base.0, |(last, _)| self.base.0.max(*last))
    }

    pub(super) fn term(&self, index: Index) -> Option<Term> {
        match index == self.base.0 {
            true => Some(self.base.1),
            false => self.log.get(&index).map(|entry| entry.term),
        }
    }

    pub(super) fn missing(&self, wanted: &Ranges) -> Vec<Index> {
        let all = wanted.iter().flat_map(|range| range.start().0..=range.end().0).map(Index);
        all.filter(|index| !self.log.contains_key(index)).collect()
    }

    pub(super) fn write(&mut self, write: Write, bug: Bug) {
        match write {
            Write::Persist(persist) => {
                self.hard_state = persist.hard_state.unwrap_or(self.hard_state);
                if let Some(from) = persist.truncate_from {
                    self.log.split_off(&from);
                }
                for entry in persist.entries {
                    assert_eq!(entry.index, self.last().next(), "a log on disk has no gaps");
                    self.log.insert(entry.index, entry);
                }
            }
            Write::Save(snapshot) => self.snapshot = Some(snapshot),
            Write::Reset { wanted, trusted } => self.reset(&wanted, trusted, bug),
            Write::Refill(entries) => {
                self.log.extend(entries.into_iter().map(|entry| (entry.index, entry)));
            }
            Write::Filled => self.filling = false,
            Write::Compact { through, keep } => self.compact(through, &keep),
        }
    }

    fn reset(&mut self, wanted: &Ranges, trusted: Index, bug: Bug) {
        let SnapshotMeta { index, term, membership } =
            self.snapshot.as_ref().expect("it was saved before").meta.clone();
        let keeps = bug != Bug::ResetDropsKept;
        self.log.retain(|at, _| keeps && *at <= trusted && is_in(wanted, *at));
        (self.base, self.base_membership) = ((index, term), Some((index, membership)));
        self.filling = keeps && !self.missing(wanted).is_empty();
    }

    fn compact(&mut self, through: Index, keep: &Ranges) {
        if through <= self.base.0 {
            return;
        }
        let term = self.term(through).expect("only what is durable is cut");
        for (index, entry) in self.log.range(..=through) {
            if entry.kind == EntryKind::Membership && self.base.0 < *index {
                let membership = Membership::decode(&entry.payload).expect("it was encoded");
                self.base_membership = Some((*index, Arc::new(membership)));
            }
        }
        self.log.retain(|index, _| through < *index || is_in(keep, *index));
        self.base = (through, term);
    }

    /// What the core starts from; and, if the snapshot is still to be installed, up to where the
    /// log can be trusted.
    pub(super) fn restored(&self) -> (Restored, Option<Index>) {
        let hard_state = self.hard_state;
        if let Some(Snapshot { meta, .. }) = &self.snapshot {
            let is_in_log = self.base.0 <= meta.index && self.term(meta.index) == Some(meta.term);
            if self.filling || !is_in_log {
                let trusted = self.base.0.max(hard_state.commit.min(self.last())).min(meta.index);
                let restored = Restored {
                    hard_state,
                    base: (meta.index, meta.term),
                    runs: VecDeque::new(),
                    last: meta.index,
                    memberships: vec![(meta.index, meta.membership.clone())],
                    snapshot: Some(meta.clone()),
                };
                return (restored, Some(trusted));
            }
        }
        let mut runs: VecDeque<TermRun> = VecDeque::new();
        let mut memberships: Vec<_> = self.base_membership.iter().cloned().collect();
        for (index, entry) in self.log.range(self.base.0.next()..) {
            if runs.back().is_none_or(|run| run.term != entry.term) {
                runs.push_back(TermRun { first: *index, term: entry.term });
            }
            if entry.kind == EntryKind::Membership {
                let membership = Membership::decode(&entry.payload).expect("it was encoded");
                memberships.push((*index, Arc::new(membership)));
            }
        }
        let snapshot = self.snapshot.as_ref().map(|snapshot| snapshot.meta.clone());
        let (base, last) = (self.base, self.last());
        (Restored { hard_state, snapshot, base, runs, last, memberships }, None)
    }

    /// At least one entry, at most `max_bytes` of them.
    pub(super) fn read(&self, from: Index, through: Index, max_bytes: usize) -> Vec<Entry> {
        let (mut bytes, mut entries) = (0, Vec::new());
        for index in from.0..=through.0 {
            let Some(entry) = self.log.get(&Index(index)) else { break };
            bytes += entry.cost();
            if max_bytes < bytes && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        entries
    }

    /// The node lets its copy go: what was promised stays.
    pub(super) fn left(&self) -> HardState {
        let last = self.last();
        self.hard_state.left(self.term(last).unwrap_or_default(), last)
    }
}

fn is_in(ranges: &Ranges, index: Index) -> bool {
    ranges.iter().any(|range| range.contains(&index))
}
