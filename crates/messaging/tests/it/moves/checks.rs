//! What must be true at any moment, and what when everything has come to rest.

use consensus::{GroupId, NodeId};
use messaging::catalog::{COMEBACK_MS, Catalog};
use messaging::placement::target;

use super::world::{Outcome, World};

impl World {
    /// What was committed is on the disks of a majority of those who vote.
    pub(super) fn check(&self) -> Outcome {
        for (group, toy) in &self.groups {
            if !self.catalog.groups().contains_key(group) || toy.term == 0 {
                continue;
            }
            let has = |node: &NodeId| self.nodes[node].copies.get(group).copied();
            let voters = &toy.members.voters;
            let whole = voters.iter().filter(|node| Some(toy.commit) <= has(node)).count();
            if 2 * whole <= voters.len() {
                return Err(format!(
                    "group {group}: {whole} of {voters:?} have what was committed"
                ));
            }
        }
        Ok(())
    }

    /// What is kept up with every change is what follows from the state.
    pub(super) fn check_counts(&self) -> Outcome {
        let mut restored = Catalog::default();
        restored.restore(&self.catalog.snapshot()()).unwrap();
        if restored != self.catalog
            || restored.load() != self.catalog.load()
            || restored.moving() != self.catalog.moving()
        {
            return Err("the counts do not follow from the state".to_owned());
        }
        for (group, placement) in self.catalog.groups() {
            let leaving = self.catalog.leaving().get(group);
            let both = placement.planned().chain(placement.nodes());
            let mut both = both.filter(|node| leaving.is_some_and(|l| l.contains_key(node)));
            if let Some(node) = both.next() {
                return Err(format!("group {group} is to be kept and to be removed by {node}"));
            }
            if placement.replica(placement.preferred).is_none() {
                return Err(format!("group {group} should be led by who has no copy"));
            }
        }
        Ok(())
    }

    /// Everything heals. Then every group is where the catalog says, and nowhere else.
    pub(super) fn heal(&mut self) -> Outcome {
        for _ in 0..150 {
            self.now += 20_000;
            self.round()?;
            let moving = !self.catalog.moving().is_empty() || !self.catalog.leaving().is_empty();
            if !moving && self.pending.is_empty() && self.is_at_rest() {
                return self.check_rest();
            }
        }
        let moving = self.catalog.moving().iter().map(|group| {
            let placement = self.catalog.groups().get(group);
            format!("{group}: {placement:?} {:?}", self.groups.get(group))
        });
        let moving: Vec<_> = moving.collect();
        Err(format!("no rest: {moving:#?}, leaving {:?}", self.catalog.leaving()))
    }

    /// Nothing is left to do, and nothing that only waits.
    fn is_at_rest(&mut self) -> bool {
        self.now += COMEBACK_MS;
        self.plan();
        self.pending.is_empty()
    }

    fn round(&mut self) -> Outcome {
        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        let groups: Vec<GroupId> = self.groups.keys().copied().collect();
        while let Some(command) = self.pending.pop() {
            let _ = self.apply(command);
        }
        for node in &nodes {
            if !std::mem::replace(&mut self.nodes.get_mut(node).unwrap().up, true) {
                self.announce(*node);
            }
            self.sync(*node);
            self.reconcile(*node)?;
        }
        for group in groups {
            let toy = &self.groups[&group];
            if toy.leader.is_none_or(|leader| !self.nodes[&leader].copies.contains_key(&group)) {
                self.elect(group);
            }
            for _ in 0..4 {
                self.commit(group);
                self.catch_up(group);
            }
            for node in &nodes {
                (0..3).for_each(|_| self.go_on(*node, group));
            }
        }
        self.plan();
        self.check()?;
        self.check_counts()
    }

    fn check_rest(&self) -> Outcome {
        for (group, placement) in self.catalog.groups() {
            let placed: Vec<NodeId> = placement.nodes().collect();
            let mut sorted = placed.clone();
            sorted.sort();
            let voters: Vec<_> = self.groups[group].members.voters.iter().copied().collect();
            let learners = &self.groups[group].members.learners;
            let there = self.nodes.iter().filter(|(_, node)| node.copies.contains_key(group));
            let there: Vec<NodeId> = there.map(|(id, _)| *id).collect();
            if sorted != voters || sorted != there || !learners.is_empty() {
                return Err(format!(
                    "group {group}: placed on {sorted:?}, voted by {voters:?}, kept by {there:?}"
                ));
            }
            let takes = self.catalog.brokers().values().filter(|broker| !broker.draining).count();
            let least = target(placement.wanted, takes);
            if !(least..=usize::from(placement.wanted)).contains(&placed.len()) {
                return Err(format!("group {group} has {} copies", placed.len()));
            }
        }
        let groups = self.catalog.groups();
        let mut copies = self
            .nodes
            .iter()
            .flat_map(|(id, node)| node.copies.keys().map(move |group| (id, group)));
        match copies.find(|(_, group)| !groups.contains_key(*group)) {
            Some((node, group)) => Err(format!("node {node} keeps deleted group {group}")),
            None => Ok(()),
        }
    }
}
