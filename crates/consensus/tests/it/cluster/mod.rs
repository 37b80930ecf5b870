//! Nodes around real cores, and what has to hold for them at any time.

mod disk;
mod machine;
mod oracle;
mod store;

use bytes::Bytes;
use consensus::{Membership, NodeId, NodeSet};

pub(crate) use machine::{Command, Machine, REGISTERS, mix};
pub(crate) use oracle::Oracle;
pub(crate) use store::{Store, Wish};

/// A membership of these voters.
pub(crate) fn founders(voters: impl IntoIterator<Item = u64>) -> Membership {
    Membership::of(voters.into_iter().map(|node| (NodeId(node), Bytes::new())))
}

/// Whether these nodes are a majority of every set of voters that decides.
pub(crate) fn is_quorum(membership: &Membership, nodes: &NodeSet) -> bool {
    let majority = |voters: &NodeSet| {
        voters.is_empty()
            || voters.len() < 2 * voters.iter().filter(|voter| nodes.contains(voter)).count()
    };
    majority(&membership.voters) && majority(&membership.outgoing)
}
