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

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, apply_at, founded, leave_all, put_queue};
    use super::*;
    use crate::catalog::{COMEBACK_MS, CatalogCommand, Duty};

    /// One group with a copy on broker 1, and two other brokers.
    fn alone() -> (Catalog, GroupId) {
        let mut catalog = founded(1);
        apply(&mut catalog, &put_queue("q", None)).unwrap();
        for node in [2, 3] {
            apply(&mut catalog, &super::super::testing::announce(node)).unwrap();
        }
        let group = catalog.queues()["q"].group;
        (catalog, group)
    }

    fn begin(group: GroupId, expect: u64, add: u64, remove: u64) -> CatalogCommand {
        let [add, remove] = [add, remove].map(|node| (0 < node).then_some(NodeId(node)));
        CatalogCommand::BeginMove { group, expect, add, remove }
    }

    fn end(group: GroupId, generation: u64, done: bool) -> CatalogCommand {
        CatalogCommand::EndMove { group, generation, done }
    }

    #[test]
    fn a_move_begins_and_ends_once_however_often_it_is_proposed() {
        let (mut catalog, group) = alone();
        for reply in [Changed::Updated, Changed::Unchanged] {
            assert_eq!(apply(&mut catalog, &begin(group, 0, 2, 1)), Ok(reply));
        }
        assert_eq!(catalog.groups()[&group].duty(NodeId(2)), Some(Duty::Join));
        assert_eq!(catalog.load().of(NodeId(2)).replicas, 1);
        assert_eq!(apply(&mut catalog, &end(group, 0, true)), Ok(Changed::Unchanged));
        for reply in [Changed::Updated, Changed::Unchanged] {
            assert_eq!(apply(&mut catalog, &end(group, 1, true)), Ok(reply));
        }
        let placement = &catalog.groups()[&group];
        assert_eq!((placement.preferred, placement.duty(NodeId(1))), (NodeId(2), None));
        assert!(catalog.leaving()[&group].contains_key(&NodeId(1)) && catalog.moving().is_empty());
    }

    #[test]
    fn only_a_cancelled_move_ends_where_it_began() {
        let (mut catalog, group) = alone();
        apply(&mut catalog, &begin(group, 0, 2, 1)).unwrap();
        let refused = apply(&mut catalog, &end(group, 1, false));
        assert_eq!(refused, Err(CatalogRefused::NotCancelled(group)));
        let cancel = CatalogCommand::CancelMove { group, generation: 1 };
        assert_eq!(apply(&mut catalog, &cancel), Ok(Changed::Updated));
        assert_eq!(catalog.load().of(NodeId(1)).replicas, 1);
        assert_eq!(apply(&mut catalog, &end(group, 1, true)), Ok(Changed::Unchanged));
        assert_eq!(apply(&mut catalog, &end(group, 2, false)), Ok(Changed::Updated));
        let nodes: Vec<_> = catalog.leaving()[&group].keys().copied().collect();
        assert_eq!(nodes, [NodeId(2)]);
        assert_eq!(catalog.groups()[&group].nodes().collect::<Vec<_>>(), [NodeId(1)]);
    }

    #[test]
    fn a_node_gets_no_copy_before_its_former_one_is_gone_for_a_while() {
        let (mut catalog, group) = alone();
        apply(&mut catalog, &begin(group, 0, 2, 1)).unwrap();
        apply(&mut catalog, &end(group, 1, true)).unwrap();
        let refused = apply(&mut catalog, &begin(group, 2, 1, 0));
        assert!(matches!(refused, Err(CatalogRefused::NoMove { .. })));
        leave_all(&mut catalog);
        let refused = apply_at(&mut catalog, COMEBACK_MS, &begin(group, 2, 1, 0));
        assert!(matches!(refused, Err(CatalogRefused::NoMove { .. })));
        let begun = apply_at(&mut catalog, COMEBACK_MS + 1, &begin(group, 2, 1, 0));
        assert_eq!(begun, Ok(Changed::Updated));
        assert_eq!(catalog.groups()[&group].duty(NodeId(1)), Some(Duty::Join));
    }

    #[test]
    fn a_word_about_an_earlier_copy_says_nothing_of_a_later_one() {
        let (mut catalog, group) = alone();
        let first = CatalogCommand::Left { node: NodeId(1), copies: vec![(group, 2)] };
        for (generation, (add, remove)) in [(0, (2, 1)), (2, (1, 2)), (4, (2, 1))] {
            let now = 1 + (generation + 1) * COMEBACK_MS;
            apply_at(&mut catalog, now, &begin(group, generation, add, remove)).unwrap();
            apply_at(&mut catalog, now, &end(group, generation + 1, true)).unwrap();
            if generation < 4 {
                leave_all(&mut catalog);
            }
        }
        assert_eq!(apply(&mut catalog, &first), Ok(Changed::Unchanged));
        assert!(catalog.leaving()[&group].contains_key(&NodeId(1)));
    }

    #[test]
    fn the_last_copy_stays_and_nobody_leads_without_one() {
        let (mut catalog, group) = alone();
        for (add, remove) in [(0, 1), (0, 0), (1, 0), (9, 0), (2, 3)] {
            let refused = apply(&mut catalog, &begin(group, 0, add, remove));
            assert!(matches!(refused, Err(CatalogRefused::NoMove { .. })), "{add} {remove}");
        }
        let prefer = CatalogCommand::SetPreferred { moves: vec![(group, NodeId(2))] };
        assert_eq!(apply(&mut catalog, &prefer), Ok(Changed::Unchanged));
    }

    #[test]
    fn a_deleted_group_leaves_also_the_broker_it_was_moving_to() {
        let (mut catalog, group) = alone();
        apply(&mut catalog, &begin(group, 0, 2, 1)).unwrap();
        let name = super::super::testing::name("q");
        apply(&mut catalog, &CatalogCommand::DeleteQueue { name }).unwrap();
        let nodes: Vec<_> = catalog.leaving()[&group].keys().copied().collect();
        assert_eq!(nodes, [NodeId(1), NodeId(2)]);
        assert_eq!(*catalog.load(), Default::default());
    }
}
