//! Majorities, and nothing else.
//!
//! Both questions are answered by counting, without sorting or keeping anything between calls:
//! clusters are small, and an incremental answer is where others went wrong.

use crate::ids::NodeId;
use crate::mutants::{self, Mutant};
use crate::sorted::NodeSet;

/// How an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteResult {
    /// A majority is for it.
    Won,
    /// A majority can no longer be reached.
    Lost,
    /// It depends on who has not answered.
    Pending,
}

/// The smallest number of nodes that is a majority.
#[must_use]
pub fn majority(voters: usize) -> usize {
    if mutants::is(Mutant::HalfIsMajority) {
        return (voters / 2).max(1);
    }
    voters / 2 + 1
}

/// The highest value that a majority of the voters has reached. An empty set does not hold anybody
/// back: `u64::MAX`.
pub fn reached_by_majority(voters: &NodeSet, reached: impl Fn(NodeId) -> u64) -> u64 {
    if voters.is_empty() {
        return u64::MAX;
    }
    let by = |value: u64| voters.iter().filter(|voter| value <= reached(**voter)).count();
    voters
        .iter()
        .map(|voter| reached(*voter))
        .filter(|value| majority(voters.len()) <= by(*value))
        .max()
        .unwrap_or(0)
}

/// Counts votes; `None` has not answered. An empty set is always for it.
pub fn tally(voters: &NodeSet, vote: impl Fn(NodeId) -> Option<bool>) -> VoteResult {
    let needed = if voters.is_empty() { 0 } else { majority(voters.len()) };
    let count = |wanted| voters.iter().filter(|voter| vote(**voter) == wanted).count();
    if needed <= count(Some(true)) {
        VoteResult::Won
    } else if count(Some(true)) + count(None) < needed {
        VoteResult::Lost
    } else {
        VoteResult::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(count: u64) -> NodeSet {
        (1..=count).map(NodeId).collect()
    }

    #[test]
    fn a_majority_is_more_than_half() {
        for (voters, expected) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)] {
            assert_eq!(majority(voters), expected, "{voters} voters");
        }
    }

    /// Against the textbook: sort, take the one in the middle.
    #[test]
    fn counting_agrees_with_sorting() {
        let mut seed = 1u64;
        for _ in 0..100_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let size = (seed >> 33) % 7 + 1;
            let mut values: Vec<u64> = (0..size).map(|n| (seed >> (n * 5)) & 7).collect();
            let counted = reached_by_majority(&voters(size), |node| values[node.0 as usize - 1]);
            values.sort_unstable_by(|a, b| b.cmp(a));
            assert_eq!(counted, values[majority(values.len()) - 1], "{values:?}");
        }
    }

    #[test]
    fn an_election_is_open_until_a_majority_says_so() {
        let result =
            |votes: [Option<bool>; 4]| tally(&voters(4), |node| votes[node.0 as usize - 1]);
        assert_eq!(result([Some(true), Some(true), None, None]), VoteResult::Pending);
        assert_eq!(result([Some(true), Some(true), Some(true), None]), VoteResult::Won);
        assert_eq!(result([Some(true), Some(false), Some(false), None]), VoteResult::Lost);
    }

    #[test]
    fn an_empty_set_holds_nobody_back() {
        assert_eq!(reached_by_majority(&voters(0), |_| 0), u64::MAX);
        assert_eq!(tally(&voters(0), |_| None), VoteResult::Won);
    }
}
