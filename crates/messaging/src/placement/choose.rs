//! Who gets a copy.

use std::cmp::Reverse;

use consensus::NodeId;

use crate::catalog::{BrokerEntry, Brokers, Kind, Load, Placement, Replica};

/// How many copies there can be, when so many are wanted and so many brokers are there. Two are
/// no safer than one, but for who asks for two: with both needed for every write, either failure
/// stops the group. So what cannot be had in full is made odd.
#[must_use]
pub fn target(wanted: u8, brokers: usize) -> usize {
    let wanted = usize::from(wanted);
    if wanted <= brokers { wanted } else { brokers.saturating_sub(1 - brokers % 2) }
}

/// Puts a new group on brokers. `None` if no broker takes anything.
///
/// Brokers that are down are taken last, and never so many that the group could not begin
/// without them. Costs O(brokers), however many groups there are.
#[must_use]
pub fn place(brokers: &Brokers, load: &Load, wanted: u8, kind: Kind) -> Option<Placement> {
    let takes: Vec<_> = brokers.iter().filter(|(_, broker)| !broker.draining).collect();
    let up = takes.iter().filter(|(_, broker)| broker.up).count();
    let count = target(wanted, takes.len().min((2 * up).saturating_sub(1)));
    let mut founders = Vec::with_capacity(count);
    for _ in 0..count {
        founders.extend(choose(brokers, load, &founders, |_, broker| !broker.draining));
    }
    let leading = founders.iter().filter(|node| brokers.get(*node).is_some_and(|b| b.up));
    let preferred = *leading.min_by_key(|node| (load.of(**node).preferred, **node))?;
    let replicas = founders.iter().map(|node| Replica { node: *node, since: 0, damaged: false });
    Some(Placement {
        kind,
        wanted,
        replicas: replicas.collect(),
        founders,
        preferred,
        move_: None,
        generation: 0,
        left: Vec::new(),
    })
}

/// The best broker for one more copy beside these: up, in a zone of its own, with little to carry.
pub(super) fn choose(
    brokers: &Brokers,
    load: &Load,
    beside: &[NodeId],
    allowed: impl Fn(NodeId, &BrokerEntry) -> bool,
) -> Option<NodeId> {
    let others = brokers.iter().filter(|(node, _)| !beside.contains(node));
    let allowed = others.filter(|(node, broker)| allowed(**node, broker));
    let best = allowed.min_by_key(|(node, broker)| {
        let crowded = shares_zone(brokers, beside, **node);
        let share = load.of(**node);
        (Reverse(broker.up), crowded, share.replicas, share.preferred, **node)
    });
    best.map(|(node, _)| *node)
}

/// Whether one of these is in the broker's zone.
pub(super) fn shares_zone(brokers: &Brokers, beside: &[NodeId], node: NodeId) -> bool {
    let zone = zone(brokers, node);
    beside.iter().any(|other| *other != node && self::zone(brokers, *other) == zone)
}

/// How many zones these are in.
pub(super) fn zones(brokers: &Brokers, nodes: &[NodeId]) -> usize {
    let first = |at: &usize| !shares_zone(brokers, &nodes[..*at], nodes[*at]);
    (0..nodes.len()).filter(first).count()
}

fn zone(brokers: &Brokers, node: NodeId) -> &str {
    brokers.get(&node).map_or("", |broker| broker.announced.zone.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Announced;

    fn brokers(zones: &[&str]) -> Brokers {
        let broker = |(node, zone): (u64, &&str)| {
            let announced = Announced {
                name: format!("b{node}"),
                client_url: String::new(),
                peer_url: String::new(),
                zone: (*zone).to_owned(),
                version: 1,
            };
            (NodeId(node), BrokerEntry { announced, up: true, since_ms: 0, draining: false })
        };
        (1..).zip(zones).map(broker).collect()
    }

    fn placed(brokers: &Brokers, wanted: u8) -> Option<Placement> {
        let kind = Kind::Queue { name: "q".parse().unwrap() };
        place(brokers, &Load::default(), wanted, kind)
    }

    #[test]
    fn what_cannot_be_had_in_full_is_odd() {
        let cases = [(3, 0, 0), (3, 1, 1), (3, 2, 1), (2, 2, 2), (3, 3, 3), (5, 4, 3), (4, 9, 4)];
        for (wanted, brokers, expected) in cases {
            assert_eq!(target(wanted, brokers), expected, "{wanted} of {brokers}");
        }
    }

    #[test]
    fn copies_are_in_different_zones_before_anything_else() {
        let brokers = brokers(&["a", "a", "a", "b", "c"]);
        let placement = placed(&brokers, 3).unwrap();
        assert_eq!(placement.founders, [NodeId(1), NodeId(4), NodeId(5)]);
        assert_eq!(zones(&brokers, &placement.founders), 3);
    }

    #[test]
    fn brokers_that_are_down_get_only_what_a_group_can_begin_without() {
        let mut brokers = brokers(&["", "", "", "", ""]);
        for node in [1, 2, 3] {
            brokers.get_mut(&NodeId(node)).unwrap().up = false;
        }
        let placement = placed(&brokers, 5).unwrap();
        assert_eq!(placement.founders, [NodeId(4), NodeId(5), NodeId(1)]);
        assert_eq!(placement.preferred, NodeId(4));
        for broker in [4, 5] {
            brokers.get_mut(&NodeId(broker)).unwrap().draining = true;
        }
        assert_eq!(placed(&brokers, 3), None);
    }
}
