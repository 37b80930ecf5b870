//! Where other nodes are reached.

use std::collections::BTreeMap;

use consensus::{GroupId, Membership, NodeId};

use super::Driver;
use crate::member::MemberInfo;

/// Nodes that are remembered without being members of anything here.
const STRANGERS_MAX: usize = 16;

impl Driver {
    /// Learns where members are reached.
    pub(super) fn note_members(&mut self, group: GroupId, membership: &Membership) {
        let me = self.multi.node();
        let addresses: BTreeMap<NodeId, String> = membership
            .info
            .iter()
            .filter(|(node, _)| *node != me)
            .filter_map(|(node, info)| Some((*node, MemberInfo::decode(info)?.peer_url)))
            .collect();
        let before = self.addresses.insert(group, addresses).unwrap_or_default();
        // A leader that leaves needs the answers of the others until its own removal is committed.
        for (node, url) in before {
            self.remember(node, url);
        }
        let all = &self.addresses;
        self.strangers.retain(|node, _| !all.values().any(|known| known.contains_key(node)));
        self.connect();
        self.card.set_members(group, &membership.members());
        self.transport.set_identity(self.card.to_json());
    }

    /// A node that this one does not know talks to it, and says where it is reached. It may be the
    /// leader of a group whose membership is still to come.
    pub(super) fn meet(&mut self, node: NodeId, url: String) {
        if self.strangers.get(&node) != Some(&url) {
            self.remember(node, url);
            self.connect();
        }
    }

    fn remember(&mut self, node: NodeId, url: String) {
        if self.strangers.len() == STRANGERS_MAX {
            self.strangers.pop_first();
        }
        self.strangers.insert(node, url);
    }

    /// The members that can be reached, over all groups, with their newest addresses; and, where a
    /// group has no leader or a stranger for one, the strangers. Others are not answered: who was
    /// removed shall not take the answers of its former peers for a sign that it still belongs.
    pub(super) fn connect(&self) {
        let of_groups = self.addresses.values().flatten();
        let mut all: BTreeMap<NodeId, String> =
            of_groups.map(|(node, url)| (*node, url.clone())).collect();
        for (node, url) in &self.strangers {
            let may_lead = |leader: Option<NodeId>| leader.is_none() || leader == Some(*node);
            if self.multi.groups().any(|(_, raft)| may_lead(raft.leader())) {
                all.entry(*node).or_insert_with(|| url.clone());
            }
        }
        self.transport.set_peers(all);
    }
}
