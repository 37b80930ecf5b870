//! Which moves begin, which are given up, and who should lead.

use std::collections::{BTreeMap, BTreeSet};

use consensus::{GroupId, NodeId};

use super::choose::{choose, shares_zone, target, zones};
use super::{even, lead};
use crate::catalog::{BrokerEntry, Brokers, Catalog, CatalogCommand, Load, Placement};
use crate::ids::Millis;

/// How much a plan may do at once, and how patient it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanLimits {
    /// Most moves under way.
    pub moves: usize,
    /// Most moves under way into or out of one broker.
    pub moves_per_broker: usize,
    /// Most groups of one plan that get another leader. At most
    /// [`MAX_PREFERRED`](crate::catalog::MAX_PREFERRED).
    pub preferred: usize,
    /// A broker that was silent for this long is given up.
    pub replace_after_ms: u64,
    /// A move onto a broker that was silent for this long is given up.
    pub cancel_after_ms: u64,
    /// Nothing is spread evenly while a broker has come so lately.
    pub settle_ms: u64,
}

impl Default for PlanLimits {
    fn default() -> Self {
        Self {
            moves: 8,
            moves_per_broker: 2,
            preferred: 256,
            replace_after_ms: 600_000,
            cancel_after_ms: 60_000,
            settle_ms: 30_000,
        }
    }
}

/// What the planner has seen itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Now.
    pub now_ms: Millis,
    /// When it began to lead the catalog. Of silence before that it has only been told, and
    /// after all brokers were off nobody has spoken yet.
    pub leading_since_ms: Millis,
}

/// What is to be done about where groups live. Empty when all is well.
///
/// Costs O(groups), and the answer is bounded: by the limits, and by the moves under way.
#[must_use]
pub fn plan(catalog: &Catalog, seen: &Seen, limits: PlanLimits) -> Vec<CatalogCommand> {
    let mut plan = Plan::new(catalog, seen, limits);
    plan.give_up();
    plan.must();
    let is_calm = plan.is_calm();
    if is_calm {
        plan.resize();
        plan.spread();
        even::even(&mut plan);
    }
    lead::lead(&mut plan, is_calm);
    plan.commands
}

/// A plan in the making.
pub(super) struct Plan<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) limits: PlanLimits,
    seen: Seen,
    /// What brokers carry when all that is planned is done.
    pub(super) load: Load,
    /// Moves into and out of each broker.
    busy: BTreeMap<NodeId, usize>,
    moves: usize,
    /// The groups that this plan moves.
    planned: BTreeSet<GroupId>,
    pub(super) commands: Vec<CatalogCommand>,
}

impl<'a> Plan<'a> {
    fn new(catalog: &'a Catalog, seen: &Seen, limits: PlanLimits) -> Self {
        let mut plan = Self {
            catalog,
            limits,
            seen: *seen,
            load: catalog.load().clone(),
            busy: BTreeMap::new(),
            moves: catalog.moving().len(),
            planned: BTreeSet::new(),
            commands: Vec::new(),
        };
        for (_, placement) in plan.moving() {
            let moving = placement.move_.into_iter().flat_map(|moving| [moving.add, moving.remove]);
            moving.flatten().for_each(|node| *plan.busy.entry(node).or_default() += 1);
        }
        plan
    }

    pub(super) fn brokers(&self) -> &'a Brokers {
        self.catalog.brokers()
    }

    fn moving(&self) -> impl Iterator<Item = (GroupId, &'a Placement)> + use<'a> {
        let catalog = self.catalog;
        let moving = catalog.moving().iter();
        moving.filter_map(|group| Some((*group, &**catalog.groups().get(group)?)))
    }

    /// The groups that nothing is done about yet.
    pub(super) fn resting(&self) -> impl Iterator<Item = (GroupId, &'a Placement)> + use<'a> {
        let groups = self.catalog.groups().iter();
        let groups = groups.map(|(group, placement)| (*group, &**placement));
        groups.filter(|(_, placement)| placement.move_.is_none())
    }

    pub(super) fn is_planned(&self, group: GroupId) -> bool {
        self.planned.contains(&group)
    }

    pub(super) fn is_full(&self) -> bool {
        self.limits.moves <= self.moves
    }

    /// No broker has come lately, so that what is missing is not just about to come.
    fn is_calm(&self) -> bool {
        let latest = self.brokers().values().filter(|broker| broker.up).map(|b| b.since_ms).max();
        let latest = latest.unwrap_or(0).max(self.seen.leading_since_ms);
        latest.saturating_add(self.limits.settle_ms) <= self.seen.now_ms
    }

    /// How long it was silent, as far as this planner can tell.
    fn silent_for(&self, broker: &BrokerEntry) -> Option<u64> {
        let led_for = self.seen.now_ms.saturating_sub(self.seen.leading_since_ms);
        broker.down_for(self.seen.now_ms).map(|silent| silent.min(led_for))
    }

    /// It will not come back, as far as anybody can tell.
    pub(super) fn is_lost(&self, broker: &BrokerEntry) -> bool {
        let silent = self.silent_for(broker);
        silent.is_some_and(|silent| self.limits.replace_after_ms <= silent)
    }

    /// It keeps what it has, and may get more.
    pub(super) fn stays(&self, node: NodeId) -> bool {
        let broker = self.brokers().get(&node);
        broker.is_some_and(|broker| !broker.draining && !self.is_lost(broker))
    }

    /// It may be given the lead.
    pub(super) fn may_lead(&self, node: NodeId) -> bool {
        self.brokers().get(&node).is_some_and(|broker| broker.up && !broker.draining)
    }

    fn is_up(&self, placement: &Placement, node: NodeId) -> bool {
        let damaged = placement.replica(node).is_some_and(|replica| replica.damaged);
        !damaged && self.brokers().get(&node).is_some_and(|broker| broker.up)
    }

    fn has_majority(&self, placement: &Placement, nodes: &[NodeId]) -> bool {
        let up = nodes.iter().filter(|node| self.is_up(placement, **node)).count();
        nodes.len() < 2 * up
    }

    /// Whether the broker may get a copy of the group now.
    pub(super) fn takes(&self, (group, placement): (GroupId, &Placement), node: NodeId) -> bool {
        let up = self.brokers().get(&node).is_some_and(|broker| broker.up && !broker.draining);
        let leaving = self.catalog.leaving().get(&group);
        up && self.has_room(node)
            && placement.replica(node).is_none()
            && leaving.is_none_or(|nodes| !nodes.contains_key(&node))
            && !placement.has_just_left(node, self.seen.now_ms)
    }

    pub(super) fn has_room(&self, node: NodeId) -> bool {
        self.busy.get(&node).is_none_or(|busy| *busy < self.limits.moves_per_broker)
    }

    /// Plans a move if there is room for it, and if the group can decide it before and after.
    pub(super) fn begin(
        &mut self,
        (group, placement): (GroupId, &Placement),
        add: Option<NodeId>,
        remove: Option<NodeId>,
    ) {
        let before: Vec<_> = placement.nodes().collect();
        let stay = before.iter().copied().filter(|node| Some(*node) != remove);
        let after: Vec<_> = stay.chain(add).collect();
        let nodes = [add, remove].into_iter().flatten();
        let has_room = !self.is_full() && nodes.clone().all(|node| self.has_room(node));
        let can_decide =
            self.has_majority(placement, &before) && self.has_majority(placement, &after);
        if !has_room || !can_decide || self.is_planned(group) {
            return;
        }
        nodes.for_each(|node| *self.busy.entry(node).or_default() += 1);
        self.moves += 1;
        self.planned.insert(group);
        self.load.move_copy(add, remove);
        let expect = placement.generation;
        self.commands.push(CatalogCommand::BeginMove { group, expect, add, remove });
    }

    /// Moves onto brokers that do not come back stand in the way of others.
    fn give_up(&mut self) {
        let commands = self.moving().filter_map(|(group, placement)| {
            let moving = placement.move_.filter(|moving| !moving.cancelled)?;
            let broker = self.brokers().get(&moving.add?);
            let hopeless = broker.is_none_or(|broker| {
                let silent = self.silent_for(broker);
                broker.draining
                    || silent.is_some_and(|silent| self.limits.cancel_after_ms <= silent)
            });
            let generation = placement.generation;
            hopeless.then_some(CatalogCommand::CancelMove { group, generation })
        });
        let commands: Vec<_> = commands.collect();
        self.commands.extend(commands);
    }

    /// Copies that must not stay where they are.
    fn must(&mut self) {
        for (group, placement) in self.resting() {
            if self.is_full() {
                return;
            }
            let bad = placement.replicas.iter();
            let bad = bad.filter(|replica| replica.damaged || !self.stays(replica.node));
            // First those that take part least.
            let bad = bad.min_by_key(|replica| {
                let up = self.is_up(placement, replica.node);
                (up, replica.node)
            });
            let Some(bad) = bad else { continue };
            let add = self.spare((group, placement), Some(bad.node));
            let draining = self.brokers().get(&bad.node).is_some_and(|broker| broker.draining);
            // A damaged copy is made anew on the same broker, if need be. A silent one may yet
            // come back, and is no worse there than gone.
            if add.is_some() || ((draining || bad.damaged) && 1 < placement.replicas.len()) {
                self.begin((group, placement), add, Some(bad.node));
            }
        }
    }

    /// The best broker for another copy.
    fn spare(
        &self,
        (group, placement): (GroupId, &Placement),
        instead_of: Option<NodeId>,
    ) -> Option<NodeId> {
        let stay = placement.nodes().filter(|node| Some(*node) != instead_of);
        let beside: Vec<_> = stay.collect();
        let takes = |node, _: &BrokerEntry| self.takes((group, placement), node);
        choose(self.brokers(), &self.load, &beside, takes)
    }

    /// More copies where some are missing, fewer where there are too many.
    fn resize(&mut self) {
        let brokers = self.brokers().keys().filter(|node| self.stays(**node)).count();
        for (group, placement) in self.resting() {
            if self.is_full() {
                return;
            }
            let (has, wanted) = (placement.replicas.len(), usize::from(placement.wanted));
            if has < target(placement.wanted, brokers) {
                let add = self.spare((group, placement), None);
                if add.is_some() {
                    self.begin((group, placement), add, None);
                }
            } else if wanted < has {
                self.begin((group, placement), None, self.dispensable(placement));
            }
        }
    }

    /// The copy that is missed least.
    fn dispensable(&self, placement: &Placement) -> Option<NodeId> {
        let nodes: Vec<_> = placement.nodes().collect();
        nodes.iter().copied().max_by_key(|node| {
            let bad = !self.is_up(placement, *node) || !self.stays(*node);
            let crowded = shares_zone(self.brokers(), &nodes, *node);
            let share = self.load.of(*node);
            (bad, crowded, share.replicas, *node != placement.preferred, *node)
        })
    }

    /// Copies that share a zone go to one that has none.
    fn spread(&mut self) {
        let first = self.brokers().values().next().map(|broker| &broker.announced.zone);
        if self.brokers().values().all(|broker| Some(&broker.announced.zone) == first) {
            return;
        }
        for (group, placement) in self.resting() {
            if self.is_full() {
                return;
            }
            let nodes: Vec<_> = placement.nodes().collect();
            let crowded = nodes.iter().copied();
            let crowded = crowded.filter(|node| shares_zone(self.brokers(), &nodes, *node));
            let crowded = crowded.max_by_key(|node| (self.load.of(*node).replicas, *node));
            let Some(remove) = crowded else { continue };
            let stay: Vec<_> = nodes.iter().copied().filter(|node| *node != remove).collect();
            let free = |node, _: &BrokerEntry| {
                self.takes((group, placement), node) && !shares_zone(self.brokers(), &stay, node)
            };
            let add = choose(self.brokers(), &self.load, &stay, free);
            let better = add.is_some()
                && zones(self.brokers(), &nodes)
                    < zones(self.brokers(), &[&stay[..], &[add.unwrap_or(remove)]].concat());
            if better {
                self.begin((group, placement), add, Some(remove));
            }
        }
    }
}
