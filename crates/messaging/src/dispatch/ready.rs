//! Messages that may go now, strictly by priority, and how many stand where.

use serde::{Deserialize, Serialize};

use super::{LEVELS, State, Work};
use crate::bits::Bits;

/// How many messages of one priority stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// As many levels as messages have had priorities: most have one, and thousands of queues and
/// subscriptions are empty.
#[derive(Clone, Debug, Default)]
pub(super) struct Ready {
    levels: Vec<Level>,
}

#[derive(Clone, Debug, Default)]
struct Level {
    ready: Bits,
    depth: Depth,
}

impl Ready {
    pub(super) fn insert(&mut self, priority: u8, id: u64) {
        self.level(priority).ready.insert(id);
    }

    pub(super) fn remove(&mut self, priority: u8, id: u64) {
        self.level(priority).ready.remove(id);
    }

    /// The message that goes next.
    pub(super) fn first(&self) -> Option<u64> {
        self.levels.iter().rev().find_map(|level| level.ready.first())
    }

    /// The priority at which this message is ready, if it is.
    pub(super) fn priority(&self, id: u64) -> Option<u8> {
        let at = self.levels.iter().rposition(|level| level.ready.contains(id))?;
        u8::try_from(at).ok()
    }

    /// A message below this one, if one is ready.
    pub(super) fn below(&self, id: u64) -> Option<u64> {
        let firsts = self.levels.iter().filter_map(|level| level.ready.first());
        firsts.min().filter(|first| *first < id)
    }

    /// All of them, in the order they would go.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.levels.iter().rev().flat_map(|level| level.ready.iter())
    }

    /// Of all [`LEVELS`], the lowest first.
    pub(super) fn depths(&self) -> impl Iterator<Item = Depth> + '_ {
        (0..LEVELS).map(|at| self.levels.get(at).map_or_else(Depth::default, |level| level.depth))
    }

    fn level(&mut self, priority: u8) -> &mut Level {
        let at = usize::from(priority);
        if self.levels.len() <= at {
            self.levels.resize_with(at + 1, Level::default);
        }
        &mut self.levels[at]
    }

    /// Counts a message in or out of its state.
    pub(super) fn count(&mut self, work: &Work, change: i64) {
        let depth = &mut self.level(work.spec.priority).depth;
        let counter = match work.state {
            State::Ready | State::Behind => &mut depth.ready,
            State::Held { .. } => &mut depth.in_flight,
            State::Waiting { .. } => &mut depth.delayed,
            State::Doomed(_) => &mut depth.doomed,
        };
        *counter = counter.checked_add_signed(change).expect("a message leaves where it was");
    }
}
