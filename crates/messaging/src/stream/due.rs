//! When streams expire, as far as this node knows. Only the leader's word counts.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Lifetime, StreamId, StreamPath};
use crate::ids::Millis;

/// A stream that its leader finds expired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overdue {
    /// Where.
    pub path: StreamPath,
    /// Which.
    pub id: StreamId,
    /// What had happened to it. If more has, it has not expired.
    pub changes: u64,
}

/// When each stream that expires does so.
#[derive(Clone, Debug, Default)]
pub(super) struct Due {
    of: BTreeMap<StreamPath, Millis>,
    by_time: BTreeSet<(Millis, StreamPath)>,
    /// Idle times are to begin anew, at a time that is not known yet.
    restart: bool,
}

/// When a stream expires that was used at this time.
pub(super) fn at(lifetime: Lifetime, used: Millis) -> Option<Millis> {
    match lifetime {
        Lifetime::Unbounded => None,
        Lifetime::Idle(seconds) => Some(used.saturating_add(seconds.saturating_mul(1_000))),
        Lifetime::Until(end) => Some(end),
    }
}

impl Due {
    pub(super) fn set(&mut self, path: &StreamPath, at: Option<Millis>) {
        if let Some(known) = self.of.remove(path) {
            self.by_time.remove(&(known, path.clone()));
        }
        if let Some(at) = at {
            self.of.insert(path.clone(), at);
            self.by_time.insert((at, path.clone()));
        }
    }

    pub(super) fn restart(&mut self) {
        self.restart = true;
    }

    pub(super) fn take_restart(&mut self) -> bool {
        std::mem::take(&mut self.restart)
    }

    /// Up to `max` that are due at this time, and when the next one is.
    pub(super) fn until(&self, now: Millis, max: usize) -> (Vec<StreamPath>, Option<Millis>) {
        let due = self.by_time.iter().take_while(|(at, _)| *at <= now).take(max);
        let due: Vec<_> = due.map(|(_, path)| path.clone()).collect();
        let next = self.by_time.iter().nth(due.len()).map(|(at, _)| *at);
        (due, next)
    }
}
