//! Which level a write has reached: arithmetic over the members' progress, and who waits.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::Index;

/// What has to be true before a write is answered; the promises are in the crate's note.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AckLevel {
    /// On the primary's disk.
    Async,
    /// Besides, received by one replica.
    Semi,
    /// On a majority of the disks, the primary's included.
    #[default]
    Quorum,
    /// On every disk.
    All,
}

impl AckLevel {
    /// In order of strength.
    pub const ALL: [Self; 4] = [Self::Async, Self::Semi, Self::Quorum, Self::All];
}

/// A writer that waits. Chosen by the caller, unique while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What one replica has confirmed in the present epoch and connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confirmed {
    /// In its memory.
    pub received: Index,
    /// On its disk.
    pub durable: Index,
}

/// Up to where each level is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached([Index; 4]);

impl Reached {
    /// With the primary's own disk at `own` and these replicas.
    pub fn new(own: Index, replicas: &[Confirmed]) -> Self {
        let received = replicas.iter().map(|replica| replica.received).max().unwrap_or(own);
        let mut durable: Vec<_> = replicas.iter().map(|replica| replica.durable).collect();
        durable.sort_unstable();
        // A majority of n members is n/2 + 1; the primary is one of it, which leaves n/2 others.
        let others = replicas.len().div_ceil(2);
        let quorum = others.checked_sub(1).map_or(own, |nth| durable[durable.len() - 1 - nth]);
        let all = durable.first().copied().unwrap_or(own);
        Self([own, received.min(own), quorum.min(own), all.min(own)])
    }

    /// Up to where this level is reached.
    #[must_use]
    pub const fn up_to(&self, level: AckLevel) -> Index {
        self.0[level as usize]
    }
}

/// How many members confirmed `index` as `level` asks: received for `semi`, else on disk.
pub fn count(level: AckLevel, index: Index, own: Index, replicas: &[Confirmed]) -> u32 {
    let has = |replica: &&Confirmed| match level {
        AckLevel::Semi => index <= replica.received,
        AckLevel::Async | AckLevel::Quorum | AckLevel::All => index <= replica.durable,
    };
    u32::from(index <= own) + replicas.iter().filter(has).count() as u32
}

/// Who waits for what.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    levels: [BTreeSet<(Index, Ticket)>; 4],
}

impl Waiting {
    pub(crate) fn add(&mut self, level: AckLevel, index: Index, ticket: Ticket) {
        self.levels[level as usize].insert((index, ticket));
    }

    pub(crate) fn len(&self) -> usize {
        self.levels.iter().map(BTreeSet::len).sum()
    }

    /// Those whose level is reached by now.
    pub(crate) fn take_reached(&mut self, reached: &Reached) -> Vec<(AckLevel, Index, Ticket)> {
        let mut done = Vec::new();
        for level in AckLevel::ALL {
            let waiting = &mut self.levels[level as usize];
            while let Some(&(index, ticket)) = waiting.first()
                && index <= reached.up_to(level)
            {
                waiting.pop_first();
                done.push((level, index, ticket));
            }
        }
        done
    }

    /// Those who wait for something after `last`, which will not come.
    pub(crate) fn take_after(&mut self, last: Index) -> Vec<Ticket> {
        let mut lost = Vec::new();
        for waiting in &mut self.levels {
            let after = waiting.split_off(&(last.next(), Ticket(0)));
            lost.extend(after.into_iter().map(|(_, ticket)| ticket));
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn confirmed(received: u64, durable: u64) -> Confirmed {
        Confirmed { received: Index(received), durable: Index(durable) }
    }

    #[test]
    fn alone_every_level_is_the_own_disk() {
        let reached = Reached::new(Index(7), &[]);
        assert!(AckLevel::ALL.iter().all(|level| reached.up_to(*level) == Index(7)));
    }

    #[test]
    fn of_three_one_replica_makes_the_quorum_and_both_make_all() {
        let reached = Reached::new(Index(9), &[confirmed(9, 5), confirmed(3, 2)]);
        let up_to = AckLevel::ALL.map(|level| reached.up_to(level).0);
        assert_eq!(up_to, [9, 9, 5, 2]);
    }

    #[test]
    fn of_two_the_quorum_is_both() {
        assert_eq!(Reached::new(Index(9), &[confirmed(9, 5)]).up_to(AckLevel::Quorum), Index(5));
    }

    #[test]
    fn what_only_replicas_have_counts_for_nothing() {
        let reached = Reached::new(Index(4), &[confirmed(9, 9), confirmed(9, 9)]);
        assert!(AckLevel::ALL.iter().all(|level| reached.up_to(*level) == Index(4)));
    }

    proptest! {
        /// The definition, literally: the highest index that enough members have.
        #[test]
        fn the_levels_are_what_they_say(own in 0u64..20, others in prop::collection::vec((0u64..20, 0u64..20), 0..6)) {
            let replicas: Vec<_> =
                others.iter().map(|(a, b)| confirmed(*a.max(b), *a.min(b))).collect();
            let reached = Reached::new(Index(own), &replicas);
            let members = replicas.len() as u32 + 1;
            for index in 1..=20 {
                let index = Index(index);
                let own = Index(own);
                let durable = count(AckLevel::Quorum, index, own, &replicas);
                let received = count(AckLevel::Semi, index, own, &replicas);
                let mine = index <= own;
                let is = |level| index <= reached.up_to(level);
                prop_assert_eq!(is(AckLevel::Async), mine);
                prop_assert_eq!(is(AckLevel::Semi), mine && received >= 2.min(members));
                prop_assert_eq!(is(AckLevel::Quorum), mine && durable > members / 2);
                prop_assert_eq!(is(AckLevel::All), durable == members);
            }
        }
    }
}
