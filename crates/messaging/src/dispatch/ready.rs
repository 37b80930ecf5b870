//! Messages that may go now, strictly by priority, and how many stand where.

use std::collections::BTreeSet;

use super::{LEVELS, State, Work};

/// How many messages of one priority stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// May go now, or stand behind another of their group.
    pub ready: u64,
    /// Held by a consumer.
    pub in_flight: u64,
    /// Not due yet.
    pub delayed: u64,
    /// Given up, not yet removed.
    pub doomed: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Ready {
    levels: Vec<BTreeSet<u64>>,
    depths: Vec<Depth>,
}

impl Default for Ready {
    fn default() -> Self {
        Self { levels: vec![BTreeSet::new(); LEVELS], depths: vec![Depth::default(); LEVELS] }
    }
}

impl Ready {
    pub(super) fn insert(&mut self, priority: u8, id: u64) {
        self.levels[usize::from(priority)].insert(id);
    }

    pub(super) fn remove(&mut self, priority: u8, id: u64) {
        self.levels[usize::from(priority)].remove(&id);
    }

    /// The message that goes next.
    pub(super) fn first(&self) -> Option<u64> {
        self.levels.iter().rev().find_map(|level| level.first().copied())
    }

    /// All of them, in the order they would go.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.levels.iter().rev().flatten().copied()
    }

    pub(super) fn depths(&self) -> &[Depth] {
        &self.depths
    }

    /// Counts a message in or out of its state.
    pub(super) fn count(&mut self, work: &Work, change: i64) {
        let depth = &mut self.depths[usize::from(work.spec.priority)];
        let counter = match work.state {
            State::Ready | State::Behind => &mut depth.ready,
            State::Held { .. } => &mut depth.in_flight,
            State::Waiting { .. } => &mut depth.delayed,
            State::Doomed(_) => &mut depth.doomed,
        };
        *counter = counter.checked_add_signed(change).expect("a message leaves where it was");
    }
}
