//! How a replica joins: LOG, TRUNCATE_TO or SNAPSHOT.
//!
//! The replica says where its history ends. If the primary's has the same hash there, the log
//! goes on from that point. Else the two are compared by bisection, one index a step, until the
//! last common one is found. If that is no longer in a log, the whole state travels.

use serde::{Deserialize, Serialize};

use crate::{Epoch, Hash, Head, Index};

/// What a replica says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The name of its group.
    pub group: String,
    /// Its own name.
    pub member: String,
    /// The highest epoch it has promised to follow.
    pub epoch: Epoch,
    /// The hash of the first entry of its history, which no other history has; none while empty.
    pub birth: Option<Hash>,
    /// Where its log ends.
    pub head: Head,
    /// The oldest index whose hash it still knows.
    pub base: Index,
    /// What it knows to be committed.
    pub commit: Index,
}

/// What the primary knows of its own history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// The name of its group.
    pub group: String,
    /// Its epoch.
    pub epoch: Epoch,
    /// The hash of its first entry.
    pub birth: Option<Hash>,
    /// Where its log ends.
    pub head: Head,
    /// The oldest index whose hash it still knows; entries after it are in the log.
    pub base: Index,
}

/// How the replica is brought up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Plan {
    /// The log goes on after the replica's head.
    Log,
    /// First drop everything after this index, which is common to both.
    TruncateTo(Index),
    /// Take the primary's state first.
    Snapshot,
}

/// Why a primary does not serve a replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Ask another member.
    #[error("this node is not the primary")]
    NotPrimary,
    /// Configuration mistake.
    #[error("this node belongs to the replication group `{group}`")]
    OtherGroup {
        /// Ours.
        group: String,
    },
    /// Configuration mistake.
    #[error("`{member}` is not among the members that this primary is configured with")]
    UnknownMember {
        /// The asking node.
        member: String,
    },
    /// Its data is not ours.
    #[error("the replica's data comes from another history of the same name")]
    ForeignHistory,
    /// The primary is the stale one, and now knows it.
    #[error("the replica follows epoch {epoch}, which is newer than this primary")]
    StalePrimary {
        /// The replica's.
        epoch: Epoch,
    },
}

/// A handshake in progress, on the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    theirs: Head,
    head: Head,
    floor: Index,
    compare: Index,
    /// The highest index known to be equal, the lowest known to differ.
    bounds: Option<(Option<Index>, Index)>,
}

/// What the handshake needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The hash of both sides at this index.
    Compare(Index),
    /// Agreed.
    Done(Plan),
}

impl Join {
    /// Looks at a hello. A foreign or newer one is refused here.
    pub fn start(hello: &Hello, local: &Local) -> Result<(Self, Step), Refusal> {
        if hello.group != local.group {
            return Err(Refusal::OtherGroup { group: local.group.clone() });
        }
        if local.epoch < hello.epoch {
            return Err(Refusal::StalePrimary { epoch: hello.epoch });
        }
        // A history of which nothing is committed never came to be: it may be dropped whole.
        let came_to_be = hello.commit != Index::ZERO;
        if came_to_be && hello.birth.is_some() && hello.birth != local.birth {
            return Err(Refusal::ForeignHistory);
        }
        let compare = hello.head.index().min(local.head.index());
        let floor = hello.base.max(local.base);
        let join = Self { theirs: hello.head, head: local.head, floor, compare, bounds: None };
        let step =
            if compare < floor { Step::Done(Plan::Snapshot) } else { Step::Compare(compare) };
        Ok((join, step))
    }

    /// Takes the hashes at the index of the last step; none if a side no longer has it.
    pub fn compared(&mut self, ours: Option<Hash>, theirs: Option<Hash>) -> Step {
        let (Some(ours), Some(theirs)) = (ours, theirs) else {
            return Step::Done(Plan::Snapshot);
        };
        let equal = ours == theirs;
        let bounds = match (self.bounds, equal) {
            (None, true) => return Step::Done(self.agree_on(self.compare)),
            (None, false) => (None, self.compare),
            (Some((_, differs)), true) => (Some(self.compare), differs),
            (Some((same, _)), false) => (same, self.compare),
        };
        self.bounds = Some(bounds);
        match bounds {
            (Some(same), differs) if same.next() == differs => Step::Done(self.agree_on(same)),
            (Some(same), differs) => self.ask(Index(same.0.midpoint(differs.0))),
            // Differs at the oldest index that both still know.
            (None, differs) if differs == self.floor => Step::Done(Plan::Snapshot),
            (None, _) => self.ask(self.floor),
        }
    }

    const fn ask(&mut self, index: Index) -> Step {
        self.compare = index;
        Step::Compare(index)
    }

    fn agree_on(&self, common: Index) -> Plan {
        if common == self.theirs.index() { Plan::Log } else { Plan::TruncateTo(common) }
    }

    /// The replica's hash at `index`, if its hello told.
    #[must_use]
    pub fn told(&self, index: Index) -> Option<Hash> {
        (index == self.theirs.index()).then_some(self.theirs.hash)
    }

    /// The primary's hash at `index`, if it is its head.
    #[must_use]
    pub fn own(&self, index: Index) -> Option<Hash> {
        (index == self.head.index()).then_some(self.head.hash)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    /// A history of `common` shared entries, then `own` entries of `epoch`. Heads by index.
    fn history(common: u64, own: u64, epoch: u64) -> Vec<Head> {
        let mut heads = vec![Head::genesis("g")];
        for i in 0..common + own {
            let epoch = if i < common { 1 } else { epoch };
            let head = heads.last().unwrap();
            heads.push(head.extend(Epoch(epoch), Bytes::from(i.to_string())).head());
        }
        heads
    }

    fn join(
        replica: &[Head],
        replica_base: u64,
        primary: &[Head],
        primary_base: u64,
    ) -> (Plan, u32) {
        let birth = |heads: &[Head]| heads.get(1).map(|head| head.hash);
        let hello = Hello {
            group: "g".into(),
            member: "r".into(),
            epoch: Epoch(1),
            birth: birth(replica),
            head: *replica.last().unwrap(),
            base: Index(replica_base),
            commit: Index::ZERO,
        };
        let local = Local {
            group: "g".into(),
            epoch: Epoch(9),
            birth: birth(primary),
            head: *primary.last().unwrap(),
            base: Index(primary_base),
        };
        let (mut join, mut step) = Join::start(&hello, &local).unwrap();
        let mut steps = 0;
        while let Step::Compare(index) = step {
            let at = |heads: &[Head]| heads.get(index.0 as usize).map(|head| head.hash);
            step = join.compared(at(primary), at(replica));
            steps += 1;
            assert!(steps < 100);
        }
        let Step::Done(plan) = step else { unreachable!() };
        (plan, steps)
    }

    #[test]
    fn a_replica_behind_or_level_goes_on_from_the_log() {
        let primary = history(10, 0, 1);
        assert_eq!(join(&primary[..5], 0, &primary, 0), (Plan::Log, 1));
        assert_eq!(join(&primary, 0, &primary, 0), (Plan::Log, 1));
        assert_eq!(join(&primary[..1], 0, &primary, 0), (Plan::Log, 1));
    }

    #[test]
    fn a_replica_ahead_drops_its_tail() {
        let replica = history(10, 0, 1);
        assert_eq!(join(&replica, 0, &replica[..8], 0), (Plan::TruncateTo(Index(7)), 1));
    }

    #[test]
    fn what_is_no_longer_in_the_log_comes_as_a_snapshot() {
        let primary = history(10, 0, 1);
        assert_eq!(join(&primary[..5], 0, &primary, 6).0, Plan::Snapshot);
        assert_eq!(join(&primary[..7], 0, &primary, 6).0, Plan::Log);
        let (ours, theirs) = (history(3, 9, 2), history(3, 5, 3));
        assert_eq!(join(&theirs, 0, &ours, 5).0, Plan::Snapshot, "they part below the log");
    }

    #[test]
    fn a_newer_replica_and_a_foreign_one_are_refused() {
        let heads = history(3, 0, 1);
        let hello = Hello {
            group: "g".into(),
            member: "r".into(),
            epoch: Epoch(3),
            birth: Some(heads[1].hash),
            head: heads[3],
            base: Index::ZERO,
            commit: Index(1),
        };
        let local = Local {
            group: "g".into(),
            epoch: Epoch(2),
            birth: hello.birth,
            head: heads[3],
            base: Index::ZERO,
        };
        let start = |local: Local| Join::start(&hello, &local).map(|_| ());
        assert_eq!(start(local.clone()), Err(Refusal::StalePrimary { epoch: Epoch(3) }));
        let anew = Local { epoch: Epoch(9), birth: Some(Hash(1)), ..local.clone() };
        assert_eq!(start(anew), Err(Refusal::ForeignHistory));
        let other = Local { group: "h".into(), ..local };
        assert!(matches!(start(other), Err(Refusal::OtherGroup { .. })));
    }

    proptest! {
        #[test]
        fn bisection_finds_the_last_common_index(
            common in 1u64..60, ours in 0u64..60, theirs in 0u64..60,
            our_base in 0u64..60, their_base in 0u64..60,
        ) {
            let (primary, replica) = (history(common, ours, 2), history(common, theirs, 3));
            let our_base = our_base.min(primary.len() as u64 - 1);
            let their_base = their_base.min(replica.len() as u64 - 1);
            let (plan, steps) = join(&replica, their_base, &primary, our_base);
            prop_assert!(steps <= 9, "{} steps", steps);
            let last = replica.len() as u64 - 1;
            let shared = common;
            let expected = if shared < our_base.max(their_base) {
                Plan::Snapshot
            } else if shared == last {
                Plan::Log
            } else {
                Plan::TruncateTo(Index(shared))
            };
            prop_assert_eq!(plan, expected);
        }
    }
}
