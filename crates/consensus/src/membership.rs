//! Who is a member, and how that changes (§6, with the learners and the joint consensus of the
//! dissertation, 4.2 and 4.3).
//!
//! A change of the voters always passes through a joint configuration, also when only one voter
//! changes: one rule instead of two, and the rule for single changes is the one that has cost
//! others committed entries (two leaders that each change one voter). Learners come and go without
//! it, for they count nowhere.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::NodeId;
use crate::mutants::{self, Mutant};
use crate::quorum::{VoteResult, reached_by_majority, tally};
use crate::sorted::{NodeMap, NodeSet};

/// First byte of an encoded membership.
const VERSION: u8 = 1;

/// Who belongs to a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Membership {
    /// Those whose majority decides; while joint, the new ones.
    pub voters: NodeSet,
    /// While joint, the old voters, whose majority decides as well. Else empty.
    pub outgoing: NodeSet,
    /// They get the log and count nowhere.
    pub learners: NodeSet,
    /// What the host knows of each member: name, addresses. Opaque here.
    pub info: NodeMap<Bytes>,
}

/// One wish about one member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A new member begins as a learner.
    AddLearner {
        /// Who. An id is never used for a second life.
        node: NodeId,
        /// See [`Membership::info`].
        info: Bytes,
    },
    /// A learner that has caught up becomes a voter.
    Promote {
        /// Who.
        node: NodeId,
    },
    /// A member leaves.
    Remove {
        /// Who.
        node: NodeId,
    },
    /// A member is reached elsewhere.
    Update {
        /// Who.
        node: NodeId,
        /// See [`Membership::info`].
        info: Bytes,
    },
}

/// A change that makes no sense here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// It would be a second change before the first is through.
    #[error("another membership change is under way; repeat when it is through")]
    InFlight,
    /// The node is a member already.
    #[error("node {0} is a member already")]
    Exists(NodeId),
    /// The node is no member.
    #[error("node {0} is not a member")]
    Unknown(NodeId),
    /// Only learners are promoted.
    #[error("node {0} is not a learner: it votes already")]
    NotLearner(NodeId),
    /// A group needs one voter.
    #[error("node {0} is the last voter and cannot leave")]
    LastVoter(NodeId),
}

impl Membership {
    /// A group founded by these voters.
    pub fn of(voters: impl IntoIterator<Item = (NodeId, Bytes)>) -> Self {
        let info: NodeMap<_> = voters.into_iter().collect();
        Self { voters: info.keys().collect(), info, ..Self::default() }
    }

    /// Two majorities decide.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Its vote counts, in one of the halves at least.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.outgoing.contains(&node)
    }

    /// It gets the log.
    #[must_use]
    pub fn is_member(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.learners.contains(&node)
    }

    /// All who get the log, each once, ascending.
    pub fn members(&self) -> NodeSet {
        self.voters.iter().chain(&self.outgoing).chain(&self.learners).copied().collect()
    }

    /// The highest value that was reached by every majority that decides.
    pub fn reached(&self, reached: impl Fn(NodeId) -> u64) -> u64 {
        if mutants::is(Mutant::LearnersCount) {
            let all = self.voters.iter().chain(&self.learners).copied().collect();
            return reached_by_majority(&all, &reached);
        }
        if mutants::is(Mutant::NewMajorityOnly) {
            return reached_by_majority(&self.voters, &reached);
        }
        reached_by_majority(&self.voters, &reached)
            .min(reached_by_majority(&self.outgoing, &reached))
    }

    /// How an election stands: while joint, both halves must be for it.
    pub fn tally(&self, vote: impl Fn(NodeId) -> Option<bool>) -> VoteResult {
        if mutants::is(Mutant::NewMajorityOnly) {
            return tally(&self.voters, &vote);
        }
        match (tally(&self.voters, &vote), tally(&self.outgoing, &vote)) {
            (VoteResult::Won, VoteResult::Won) => VoteResult::Won,
            (VoteResult::Lost, _) | (_, VoteResult::Lost) => VoteResult::Lost,
            _ => VoteResult::Pending,
        }
    }

    /// The membership after these changes: joint if the voters differ.
    ///
    /// # Errors
    ///
    /// When one of them makes no sense, none is made.
    pub fn change(&self, changes: &[Change]) -> Result<Self, ChangeError> {
        if self.is_joint() && !mutants::is(Mutant::SecondChange) {
            return Err(ChangeError::InFlight);
        }
        let mut next = self.clone();
        for change in changes {
            next.make(change)?;
        }
        if next.voters != self.voters {
            next.outgoing.clone_from(&self.voters);
            // Who leaves is still to be reached until the joint phase is over.
            let leaving = self.info.iter().filter(|(node, _)| self.voters.contains(node));
            for (node, info) in leaving {
                next.info.insert_new(*node, info.clone());
            }
        }
        Ok(next)
    }

    fn make(&mut self, change: &Change) -> Result<(), ChangeError> {
        match change {
            Change::AddLearner { node, info } => {
                if self.is_member(*node) {
                    return Err(ChangeError::Exists(*node));
                }
                self.learners.insert(*node);
                self.info.insert(*node, info.clone());
            }
            Change::Promote { node } => {
                if !self.is_member(*node) {
                    return Err(ChangeError::Unknown(*node));
                }
                if !self.learners.remove(node) {
                    return Err(ChangeError::NotLearner(*node));
                }
                self.voters.insert(*node);
            }
            Change::Remove { node } => {
                if !self.is_member(*node) {
                    return Err(ChangeError::Unknown(*node));
                }
                if self.voters.len() == 1 && self.voters.contains(node) {
                    return Err(ChangeError::LastVoter(*node));
                }
                self.voters.remove(node);
                self.learners.remove(node);
                self.info.remove(node);
            }
            Change::Update { node, info } => {
                if !self.is_member(*node) {
                    return Err(ChangeError::Unknown(*node));
                }
                self.info.insert(*node, info.clone());
            }
        }
        Ok(())
    }

    /// The end of the joint phase: the new voters alone decide.
    #[must_use]
    pub fn leave_joint(&self) -> Self {
        let mut next = self.clone();
        next.outgoing = NodeSet::default();
        let members = next.members();
        next.info.retain(|node, _| members.contains(node));
        next
    }

    /// As the payload of an entry or part of a snapshot.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        postcard::to_extend(self, vec![VERSION])
            .expect("a membership is plain data, and a Vec grows as needed")
            .into()
    }

    /// What [`encode`](Self::encode) has written; `None` if it did not.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first() {
            Some((&VERSION, body)) => postcard::from_bytes(body).ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(voters: &[u64]) -> Membership {
        Membership::of(voters.iter().map(|node| (NodeId(*node), Bytes::new())))
    }

    fn set(nodes: &[u64]) -> NodeSet {
        nodes.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn a_change_of_voters_is_joint_and_of_learners_is_not() {
        let info = Bytes::from_static(b"four");
        let added = of(&[1, 2, 3]).change(&[Change::AddLearner { node: NodeId(4), info }]).unwrap();
        assert!(!added.is_joint());
        assert_eq!(added.learners, set(&[4]));

        let changes = [Change::Promote { node: NodeId(4) }, Change::Remove { node: NodeId(1) }];
        let joint = added.change(&changes).unwrap();
        assert_eq!((&joint.voters, &joint.outgoing), (&set(&[2, 3, 4]), &set(&[1, 2, 3])));
        assert_eq!(joint.members(), set(&[1, 2, 3, 4]));
        assert!(joint.info.contains_key(&NodeId(1)), "who leaves is still reached");
        assert_eq!(joint.change(&[]), Err(ChangeError::InFlight));

        let left = joint.leave_joint();
        assert_eq!((left.voters, left.outgoing), (set(&[2, 3, 4]), set(&[])));
        assert!(!left.info.contains_key(&NodeId(1)));
    }

    #[test]
    fn both_halves_of_a_joint_membership_decide() {
        let mut joint = of(&[1, 2, 3]);
        joint.outgoing = set(&[3, 4, 5]);
        let reached = |at: &'static [u64]| move |node: NodeId| at[node.0 as usize - 1];
        assert_eq!(joint.reached(reached(&[9, 9, 1, 1, 1])), 1);
        assert_eq!(joint.reached(reached(&[9, 9, 7, 7, 1])), 7);
        let vote = |yes: &'static [u64]| move |node: NodeId| Some(yes.contains(&node.0));
        assert_eq!(joint.tally(vote(&[1, 2])), VoteResult::Lost);
        assert_eq!(joint.tally(vote(&[1, 3, 4])), VoteResult::Won);
    }

    #[test]
    fn a_change_that_makes_no_sense_is_refused() {
        let group = of(&[1]);
        let refusal = |change| group.change(&[change]).unwrap_err();
        let (one, two) = (NodeId(1), NodeId(2));
        assert_eq!(refusal(Change::Remove { node: one }), ChangeError::LastVoter(one));
        assert_eq!(refusal(Change::Remove { node: two }), ChangeError::Unknown(two));
        assert_eq!(refusal(Change::Promote { node: two }), ChangeError::Unknown(two));
        assert_eq!(refusal(Change::Promote { node: one }), ChangeError::NotLearner(one));
        let again = Change::AddLearner { node: one, info: Bytes::new() };
        assert_eq!(refusal(again), ChangeError::Exists(one));
    }

    #[test]
    fn it_survives_its_encoding() {
        let mut membership = of(&[1, 2, 3]);
        membership.learners = set(&[7]);
        membership.info.insert(NodeId(7), Bytes::from_static(b"seven"));
        assert_eq!(Membership::decode(&membership.encode()), Some(membership));
        assert_eq!(Membership::decode(b""), None);
        assert_eq!(Membership::decode(b"\x02\x00"), None);
    }
}
