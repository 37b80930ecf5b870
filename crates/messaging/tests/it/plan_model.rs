//! Plans carried out to the end, by a catalog whose brokers come, go and are emptied.

use std::collections::{BTreeMap, BTreeSet};

use consensus::NodeId;
use messaging::catalog::{Announced, Catalog, CatalogCommand, Copies, Load, Placement};
use messaging::config::QueueConfig;
use messaging::frame::{Records, encode};
use messaging::placement::{PlanLimits, Seen, plan, target};
use proptest::prelude::*;

struct Cluster {
    catalog: Catalog,
    now: u64,
    zones: u64,
    moves: usize,
}

impl Cluster {
    fn new(brokers: u64, zones: u64) -> Self {
        let catalog = Catalog::default();
        let mut cluster = Self { catalog, now: 1_000_000, zones, moves: 0 };
        (1..=brokers).for_each(|node| cluster.announce(node));
        cluster
    }

    fn apply(&mut self, command: &CatalogCommand) {
        self.catalog.apply(&encode(self.now, command, &Records::default())).unwrap();
    }

    fn announce(&mut self, node: u64) {
        let announced = Announced {
            name: format!("b{node}"),
            client_url: "http://c".to_owned(),
            peer_url: "http://p".to_owned(),
            zone: format!("z{}", node % self.zones),
            version: 1,
        };
        self.apply(&CatalogCommand::Announce { node: NodeId(node), announced });
    }

    fn put(&mut self, from: usize, copies: &[u8]) {
        for (number, asked) in (from..).zip(copies) {
            let name = format!("q{number}").parse().unwrap();
            let copies = Copies { asked: None, default: *asked };
            let config = QueueConfig::default();
            self.apply(&CatalogCommand::PutQueue { name, config, copies });
        }
    }

    fn is_up(&self, node: NodeId) -> bool {
        self.catalog.brokers().get(&node).is_some_and(|broker| broker.up)
    }

    /// Checks a plan and carries it out. How many commands there were.
    fn round(&mut self) -> Result<usize, TestCaseError> {
        let seen = Seen { now_ms: self.now, leading_since_ms: 0 };
        let limits = PlanLimits::default();
        let commands = plan(&self.catalog, &seen, limits);
        prop_assert_eq!(&commands, &plan(&self.catalog, &seen, limits));
        let mut busy: BTreeMap<NodeId, usize> = BTreeMap::new();
        for command in &commands {
            if let CatalogCommand::BeginMove { group, add, remove, .. } = command {
                let placement = &self.catalog.groups()[group];
                self.check_majorities(placement, *add, *remove)?;
                for node in [add, remove].into_iter().flatten() {
                    *busy.entry(*node).or_default() += 1;
                }
            }
            self.apply(command);
        }
        prop_assert!(self.catalog.moving().len() <= limits.moves);
        prop_assert!(busy.values().all(|busy| *busy <= limits.moves_per_broker));
        self.finish();
        Ok(commands.len())
    }

    fn check_majorities(
        &self,
        placement: &Placement,
        add: Option<NodeId>,
        remove: Option<NodeId>,
    ) -> Result<(), TestCaseError> {
        let before: BTreeSet<_> = placement.nodes().collect();
        let mut after = before.clone();
        after.extend(add);
        after.retain(|node| Some(*node) != remove);
        for nodes in [before, after] {
            let up = nodes.iter().filter(|node| self.is_up(**node)).count();
            prop_assert!(nodes.len() < 2 * up, "{nodes:?} would not have a majority up");
        }
        Ok(())
    }

    fn finish(&mut self) {
        for group in self.catalog.moving().clone() {
            self.moves += 1;
            let generation = self.catalog.groups()[&group].generation;
            self.apply(&CatalogCommand::EndMove { group, generation, done: true });
        }
        for (group, nodes) in self.catalog.leaving().clone() {
            for (node, generation) in nodes {
                let copies = vec![(group, generation)];
                self.apply(&CatalogCommand::Left { node, copies });
            }
        }
        self.now += 61_000;
    }

    /// Until nothing is left to do: in at most so many rounds.
    fn settle(&mut self, rounds: usize) -> Result<(), TestCaseError> {
        self.now += 61_000;
        for _ in 0..=rounds {
            if self.round()? == 0 {
                return Ok(());
            }
        }
        prop_assert!(false, "still something to do after {rounds} rounds");
        Ok(())
    }

    fn staying(&self) -> Vec<NodeId> {
        let brokers = self.catalog.brokers().iter();
        let staying = brokers.filter(|(_, broker)| broker.up && !broker.draining);
        staying.map(|(node, _)| *node).collect()
    }

    /// How far two brokers differ in what they carry.
    fn unevenness(&self, of: impl Fn(&Load, NodeId) -> u32) -> u32 {
        let staying = self.staying();
        let counts = staying.iter().map(|node| of(self.catalog.load(), *node));
        counts.clone().max().unwrap_or(0) - counts.min().unwrap_or(0)
    }

    fn check_rest(&self) -> Result<(), TestCaseError> {
        let staying = self.staying();
        for placement in self.catalog.groups().values() {
            let nodes: BTreeSet<_> = placement.nodes().collect();
            let least = target(placement.wanted, staying.len());
            prop_assert!((least..=placement.wanted.into()).contains(&nodes.len()));
            prop_assert!(nodes.iter().all(|node| staying.contains(node)), "{nodes:?}");
            let zones: BTreeSet<_> = nodes.iter().map(|node| node.0 % self.zones).collect();
            let all: BTreeSet<_> = staying.iter().map(|node| node.0 % self.zones).collect();
            prop_assert_eq!(zones.len(), nodes.len().min(all.len()), "{:?}", nodes);
        }
        if self.zones == 1 {
            prop_assert!(self.unevenness(|load, node| load.of(node).replicas) <= 1);
        }
        let mut restored = Catalog::default();
        restored.restore(&self.catalog.snapshot()()).unwrap();
        prop_assert_eq!(restored.load(), self.catalog.load());
        Ok(())
    }
}

fn copies() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(1_u8), Just(3), Just(3), Just(5)], 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_was_just_placed_stays_where_it_is(brokers in 1_u64..9, copies in copies()) {
        let mut cluster = Cluster::new(brokers, 1);
        cluster.put(0, &copies);
        prop_assert!(cluster.unevenness(|load, node| load.of(node).replicas) <= 1);
        cluster.settle(copies.len())?;
        prop_assert_eq!(cluster.moves, 0);
    }

    #[test]
    fn brokers_that_come_get_their_share(
        (brokers, more) in (1_u64..7, 1_u64..4),
        zones in 1_u64..4,
        copies in copies(),
    ) {
        let mut cluster = Cluster::new(brokers, zones);
        cluster.put(0, &copies);
        cluster.settle(3 * copies.len())?;
        for node in brokers + 1..=brokers + more {
            cluster.announce(node);
        }
        cluster.put(copies.len(), &copies);
        cluster.settle(5 * copies.len())?;
        cluster.check_rest()?;
    }

    #[test]
    fn one_that_comes_costs_no_more_moves_than_there_are_groups(
        brokers in 3_u64..9, groups in 1_usize..60,
    ) {
        let mut cluster = Cluster::new(brokers, 1);
        cluster.put(0, &vec![3; groups]);
        cluster.announce(brokers + 1);
        cluster.settle(groups)?;
        cluster.check_rest()?;
        prop_assert!(cluster.moves <= groups, "{} moves", cluster.moves);
        prop_assert!(cluster.unevenness(|load, node| load.of(node).preferred) <= 1);
    }

    #[test]
    fn brokers_that_go_lose_everything_and_nothing_is_lost(
        brokers in 4_u64..9,
        silent in any::<bool>(),
        copies in prop::collection::vec(Just(3_u8), 1..40),
    ) {
        let mut cluster = Cluster::new(brokers, 1);
        cluster.put(0, &copies);
        let node = NodeId(1);
        if silent {
            cluster.apply(&CatalogCommand::SetUp { node, up: false });
            cluster.round()?;
            prop_assert_eq!(cluster.moves, 0, "it may come back");
            cluster.now += 600_000;
        } else {
            cluster.apply(&CatalogCommand::SetDraining { node, on: true });
        }
        cluster.settle(3 * copies.len())?;
        prop_assert_eq!(cluster.catalog.load().of(node).replicas, 0);
        prop_assert_eq!(cluster.catalog.load().of(node).preferred, 0);
        cluster.check_rest()?;
        cluster.apply(&CatalogCommand::Forget { node });
    }

    #[test]
    fn a_damaged_copy_is_made_anew_if_need_be_on_the_same_broker(
        brokers in 3_u64..6,
        groups in 1_usize..20,
    ) {
        let mut cluster = Cluster::new(brokers, 1);
        cluster.put(0, &vec![3; groups]);
        for (group, placement) in cluster.catalog.groups().clone() {
            let node = placement.replicas[0].node;
            cluster.apply(&CatalogCommand::ReportDamaged { node, group, since: 0 });
        }
        cluster.settle(3 * groups)?;
        cluster.check_rest()?;
        let groups = cluster.catalog.groups();
        let mut copies = groups.values().flat_map(|placement| &placement.replicas);
        prop_assert!(copies.all(|copy| !copy.damaged));
    }
}
