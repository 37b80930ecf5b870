//! Spreading copies evenly.
//!
//! A move from a broker to one with at least two copies fewer makes the sum of the squares of
//! their counts smaller, so there is an end to it. Where zones do not forbid it, there is such a
//! move as long as two brokers differ by two: of the groups on the fuller one, some is not on the
//! other.

use consensus::{GroupId, NodeId};

use super::choose::zones;
use super::plan::Plan;
use crate::catalog::Placement;

/// Plans moves from fuller brokers to emptier ones.
pub(super) fn even(plan: &mut Plan<'_>) {
    let stay = plan.brokers().keys().copied().filter(|node| plan.stays(*node));
    let stay: Vec<_> = stay.collect();
    let copies: u32 = stay.iter().map(|node| plan.load.of(*node).replicas).sum();
    let brokers = u32::try_from(stay.len()).unwrap_or(u32::MAX).max(1);
    // First only from brokers that have too much to those that have too little, which takes the
    // fewest moves. Then whatever helps.
    let (low, high) = (copies / brokers, copies.div_ceil(brokers));
    let moves = plan.commands.len();
    pass(plan, &stay, |from, to| (high < from && to <= low) || (high <= from && to < low));
    if plan.commands.len() == moves {
        pass(plan, &stay, |from, to| to + 2 <= from);
    }
}

fn pass(plan: &mut Plan<'_>, stay: &[NodeId], helps: impl Fn(u32, u32) -> bool) {
    let mut possible = can_help(plan, stay, &helps);
    for (group, placement) in plan.resting() {
        if plan.is_full() || !possible {
            return;
        }
        if plan.is_planned(group) {
            continue;
        }
        let Some((from, to)) = pair(plan, stay, (group, placement), &helps) else { continue };
        plan.begin((group, placement), Some(to), Some(from));
        possible = can_help(plan, stay, &helps);
    }
}

/// Whether any move could help, as far as counts and room go. Spares looking at all groups.
fn can_help(plan: &Plan<'_>, stay: &[NodeId], helps: &impl Fn(u32, u32) -> bool) -> bool {
    let with_room = stay.iter().filter(|node| plan.has_room(**node));
    let counts = with_room.map(|node| plan.load.of(*node).replicas);
    let (least, most) = (counts.clone().min(), counts.max());
    matches!((least, most), (Some(least), Some(most)) if least + 2 <= most && helps(most, least))
}

/// From where to where a copy of this group may go.
fn pair(
    plan: &Plan<'_>,
    stay: &[NodeId],
    group: (GroupId, &Placement),
    helps: &impl Fn(u32, u32) -> bool,
) -> Option<(NodeId, NodeId)> {
    let carries = |node: &NodeId| (plan.load.of(*node).replicas, *node);
    let nodes: Vec<_> = group.1.nodes().collect();
    let with_room = nodes.iter().filter(|node| stay.contains(node) && plan.has_room(**node));
    let from = with_room.copied().max_by_key(carries)?;
    let fuller = plan.load.of(from).replicas;
    let emptier = stay.iter().copied().filter(|node| {
        let emptier = plan.load.of(*node).replicas;
        emptier + 2 <= fuller && helps(fuller, emptier) && plan.takes(group, *node)
    });
    let zones_now = zones(plan.brokers(), &nodes);
    let keeps_zones = |to: &NodeId| {
        let after = nodes.iter().map(|node| if *node == from { *to } else { *node });
        zones_now <= zones(plan.brokers(), &after.collect::<Vec<_>>())
    };
    let to = emptier.filter(keeps_zones).min_by_key(carries)?;
    Some((from, to))
}
