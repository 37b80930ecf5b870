//! The log as it should be: maps in memory. And a random user who writes to both.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use bytes::Bytes;
use consensus::{GroupId, HardState, Index, NodeId, Term};
use sim::Rng;
use storage::{Entry, EntryKind, LogView, Write};

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) groups: BTreeMap<GroupId, ModelGroup>,
}

/// One group, without any cleverness.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ModelGroup {
    pub(crate) hard_state: HardState,
    /// The last compacted index.
    pub(crate) base: u64,
    base_term: u64,
    pub(crate) last: u64,
    last_term: u64,
    filling: bool,
    /// Every live entry.
    pub(crate) entries: BTreeMap<u64, (u64, Bytes)>,
}

impl Model {
    pub(crate) fn apply(&mut self, write: &Write) {
        if let Write::Remove { group } = write {
            self.groups.remove(group);
            return;
        }
        if matches!(write, Write::Append { entries, .. } if entries.is_empty()) {
            return;
        }
        let group = self.groups.entry(write.group()).or_default();
        match write {
            Write::Append { entries, .. } => {
                for entry in entries {
                    let payload = entry.payload.clone();
                    group.entries.insert(entry.index.0, (entry.term.0, payload));
                    (group.last, group.last_term) = (entry.index.0, entry.term.0);
                }
            }
            Write::HardState { hard_state, .. } => group.hard_state = *hard_state,
            Write::Truncate { from, .. } => {
                group.entries.retain(|index, _| *index < from.0);
                group.last = from.0 - 1;
                group.last_term = group.term(group.last);
            }
            Write::Compact { through, keep, .. } => {
                if through.0 > group.base {
                    group.base_term = group.term(through.0);
                    group.base = through.0;
                }
                let kept = |index: u64| keep.iter().any(|range| range.contains(&Index(index)));
                group.entries.retain(|index, _| *index > through.0 || kept(*index));
            }
            Write::Reset { next, term, keep, filling, .. } => {
                (group.base, group.base_term) = (next.0 - 1, term.0);
                (group.last, group.last_term) = (group.base, group.base_term);
                let kept = |index: u64| keep.iter().any(|range| range.contains(&Index(index)));
                group.entries.retain(|index, _| *index < next.0 && kept(*index));
                group.filling = *filling;
            }
            Write::Refill { entries, .. } => {
                for Entry { index, term, payload, .. } in entries {
                    group.entries.entry(index.0).or_insert_with(|| (term.0, payload.clone()));
                }
            }
            Write::Filled { .. } => group.filling = false,
            Write::Remove { .. } => unreachable!("handled above"),
        }
    }

    /// Says how a log differs, if it does.
    pub(crate) fn compare(&self, view: &LogView, rng: &mut Rng) -> Result<(), String> {
        let groups: Vec<GroupId> = self.groups.keys().copied().collect();
        if view.groups() != groups {
            return Err(format!("groups are {:?} and should be {groups:?}", view.groups()));
        }
        for (id, group) in &self.groups {
            group.compare(*id, view, rng).map_err(|error| format!("group {id}: {error}"))?;
        }
        Ok(())
    }
}

impl ModelGroup {
    fn term(&self, index: u64) -> u64 {
        match self.entries.get(&index) {
            Some((term, _)) => *term,
            None if index == self.base => self.base_term,
            None => self.last_term,
        }
    }

    fn retained(&self) -> Vec<RangeInclusive<Index>> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for index in self.entries.range(..=self.base).map(|(index, _)| *index) {
            match ranges.last_mut() {
                Some((_, end)) if *end + 1 == index => *end = index,
                _ => ranges.push((index, index)),
            }
        }
        ranges.into_iter().map(|(start, end)| Index(start)..=Index(end)).collect()
    }

    fn compare(&self, id: GroupId, view: &LogView, rng: &mut Rng) -> Result<(), String> {
        let state = view.group(id).ok_or("is missing")?;
        let same = state.hard_state == self.hard_state
            && (state.first, state.last) == (Index(self.base + 1), Index(self.last))
            && state.last_term == Term(self.last_term)
            && state.compacted_term == Term(self.base_term)
            && state.retained == self.retained()
            && state.filling == self.filling
            && state.faulty.is_none();
        if !same {
            let (base, last) = (self.base, self.last);
            return Err(format!("is {state:?}, should have base {base} and last {last}"));
        }
        self.compare_missing(id, view, rng)?;
        let read = read_all(view, id, rng)?;
        let expected: Vec<Entry> = self
            .entries
            .iter()
            .map(|(index, (term, payload))| entry(Term(*term), *index, payload.clone()))
            .collect();
        if read != expected {
            return Err(format!("reads {}, should read {}", names(&read), names(&expected)));
        }
        Ok(())
    }
}

impl ModelGroup {
    fn compare_missing(&self, id: GroupId, view: &LogView, rng: &mut Rng) -> Result<(), String> {
        let start = rng.range(1..self.last + 2);
        let wanted = start..=start + rng.range(0..20);
        let missing = view.missing(id, &[Index(*wanted.start())..=Index(*wanted.end())]);
        let is_missing = |index: &u64| missing.iter().any(|range| range.contains(&Index(*index)));
        let asked = [Index(*wanted.start())..=Index(*wanted.end())];
        let read = view.read_ranges(id, &asked, usize::MAX).map_err(|error| error.to_string())?;
        let read: Vec<u64> = read.iter().map(|entry| entry.index.0).collect();
        let expected: Vec<u64> = self.entries.range(wanted.clone()).map(|(at, _)| *at).collect();
        if read != expected {
            return Err(format!("reads {read:?} of {wanted:?}, should read {expected:?}"));
        }
        match wanted.clone().find(|index| is_missing(index) == self.entries.contains_key(index)) {
            Some(wrong) => Err(format!("says {missing:?} of {wanted:?} is missing: {wrong}")),
            None => Ok(()),
        }
    }
}

/// Index, term and the start of the payload of each.
fn names(entries: &[Entry]) -> String {
    let name = |entry: &Entry| {
        let text = String::from_utf8_lossy(&entry.payload);
        let name = text.split(':').next().unwrap_or_default().to_owned();
        format!("{}/{}={name}", entry.index, entry.term)
    };
    entries.iter().map(name).collect::<Vec<_>>().join(" ")
}

/// Everything live, in pieces of random size.
pub(crate) fn read_all(
    view: &LogView,
    group: GroupId,
    rng: &mut Rng,
) -> Result<Vec<Entry>, String> {
    let mut all: Vec<Entry> = Vec::new();
    let mut from = Index(rng.range(0..2));
    loop {
        let max_bytes = [0, 100, 3_000, 1 << 20][rng.index(4)];
        let some = view.read(group, from, max_bytes).map_err(|error| error.to_string())?;
        let Some(last) = some.last() else { return Ok(all) };
        from = last.index.next();
        all.extend(some);
    }
}

/// Draws writes that fit the model.
pub(crate) struct User {
    pub(crate) rng: Rng,
    pub(crate) groups: u64,
    /// Ids are never used again.
    removed: BTreeSet<u64>,
    payloads: u64,
}

impl User {
    pub(crate) fn new(rng: Rng, groups: u64) -> Self {
        Self { rng, groups, removed: BTreeSet::new(), payloads: 0 }
    }

    /// The writes of one submit, applied to the model.
    pub(crate) fn submit(&mut self, model: &mut Model) -> Vec<Write> {
        let count = 1 + self.rng.index(3);
        (0..count)
            .filter_map(|_| {
                let write = self.write(model)?;
                model.apply(&write);
                Some(write)
            })
            .collect()
    }

    fn write(&mut self, model: &Model) -> Option<Write> {
        let id = 1 + self.rng.range(0..self.groups);
        if self.removed.contains(&id) {
            return None;
        }
        let group = GroupId(id);
        let log = model.groups.get(&group).cloned().unwrap_or_default();
        Some(match self.rng.range(0..100) {
            0..=9 => Write::HardState { group, hard_state: self.hard_state() },
            10..=14 if log.last > log.base => {
                Write::Truncate { group, from: Index(self.rng.range(log.base + 1..log.last + 2)) }
            }
            15..=25 if log.last > 0 => {
                let through = self.rng.range(log.last / 2..log.last + 1);
                Write::Compact { group, through: Index(through), keep: self.keep(through) }
            }
            26 => {
                let next = log.last + self.rng.range(1..50);
                let (filling, keep) = (self.rng.chance(3, 4), self.keep(log.last.max(1)));
                let (next, term) = (Index(next), Term(log.last_term + 1));
                Write::Reset { group, next, term, keep, filling }
            }
            27..=29 if log.filling => Write::Filled { group },
            30..=70 if log.filling => Write::Refill { group, entries: self.refill(&log) },
            71 if self.removed.len() as u64 + 3 < self.groups => {
                self.removed.insert(id);
                Write::Remove { group }
            }
            _ => Write::Append { group, entries: self.entries(&log) },
        })
    }

    fn entries(&mut self, log: &ModelGroup) -> Vec<Entry> {
        let count = self.rng.range(0..6);
        let term = Term(log.last_term + u64::from(self.rng.chance(1, 10)));
        let next = |offset: u64| entry(term, log.last + 1 + offset, self.payload());
        (0..count).map(next).collect()
    }

    /// Some of what is missing, and of what is there.
    fn refill(&mut self, log: &ModelGroup) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut index = self.rng.range(1..log.base + 2);
        while index <= log.base && entries.len() < 8 {
            let earlier = self.rng.range(0..log.base_term + 1);
            let term = if index == log.base { log.base_term } else { earlier };
            // Another member has the same, where this one has it.
            let known = log.entries.get(&index).cloned();
            let (term, payload) = known.unwrap_or_else(|| (term, self.payload()));
            entries.push(entry(Term(term), index, payload));
            index += self.rng.range(1..4);
        }
        entries
    }

    /// Never the same twice: an entry in the place of another would be noticed.
    fn payload(&mut self) -> Bytes {
        self.payloads += 1;
        let len = match self.rng.range(0..10) {
            0 => 0,
            1 => self.rng.index(2_500),
            _ => self.rng.index(200),
        };
        let mut payload = format!("{}:", self.payloads).into_bytes();
        payload.resize(payload.len() + len, 7);
        payload.into()
    }

    fn hard_state(&mut self) -> HardState {
        let voted_for = self.rng.chance(1, 2).then(|| NodeId(self.rng.range(0..5)));
        let (term, commit) = (self.rng.range(0..1_000), self.rng.range(0..1_000));
        let forgotten = (Term(self.rng.range(0..3)), Index(self.rng.range(0..3)));
        HardState { term: Term(term), voted_for, commit: Index(commit), forgotten }
    }

    fn keep(&mut self, through: u64) -> Vec<RangeInclusive<Index>> {
        let mut keep = Vec::new();
        let mut from = 1;
        while from <= through && keep.len() < 5 && self.rng.chance(1, 2) {
            let start = self.rng.range(from..through + 1);
            let end = start + self.rng.range(0..4);
            keep.push(Index(start)..=Index(end));
            from = end + 2;
        }
        keep
    }
}

/// Every kind of entry takes part; which one shows in its index.
fn entry(term: Term, index: u64, payload: Bytes) -> Entry {
    let kind = EntryKind::from_number((index % 3) as u8).expect("there are three kinds");
    Entry { term, index: Index(index), kind, payload }
}
