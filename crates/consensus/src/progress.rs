//! What a leader knows of one member.

use std::collections::VecDeque;

use crate::ids::Index;
use crate::mutants::{self, Mutant};

/// How the leader sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    /// It does not know where the logs agree: one append at a time.
    Probe,
    /// It does: appends follow each other without waiting.
    Replicate,
    /// The member fetches a snapshot up to this index.
    Snapshot(Index),
}

/// Appends on the way to one member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct InFlight {
    /// Last index and bytes of each.
    appends: VecDeque<(Index, usize)>,
    bytes: usize,
}

impl InFlight {
    pub(crate) fn push(&mut self, last: Index, bytes: usize) {
        self.appends.push_back((last, bytes));
        self.bytes += bytes;
    }

    pub(crate) fn free_through(&mut self, matched: Index) {
        while self.appends.front().is_some_and(|(last, _)| *last <= matched) {
            self.bytes -= self.appends.pop_front().expect("there is a first one").1;
        }
        if self.appends.is_empty() {
            self.appends = VecDeque::new();
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.appends.is_empty()
    }

    pub(crate) fn has_room(&self, max_appends: usize, max_bytes: usize) -> bool {
        self.appends.len() < max_appends && self.bytes < max_bytes
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Progress {
    /// Durable there and equal to the leader's log. Never goes back.
    pub(crate) matched: Index,
    /// The next entry to send.
    pub(crate) next: Index,
    pub(crate) mode: Mode,
    pub(crate) in_flight: InFlight,
    /// In [`Mode::Probe`] and [`Mode::Snapshot`]: one is under way.
    pub(crate) paused: bool,
    /// The member should hear something, also if there are no entries for it.
    pub(crate) poke: bool,
    /// The highest commit index it was sent, and the highest it has confirmed.
    pub(crate) sent_commit: Index,
    pub(crate) known_commit: Index,
    /// The host believes that the node answers.
    pub(crate) reachable: bool,
    /// The last round of leadership it has confirmed.
    pub(crate) confirmed: u64,
    /// It was heard in this term, since the last look.
    pub(crate) heard: bool,
}

impl Progress {
    pub(crate) fn new(next: Index, reachable: bool) -> Self {
        Self {
            matched: Index::ZERO,
            next,
            mode: Mode::Probe,
            in_flight: InFlight::default(),
            paused: false,
            poke: true,
            sent_commit: Index::ZERO,
            known_commit: Index::ZERO,
            reachable,
            confirmed: 0,
            heard: false,
        }
    }

    /// The member is known to have everything up to `matched`. False if that is no news.
    pub(crate) fn handle_matched(&mut self, matched: Index) -> bool {
        self.in_flight.free_through(matched);
        let news = self.matched < matched;
        let goes_back = mutants::is(Mutant::MatchGoesBack);
        self.matched = if goes_back { matched } else { self.matched.max(matched) };
        self.next = self.next.max(matched.next());
        match self.mode {
            Mode::Probe => self.replicate(),
            // Whatever it has fetched, it is past the snapshot now.
            Mode::Snapshot(index) if index <= self.matched => self.replicate(),
            Mode::Snapshot(_) | Mode::Replicate => {}
        }
        news
    }

    fn replicate(&mut self) {
        self.mode = Mode::Replicate;
        self.paused = false;
        self.in_flight.clear();
        self.next = self.matched.next();
    }

    /// Looks again where the logs agree, from `next` on.
    pub(crate) fn probe_from(&mut self, next: Index) {
        self.mode = Mode::Probe;
        self.paused = false;
        self.poke = true;
        self.in_flight.clear();
        self.next = next.max(self.matched.next());
    }

    /// It may be that nothing of what was sent has arrived.
    pub(crate) fn retry(&mut self) {
        match self.mode {
            Mode::Probe | Mode::Snapshot(_) => {
                self.paused = false;
                self.poke = true;
            }
            Mode::Replicate => self.probe_from(self.matched.next()),
        }
    }

    pub(crate) fn fetch(&mut self, snapshot: Index) {
        self.mode = Mode::Snapshot(snapshot);
        self.paused = true;
        self.in_flight.clear();
    }

    /// Something was sent that an answer is missing for.
    pub(crate) fn is_waiting(&self, last: Index, commit: Index) -> bool {
        self.reachable
            && (self.paused
                || self.poke
                || !self.in_flight.is_empty()
                || self.matched < last
                || self.known_commit < commit)
    }
}
