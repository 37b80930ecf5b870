//! Whether a node may serve a read: session tokens and measured lag.

use std::collections::VecDeque;

use crate::{Epochs, Index, Position};

/// What a session token asks of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// The node has what the session has seen.
    Satisfied,
    /// Not yet; ask again when more is visible or a newer primary is known.
    Wait,
    /// It never will: the token's entry was given up when another primary took over.
    Lost,
}

/// Compares `token` with a history that is visible up to `visible`.
#[must_use]
pub fn session(epochs: &Epochs, visible: Position, token: Position) -> Session {
    if token.index == Index::ZERO {
        return Session::Satisfied;
    }
    if visible.index < token.index {
        // Epochs never fall along a history: an old one has no entries to come.
        return if token.epoch < visible.epoch { Session::Lost } else { Session::Wait };
    }
    match epochs.at(token.index) {
        Some(epoch) if token.epoch < epoch => Session::Lost,
        // A newer primary wrote that, and our entry in its place is about to be dropped.
        Some(epoch) if epoch < token.epoch => Session::Wait,
        // Also for positions older than the epochs remembered: those were committed long ago.
        Some(_) | None => Session::Satisfied,
    }
}

/// Heartbeats remembered while the entries they speak of are still on their way.
const PENDING_MAX: usize = 1024;

/// How far a replica is behind its primary, in time.
///
/// The primary stamps "at my time T my log ended at index I". Once I is visible here, this node
/// shows at least the state of T. The clocks of the two need not agree: the smallest difference
/// between stamp and arrival seen so far stands for their offset and the shortest way, so what
/// remains is delay, also the delay of a stamp that sat in a buffer.
///
/// "Last contact" would not do: a node that hears heartbeats and no entries is stale.
#[derive(Clone, Debug, Default)]
pub struct LagClock {
    offset_ms: Option<i64>,
    fresh_as_of_ms: Option<u64>,
    pending: VecDeque<(Index, u64)>,
}

impl LagClock {
    /// Takes a stamp that arrived at `now_ms` of the local clock.
    pub fn stamped(&mut self, last: Index, stamp_ms: u64, now_ms: u64) {
        let offset = now_ms.cast_signed().wrapping_sub(stamp_ms.cast_signed());
        self.offset_ms = Some(self.offset_ms.map_or(offset, |known| known.min(offset)));
        if self.pending.len() == PENDING_MAX {
            // Forgetting the newest overstates the lag; forgetting the oldest could hide it.
            self.pending.pop_back();
        }
        self.pending.push_back((last, stamp_ms));
    }

    /// Takes how far this node's state goes by now.
    pub fn visible(&mut self, visible: Index) {
        while let Some(&(last, stamp_ms)) = self.pending.front()
            && last <= visible
        {
            self.pending.pop_front();
            self.fresh_as_of_ms = Some(stamp_ms);
        }
    }

    /// What is known, to be kept by readers; nothing before the first stamp has become visible.
    #[must_use]
    pub fn freshness(&self) -> Option<Freshness> {
        Some(Freshness { offset_ms: self.offset_ms?, as_of_ms: self.fresh_as_of_ms? })
    }
}

/// How new a replica's state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    offset_ms: i64,
    /// By the primary's clock.
    as_of_ms: u64,
}

impl Freshness {
    /// Milliseconds behind at `now_ms` of the local clock.
    #[must_use]
    pub fn lag_ms(&self, now_ms: u64) -> u64 {
        let lag = now_ms.cast_signed() - self.as_of_ms.cast_signed() - self.offset_ms;
        lag.max(0).cast_unsigned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Epoch;

    fn at(epoch: u64, index: u64) -> Position {
        Position { epoch: Epoch(epoch), index: Index(index) }
    }

    fn history() -> Epochs {
        let mut epochs = Epochs::default();
        [at(1, 1), at(1, 4), at(3, 5), at(3, 8)].into_iter().for_each(|p| epochs.push(p));
        epochs
    }

    #[test]
    fn a_token_is_met_by_its_own_history_only() {
        let check = |token| session(&history(), at(3, 8), token);
        assert_eq!(check(at(0, 0)), Session::Satisfied);
        assert_eq!(check(at(1, 4)), Session::Satisfied);
        assert_eq!(check(at(3, 8)), Session::Satisfied);
        assert_eq!(check(at(3, 9)), Session::Wait);
        assert_eq!(check(at(1, 5)), Session::Lost, "its tail was given up");
        assert_eq!(check(at(1, 9)), Session::Lost, "epoch 1 has no more entries");
        assert_eq!(check(at(4, 7)), Session::Wait, "a newer primary we have not met");
    }

    #[test]
    fn lag_counts_from_what_is_visible_not_from_the_last_contact() {
        let mut lag = LagClock::default();
        assert_eq!(lag.freshness(), None);
        lag.stamped(Index(5), 1_000, 50_000);
        assert_eq!(lag.freshness(), None, "nothing of it is visible yet");
        lag.visible(Index(5));
        assert_eq!(lag.freshness().map(|fresh| fresh.lag_ms(50_000)), Some(0));
        lag.stamped(Index(9), 1_200, 50_200);
        lag.visible(Index(8));
        assert_eq!(
            lag.freshness().map(|fresh| fresh.lag_ms(50_300)),
            Some(300),
            "heartbeats without entries do not help"
        );
        lag.visible(Index(9));
        assert_eq!(lag.freshness().map(|fresh| fresh.lag_ms(50_300)), Some(100));
    }

    #[test]
    fn a_stamp_that_sat_in_a_buffer_is_as_old_as_it_is() {
        let mut lag = LagClock::default();
        lag.stamped(Index(1), 1_000, 9_000);
        lag.stamped(Index(1), 2_000, 13_000);
        lag.visible(Index(1));
        assert_eq!(lag.freshness().map(|fresh| fresh.lag_ms(13_000)), Some(3_000));
    }
}
