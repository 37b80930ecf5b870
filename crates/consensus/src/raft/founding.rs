//! A group that was just founded has a leader soon.
//!
//! Nobody has led it before, so there is no silence to wait for: one of the founders, on which they
//! have agreed, asks for votes as soon as it starts the group, and again after growing pauses while
//! the others have not started it. The others give it a head start. What is hurried is only the
//! question (the pre-vote), which disturbs nobody; an election that fails is repeated in the usual
//! time.

use super::{Raft, Role};
use crate::ids::{Index, Term};

/// Between the first and the second question; each further pause is twice as long.
const PAUSE_MS: u64 = 50;
/// What the preferred founder has ahead of the others, at least; at most twice as much.
const HEAD_START_MS: u64 = 150;

impl Raft {
    /// Looks for the first leader of a group soon: at once where this founder is `first`, else
    /// after 150 to 300 ms. Does nothing once the group has had a leader, and on who does not vote
    /// in it. To be called before anything else.
    pub fn hurry(&mut self, first: bool) {
        let is_new = self.term() <= Term(1) && self.log.last() <= Index(1) && self.leader.is_none();
        if !is_new || !self.membership().is_voter(self.node()) {
            return;
        }
        self.hurry_ms = Some(PAUSE_MS);
        let delay_ms = if first { 0 } else { HEAD_START_MS + self.draw(HEAD_START_MS) };
        let at = self.now_ms + delay_ms;
        self.deadline_ms = Some(self.deadline_ms.map_or(at, |deadline_ms| deadline_ms.min(at)));
    }

    /// The usual election timeout was just armed: while the first leader is looked for, the next
    /// question comes sooner.
    pub(super) fn keep_hurrying(&mut self) {
        let Some(pause_ms) = self.hurry_ms else { return };
        let asks = matches!(self.role, Role::Candidate(_)) && self.term() <= Term(1);
        if !asks || self.config.election_ms <= pause_ms {
            self.hurry_ms = None;
            return;
        }
        self.hurry_ms = Some(2 * pause_ms);
        self.deadline_ms = Some(self.now_ms + pause_ms);
    }
}
