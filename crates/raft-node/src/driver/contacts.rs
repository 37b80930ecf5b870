//! Where other nodes are reached: as the service says ([`Groups::know`](crate::Groups::know)), as
//! memberships say that carry addresses, or as they say themselves.
//!
//! Groups whose members are named by the service's book say nothing here, so that a change of one
//! of many thousand groups costs nothing.

use std::collections::BTreeMap;

use consensus::{GroupId, Membership, NodeId};

use super::Driver;
use crate::member::MemberInfo;

/// Nodes that are remembered without being members of anything here.
const STRANGERS_MAX: usize = 16;

/// Base URLs of other nodes.
#[derive(Default)]
pub(super) struct Contacts {
    /// As the service says: it goes before the others.
    book: BTreeMap<NodeId, String>,
    /// Of the members of groups whose memberships carry addresses.
    by_group: BTreeMap<GroupId, BTreeMap<NodeId, String>>,
    /// Of nodes that have opened a stream and are members of nothing here.
    strangers: BTreeMap<NodeId, String>,
    /// Something may have changed: looked at once, however many groups it concerns.
    is_due: bool,
}

impl Contacts {
    /// Whom to be connected with is looked at once more.
    pub(super) fn touch(&mut self) {
        self.is_due = true;
    }

    /// Who leads matters for strangers.
    pub(super) fn note_leader(&mut self) {
        self.is_due |= !self.strangers.is_empty();
    }

    fn remember(&mut self, node: NodeId, url: String) {
        if self.strangers.len() == STRANGERS_MAX {
            self.strangers.pop_first();
        }
        self.strangers.insert(node, url);
        self.is_due = true;
    }

    /// A group has ended here.
    pub(super) fn forget(&mut self, group: GroupId) {
        self.is_due |= self.by_group.remove(&group).is_some();
    }

    fn is_known(&self, node: NodeId) -> bool {
        self.book.contains_key(&node) || self.by_group.values().any(|all| all.contains_key(&node))
    }
}

impl Driver {
    /// The service says where nodes are reached.
    pub(super) fn know(&mut self, mut nodes: BTreeMap<NodeId, String>) {
        nodes.remove(&self.multi.node());
        nodes.retain(|_, url| !url.is_empty());
        let before = std::mem::replace(&mut self.contacts.book, nodes);
        self.note_gone(before);
        self.contacts.is_due = true;
    }

    /// Learns where members are reached.
    pub(super) fn note_members(&mut self, group: GroupId, membership: &Membership) {
        if membership.info.iter().all(|(_, info)| info.is_empty()) {
            let before = self.contacts.by_group.remove(&group).unwrap_or_default();
            return self.note_gone(before);
        }
        let me = self.multi.node();
        let addresses: BTreeMap<NodeId, String> = membership
            .info
            .iter()
            .filter(|(node, _)| *node != me)
            .filter_map(|(node, info)| Some((*node, MemberInfo::decode(info)?.peer_url)))
            .collect();
        let before = self.contacts.by_group.insert(group, addresses).unwrap_or_default();
        self.note_gone(before);
        self.contacts.is_due = true;
        self.card.set_members(group, &membership.members());
        self.transport.set_identity(self.card.to_json());
    }

    /// A leader that leaves needs the answers of the others until its own removal is committed.
    fn note_gone(&mut self, before: BTreeMap<NodeId, String>) {
        for (node, url) in before {
            if !self.contacts.is_known(node) {
                self.contacts.remember(node, url);
            }
        }
        let mut strangers = std::mem::take(&mut self.contacts.strangers);
        strangers.retain(|node, _| !self.contacts.is_known(*node));
        self.contacts.strangers = strangers;
    }

    /// A node that this one does not know talks to it, and says where it is reached. It may be the
    /// leader of a group whose membership is still to come.
    pub(super) fn meet(&mut self, node: NodeId, url: String) {
        if self.contacts.strangers.get(&node) != Some(&url) {
            self.contacts.remember(node, url);
        }
    }

    /// The nodes to be connected with, at their newest addresses: those in the book, the members of
    /// groups that say where they are; and, where a group has no leader or a stranger for one, the
    /// strangers. Others are not answered: who was removed shall not take the answers of its former
    /// peers for a sign that it still belongs.
    pub(super) fn connect(&mut self) {
        if !std::mem::take(&mut self.contacts.is_due) {
            return;
        }
        let Contacts { book, by_group, strangers, .. } = &self.contacts;
        let of_groups = by_group.values().flatten();
        let mut all: BTreeMap<NodeId, String> =
            of_groups.chain(book).map(|(node, url)| (*node, url.clone())).collect();
        for (node, url) in strangers {
            let may_lead = |leader: Option<NodeId>| leader.is_none() || leader == Some(*node);
            if self.multi.groups().any(|(_, raft)| may_lead(raft.leader())) {
                all.entry(*node).or_insert_with(|| url.clone());
            }
        }
        self.transport.set_peers(all);
    }
}
