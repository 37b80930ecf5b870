//! How a group begins on a node that has nothing of it yet.

use consensus::{Membership, NodeId};

/// What [`Groups::start_with`](crate::Groups::start_with) does where nothing is on disk. What is
/// there goes before: a group that was started once, or left, begins no second time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// A new group, founded by nodes whose ids all of them know, from a catalog for example. Every
    /// founder has to be started with the same ones: each writes the same first entry, so that they
    /// need not meet. Where they are reached is for [`Groups::know`](crate::Groups::know) to say.
    Founders {
        /// All of them, this node too. The order does not matter.
        of: Vec<NodeId>,
        /// Who is to lead first: it campaigns at once, the others give it 150 to 300 ms.
        first: NodeId,
    },
    /// A new group of founders that have met, with what
    /// [`Groups::meet_founders`](crate::Groups::meet_founders) returned on each of them: names and
    /// addresses stand in the membership itself. The one with the lowest id is to lead first.
    Met(Membership),
    /// Begins empty and waits until a leader has made it a member, and says so. It neither votes
    /// nor campaigns before.
    Member,
}

impl Beginning {
    /// Who founds the group, nobody if it exists elsewhere; and who of them is to lead first.
    pub(crate) fn founders(&self) -> (Membership, Option<NodeId>) {
        match self {
            Self::Founders { of, first } => {
                let voters = of.iter().copied().collect();
                (Membership { voters, ..Membership::default() }, Some(*first))
            }
            Self::Met(membership) => (membership.clone(), membership.voters.iter().next().copied()),
            Self::Member => (Membership::default(), None),
        }
    }
}

impl From<Membership> for Beginning {
    /// Without voters it is somebody else's group.
    fn from(founders: Membership) -> Self {
        if founders.voters.is_empty() { Self::Member } else { Self::Met(founders) }
    }
}
