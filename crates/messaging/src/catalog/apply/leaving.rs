//! Copies that are to go, and their end.

use std::sync::Arc;

use consensus::{GroupId, NodeId};

use super::Changed;
use crate::catalog::{Catalog, Touched};

impl Catalog {
    /// Deletes a group: all its copies are to go.
    pub(super) fn end_group(&mut self, group: GroupId) {
        let Some(placement) = self.state.groups.remove(&group) else { return };
        self.load.remove(&placement);
        self.moving.remove(&group);
        let arriving = placement.move_.and_then(|moving| moving.add);
        let generation = placement.generation + 1;
        for node in placement.nodes().chain(arriving) {
            self.leave(group, node, generation);
        }
        self.touch(Touched::Group(group));
    }

    /// A copy is to go. Nobody but its node takes it off this list.
    pub(super) fn leave(&mut self, group: GroupId, node: NodeId, generation: u64) {
        self.state.leaving.entry(group).or_default().insert(node, generation);
    }

    /// A node has removed copies. What it was told since, or not at all, is not touched.
    pub(super) fn left(&mut self, node: NodeId, copies: &[(GroupId, u64)]) -> Changed {
        let mut changed = Changed::Unchanged;
        for (group, generation) in copies {
            let Some(nodes) = self.state.leaving.get_mut(group) else { continue };
            if nodes.get(&node) != Some(generation) {
                continue;
            }
            nodes.remove(&node);
            if nodes.is_empty() {
                self.state.leaving.remove(group);
            }
            changed = Changed::Deleted;
            let now = self.state.now;
            if self.state.groups.contains_key(group) {
                self.change_group(*group, |placement| placement.left.push((node, now)));
            } else {
                self.touch(Touched::Group(*group));
            }
        }
        changed
    }

    /// A node cannot use this copy; a later one, or none, is meant by nobody.
    pub(super) fn report_damaged(&mut self, node: NodeId, group: GroupId, since: u64) -> Changed {
        let Some(placement) = self.state.groups.get(&group).map(Arc::clone) else {
            return Changed::Unchanged;
        };
        let copy = placement.replica(node);
        if copy.is_none_or(|copy| copy.since != since || copy.damaged) {
            return Changed::Unchanged;
        }
        self.change_group(group, |placement| {
            for replica in placement.replicas.iter_mut().filter(|copy| copy.node == node) {
                replica.damaged = true;
            }
        });
        Changed::Updated
    }

    /// Nobody will remove what a forgotten node has. O(copies that are to go).
    pub(super) fn leave_behind(&mut self, node: NodeId) {
        let leaving = self.state.leaving.iter();
        let told = leaving.filter_map(|(group, nodes)| Some((*group, *nodes.get(&node)?)));
        let told: Vec<_> = told.collect();
        self.left(node, &told);
    }
}
