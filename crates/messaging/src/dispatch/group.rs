//! Groups: of each only the first message may go, the others stand behind it.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, Default)]
pub(super) struct Groups(BTreeMap<u64, BTreeSet<u64>>);

pub(super) struct Joined {
    /// The new message is the first of its group.
    pub(super) first: bool,
    /// The message that was first until now.
    pub(super) overtaken: Option<u64>,
}

impl Groups {
    pub(super) fn insert(&mut self, group: u64, id: u64) -> Joined {
        let line = self.0.entry(group).or_default();
        let before = line.first().copied();
        line.insert(id);
        let first = before.is_none_or(|before| id < before);
        Joined { first, overtaken: before.filter(|_| first) }
    }

    pub(super) fn is_first(&self, group: u64, id: u64) -> bool {
        self.0.get(&group).is_some_and(|line| line.first() == Some(&id))
    }

    /// Takes a message out. Answers the one that is first now, if it was not before.
    pub(super) fn remove(&mut self, group: u64, id: u64) -> Option<u64> {
        let line = self.0.get_mut(&group)?;
        let was_first = line.first() == Some(&id);
        line.remove(&id);
        let first = line.first().copied();
        if first.is_none() {
            self.0.remove(&group);
        }
        first.filter(|_| was_first)
    }
}
