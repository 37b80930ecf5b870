//! Moves: their beginning, their end, and who should lead.

use std::sync::Arc;

use consensus::{GroupId, NodeId};

use super::{CatalogRefused, CatalogReply, Changed};
use crate::catalog::{Catalog, MAX_PREFERRED, Move, Placement, Replica};

impl Catalog {
    /// Nothing is done for another generation: somebody else was faster, or this is a repetition.
    pub(super) fn begin_move(
        &mut self,
        (group, expect): (GroupId, u64),
        add: Option<NodeId>,
        remove: Option<NodeId>,
    ) -> CatalogReply {
        let Some(placement) = self.state.groups.get(&group).map(Arc::clone) else {
            return Err(CatalogRefused::NoGroup(group));
        };
        if placement.generation != expect || placement.move_.is_some() {
            return Ok(Changed::Unchanged);
        }
        if let Some(why) = self.forbids(group, &placement, add, remove) {
            return Err(CatalogRefused::NoMove { group, why });
        }
        let since_ms = self.state.now;
        self.change_group(group, |placement| {
            placement.generation += 1;
            placement.move_ = Some(Move { add, remove, since_ms, cancelled: false });
        });
        Ok(Changed::Updated)
    }

    fn forbids(
        &self,
        group: GroupId,
        placement: &Placement,
        add: Option<NodeId>,
        remove: Option<NodeId>,
    ) -> Option<&'static str> {
        if let Some(node) = add {
            let leaving = self.state.leaving.get(&group);
            let broker = self.state.brokers.get(&node);
            if broker.is_none_or(|broker| broker.draining) {
                return Some("the broker that gets a copy is unknown or being emptied");
            }
            if placement.replica(node).is_some() {
                return Some("the broker that gets a copy has one");
            }
            if leaving.is_some_and(|nodes| nodes.contains_key(&node))
                || placement.has_just_left(node, self.state.now)
            {
                return Some("the broker that gets a copy is just removing its former one");
            }
        }
        match remove {
            Some(node) if placement.replica(node).is_none() => Some("the copy to go is not there"),
            Some(_) if add.is_none() && placement.replicas.len() == 1 => {
                Some("the last copy stays")
            }
            None if add.is_none() => Some("nothing would change"),
            _ => None,
        }
    }

    pub(super) fn end_move(
        &mut self,
        (group, generation): (GroupId, u64),
        done: bool,
    ) -> CatalogReply {
        let Some((placement, moving)) = self.under_way((group, generation)) else {
            return Ok(Changed::Unchanged);
        };
        if !done && !moving.cancelled {
            return Err(CatalogRefused::NotCancelled(group));
        }
        let gone = if done { moving.remove } else { moving.add };
        let generation = generation + 1;
        let mut replicas = placement.replicas.clone();
        if done {
            replicas.retain(|replica| Some(replica.node) != moving.remove);
            replicas.extend(moving.add.map(|node| Replica {
                node,
                since: generation,
                damaged: false,
            }));
        }
        let preferred = self.still_preferred(&placement, &replicas);
        if let Some(node) = gone {
            self.leave(group, node, generation);
        }
        self.change_group(group, |placement| {
            placement.generation = generation;
            placement.move_ = None;
            placement.replicas = replicas;
            placement.preferred = preferred;
        });
        Ok(Changed::Updated)
    }

    /// Who leads when the copies are these: the same as before, or whoever leads least.
    fn still_preferred(&self, placement: &Placement, replicas: &[Replica]) -> NodeId {
        let nodes = replicas.iter().map(|replica| replica.node);
        if nodes.clone().any(|node| node == placement.preferred) {
            return placement.preferred;
        }
        let least = nodes.min_by_key(|node| (self.load.of(*node).preferred, *node));
        least.expect("a group has a copy, as the last one stays")
    }

    pub(super) fn cancel_move(&mut self, (group, generation): (GroupId, u64)) -> CatalogReply {
        match self.under_way((group, generation)) {
            Some((_, moving)) if !moving.cancelled => {
                self.change_group(group, |placement| {
                    placement.generation += 1;
                    placement.move_ = Some(Move { cancelled: true, ..moving });
                });
                Ok(Changed::Updated)
            }
            _ => Ok(Changed::Unchanged),
        }
    }

    /// The move of this generation, if it is under way.
    fn under_way(&self, (group, generation): (GroupId, u64)) -> Option<(Arc<Placement>, Move)> {
        let placement = self.state.groups.get(&group).filter(|p| p.generation == generation)?;
        Some((Arc::clone(placement), placement.move_?))
    }

    pub(super) fn set_preferred(&mut self, moves: &[(GroupId, NodeId)]) -> CatalogReply {
        if MAX_PREFERRED < moves.len() {
            return Err(CatalogRefused::TooManyPreferred);
        }
        let mut changed = Changed::Unchanged;
        for (group, node) in moves {
            let Some(placement) = self.state.groups.get(group) else { continue };
            if placement.preferred != *node && placement.replica(*node).is_some() {
                self.change_group(*group, |placement| placement.preferred = *node);
                changed = Changed::Updated;
            }
        }
        Ok(changed)
    }
}
