//! Spreading the lead.
//!
//! Only a broker with a copy can lead, so between the one that should lead less and the one that
//! could lead more there may be others: each passes one group on to the next. If no such chain
//! is left, no other choice is more even.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use consensus::{GroupId, NodeId};

use super::plan::Plan;
use crate::catalog::{CatalogCommand, Placement};

/// Says who should lead instead. While brokers come and go, only for those that must not lead.
pub(super) fn lead(plan: &mut Plan<'_>, is_calm: bool) {
    if !Chains::is_needed(plan, is_calm) {
        return;
    }
    let mut chains = Chains::new(plan);
    while chains.changed.len() < plan.limits.preferred {
        let Some(path) = chains.sources(plan, is_calm).find_map(|from| chains.path(plan, from))
        else {
            break;
        };
        for hop in path.windows(2) {
            chains.pass_on(plan, (hop[0], hop[1]));
        }
    }
    if !chains.changed.is_empty() {
        let moves = chains.changed.into_iter().collect();
        plan.commands.push(CatalogCommand::SetPreferred { moves });
    }
}

/// Which groups each broker could pass on to which other.
struct Chains<'a> {
    groups: BTreeMap<(NodeId, NodeId), Vec<(GroupId, &'a Placement)>>,
    changed: BTreeMap<GroupId, NodeId>,
}

impl<'a> Chains<'a> {
    fn is_needed(plan: &Plan<'_>, is_calm: bool) -> bool {
        let leads = |node: &NodeId| plan.load.of(*node).preferred;
        let (able, unable): (Vec<_>, Vec<_>) =
            plan.brokers().keys().copied().partition(|node| plan.may_lead(*node));
        let uneven = able.iter().map(leads).max() >= able.iter().map(|node| leads(node) + 2).min();
        (is_calm && uneven && !able.is_empty())
            || unable.iter().any(|node| !plan.stays(*node) && 0 < leads(node))
    }

    /// Each list is only as long as one plan can use.
    fn new(plan: &Plan<'a>) -> Self {
        let mut chains = Self { groups: BTreeMap::new(), changed: BTreeMap::new() };
        for (group, placement) in plan.resting().filter(|(group, _)| !plan.is_planned(*group)) {
            chains.offer(plan, (group, placement), placement.preferred);
        }
        chains
    }

    fn offer(&mut self, plan: &Plan<'a>, group: (GroupId, &'a Placement), from: NodeId) {
        for replica in &group.1.replicas {
            if replica.node != from && !replica.damaged && plan.may_lead(replica.node) {
                let groups = self.groups.entry((from, replica.node)).or_default();
                if groups.len() < plan.limits.preferred {
                    groups.push(group);
                }
            }
        }
    }

    /// Who should lead less: those that must not lead, then the others, the busiest first.
    fn sources(&self, plan: &Plan<'a>, is_calm: bool) -> impl Iterator<Item = NodeId> + use<> {
        let leading = plan.brokers().keys().copied();
        let leading = leading.filter(|node| 0 < plan.load.of(*node).preferred);
        let (able, mut unable): (Vec<_>, Vec<_>) = leading.partition(|node| plan.may_lead(*node));
        unable.retain(|node| !plan.stays(*node));
        let mut able = if is_calm { able } else { Vec::new() };
        able.sort_by_key(|node| (std::cmp::Reverse(plan.load.of(*node).preferred), *node));
        unable.into_iter().chain(able)
    }

    /// The shortest chain from this broker to the one that should lead more.
    fn path(&mut self, plan: &Plan<'a>, from: NodeId) -> Option<Vec<NodeId>> {
        let mut before: BTreeMap<NodeId, NodeId> = BTreeMap::new();
        let mut seen = BTreeSet::from([from]);
        let mut queue = VecDeque::from([from]);
        while let Some(node) = queue.pop_front() {
            for next in plan.brokers().keys().copied() {
                if !seen.contains(&next) && self.has(plan, (node, next)) {
                    seen.insert(next);
                    before.insert(next, node);
                    queue.push_back(next);
                }
            }
        }
        let leads = |node: NodeId| plan.load.of(node).preferred;
        let helps = |node: &NodeId| !plan.may_lead(from) || leads(*node) + 2 <= leads(from);
        let to = before.keys().copied().filter(helps).min_by_key(|node| (leads(*node), *node))?;
        let mut path = vec![to];
        while let Some(node) = before.get(path.last()?) {
            path.push(*node);
        }
        path.reverse();
        Some(path)
    }

    /// Whether there is a group to pass on. Those that were passed on already are dropped.
    fn has(&mut self, plan: &Plan<'a>, hop: (NodeId, NodeId)) -> bool {
        let Some(groups) = self.groups.get_mut(&hop) else { return false };
        while let Some((group, placement)) = groups.last() {
            let leader = self.changed.get(group).copied().unwrap_or(placement.preferred);
            if leader == hop.0 && !plan.is_planned(*group) {
                return true;
            }
            groups.pop();
        }
        false
    }

    fn pass_on(&mut self, plan: &mut Plan<'a>, (from, to): (NodeId, NodeId)) {
        let Some(group) = self.groups.get_mut(&(from, to)).and_then(Vec::pop) else { return };
        self.changed.insert(group.0, to);
        plan.load.move_lead(from, to);
        self.offer(plan, group, to);
    }
}
