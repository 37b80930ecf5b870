//! Nodes with copies of groups, a catalog that they follow, and everything that comes between.

use std::collections::{BTreeMap, BTreeSet};

use consensus::{GroupId, Index, NodeId};
use messaging::catalog::{Announced, Catalog, CatalogCommand, CatalogReply, Copies, Duty};
use messaging::config::QueueConfig;
use messaging::frame::{Records, encode};
use messaging::placement::{GroupView, PlanLimits, Seen, Step, plan, step};
use sim::Rng;

use super::Bug;
use super::toy::{Members, Toy};

pub(super) const LIMITS: PlanLimits = PlanLimits {
    moves: 8,
    moves_per_broker: 2,
    preferred: 16,
    replace_after_ms: 8_000,
    cancel_after_ms: 4_000,
    settle_ms: 1_000,
};

pub(super) type Outcome = Result<(), String>;

#[derive(Default)]
pub(super) struct Node {
    pub(super) up: bool,
    /// The catalog as it has applied it so far.
    pub(super) seen: Catalog,
    /// Its disk: what it has of each group.
    pub(super) copies: BTreeMap<GroupId, u64>,
    /// Groups of which it had a copy once.
    had: BTreeSet<GroupId>,
    movers: BTreeMap<GroupId, Mover>,
    /// Said to be removed; only a planted bug says so before it is true.
    promised: BTreeSet<GroupId>,
}

/// How far a group's leader is in judging its members.
#[derive(Clone)]
struct Mover {
    term: u64,
    view: GroupView,
    decided: Option<(u64, Step)>,
}

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) bug: Bug,
    pub(super) now: u64,
    pub(super) catalog: Catalog,
    /// Proposals under way.
    pub(super) pending: Vec<CatalogCommand>,
    /// Proposals that have arrived, and may do so again.
    delivered: Vec<CatalogCommand>,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) groups: BTreeMap<GroupId, Toy>,
    pub(super) moved: u64,
}

impl World {
    pub(super) fn new(seed: u64, bug: Bug) -> Self {
        Self {
            rng: Rng::new(seed),
            bug,
            now: 1_000_000,
            catalog: Catalog::default(),
            pending: Vec::new(),
            delivered: Vec::new(),
            nodes: BTreeMap::new(),
            groups: BTreeMap::new(),
            moved: 0,
        }
    }

    pub(super) fn announce(&mut self, node: NodeId) {
        self.nodes.entry(node).or_default().up = true;
        let announced = Announced {
            name: format!("b{node}"),
            client_url: format!("http://b{node}"),
            peer_url: format!("http://p{node}"),
            zone: String::new(),
            version: 1,
        };
        self.apply(CatalogCommand::Announce { node, announced }).unwrap();
    }

    /// One entry of the catalog's log.
    pub(super) fn apply(&mut self, mut command: CatalogCommand) -> CatalogReply {
        match &mut command {
            CatalogCommand::EndMove { group, generation, .. }
            | CatalogCommand::CancelMove { group, generation }
                if self.bug == Bug::AnyGeneration =>
            {
                let placement = self.catalog.groups().get(group);
                *generation = placement.map_or(*generation, |placement| placement.generation);
            }
            _ => (),
        }
        let reply = self.catalog.apply(&encode(self.now, &command, &Records::default()));
        if let CatalogCommand::CancelMove { group, generation } = command
            && self.bug == Bug::HastyCancel
        {
            let generation = generation + 1;
            self.pending.push(CatalogCommand::EndMove { group, generation, done: false });
        }
        reply
    }

    /// A proposal arrives or is lost, or one that came long ago comes again.
    pub(super) fn deliver(&mut self) {
        let again = self.rng.chance(1, 4);
        let from = if again { &mut self.delivered } else { &mut self.pending };
        if from.is_empty() {
            return;
        }
        let at = self.rng.index(from.len());
        let command = from.swap_remove(at);
        if !self.rng.chance(1, 6) {
            self.delivered.push(command.clone());
            let _ = self.apply(command);
        }
    }

    pub(super) fn plan(&mut self) {
        let seen = Seen { now_ms: self.now, leading_since_ms: 0 };
        let commands = plan(&self.catalog, &seen, LIMITS);
        self.pending.extend(commands);
    }

    pub(super) fn put(&mut self, name: u64, copies: u8) {
        let name = format!("q{name}").parse().unwrap();
        let copies = Copies { asked: Some(copies), default: 3 };
        let config = QueueConfig::default();
        let _ = self.apply(CatalogCommand::PutQueue { name, config, copies });
    }

    /// What a node does about what it has seen of the catalog.
    pub(super) fn reconcile(&mut self, id: NodeId) -> Outcome {
        let bug = self.bug;
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.up) else { return Ok(()) };
        let seen = node.seen.clone();
        for (group, placement) in seen.groups() {
            let Some(mut duty) = placement.duty(id) else { continue };
            if bug == Bug::FoundAgain && placement.founders.contains(&id) {
                duty = Duty::Found;
            }
            if node.copies.contains_key(group) {
                continue;
            }
            if duty == Duty::Found && node.had.contains(group) {
                return Err(format!("node {id} founds group {group} a second time"));
            }
            let founders = &placement.founders;
            self.groups.entry(*group).or_insert_with(|| Toy::founded(founders));
            node.copies.insert(*group, u64::from(duty == Duty::Found));
            node.had.insert(*group);
        }
        if bug == Bug::NoEvidence {
            let unknown = |group: &GroupId| {
                seen.groups().get(group).is_none_or(|placement| placement.duty(id).is_none())
            };
            node.copies.retain(|group, _| !unknown(group));
        }
        if bug == Bug::RemovesEarly {
            let goes = |group: &GroupId| {
                let moving = seen.groups().get(group).and_then(|placement| placement.move_);
                moving.is_some_and(|moving| moving.remove == Some(id))
            };
            node.copies.retain(|group, _| !goes(group));
        }
        let told = seen.leaving().iter();
        let told = told.filter_map(|(group, nodes)| Some((*group, *nodes.get(&id)?)));
        for (group, generation) in told.collect::<Vec<_>>() {
            let copies = vec![(group, generation)];
            if bug == Bug::LeftFirst && node.promised.insert(group) {
                self.pending.push(CatalogCommand::Left { node: id, copies });
                continue;
            }
            node.movers.remove(&group);
            node.copies.remove(&group);
            self.pending.push(CatalogCommand::Left { node: id, copies });
        }
        Ok(())
    }

    pub(super) fn sync(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id).filter(|node| node.up) {
            node.seen = self.catalog.clone();
        }
    }

    /// The process dies; its disk stays. It reads its catalog anew.
    pub(super) fn crash(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.up = false;
        node.seen = Catalog::default();
        node.movers.clear();
        node.promised.clear();
    }

    /// Who can answer for this group.
    fn present(&self, group: GroupId) -> BTreeSet<NodeId> {
        let up = self.nodes.iter().filter(|(_, node)| node.up);
        up.filter(|(_, node)| node.copies.contains_key(&group)).map(|(id, _)| *id).collect()
    }

    pub(super) fn elect(&mut self, group: GroupId) {
        let present = self.present(group);
        let keeps = self.rng.chance(1, 2);
        let Some(toy) = self.groups.get_mut(&group) else { return };
        let nodes = &self.nodes;
        let able = toy.members.voters.iter().copied().filter(|node| present.contains(node));
        let able: Vec<_> = able.filter(|node| toy.commit <= nodes[node].copies[&group]).collect();
        let Some(leader) = self.rng.pick(&able) else { return };
        if !toy.decides(&present) {
            return;
        }
        toy.leader = Some(*leader);
        toy.term += 1;
        toy.matched.clear();
        toy.asked = None;
        if !keeps {
            toy.next = None;
        }
    }

    /// A write, and with it the membership that was logged before, reaches a majority.
    pub(super) fn commit(&mut self, group: GroupId) {
        let mut present: Vec<_> = self.present(group).into_iter().collect();
        self.rng.shuffle(&mut present);
        let Some(toy) = self.groups.get_mut(&group) else { return };
        let Some(leader) = toy.leader.filter(|leader| present.contains(leader)) else { return };
        let mut acked = BTreeSet::from([leader]);
        for node in present.into_iter().filter(|node| toy.contains(*node)) {
            if !toy.decides(&acked) {
                acked.insert(node);
            }
        }
        if !toy.decides(&acked) {
            return;
        }
        toy.commit += 1;
        for node in acked {
            self.nodes.get_mut(&node).unwrap().copies.insert(group, toy.commit);
            toy.matched.insert(node, toy.commit);
        }
        if let Some(next) = toy.next.take() {
            toy.members = next;
            self.moved += 1;
            if !toy.members.voters.contains(&leader) {
                toy.leader = None;
            }
        }
    }

    pub(super) fn catch_up(&mut self, group: GroupId) {
        let present = self.present(group);
        let Some(toy) = self.groups.get_mut(&group) else { return };
        if toy.leader.is_none_or(|leader| !present.contains(&leader)) {
            return;
        }
        for node in present {
            if toy.contains(node) && self.rng.chance(2, 3) {
                self.nodes.get_mut(&node).unwrap().copies.insert(group, toy.commit);
                toy.matched.insert(node, toy.commit);
            }
        }
    }

    /// The mover of a group's leader goes on by one of its three moves: look, decide, act.
    pub(super) fn go_on(&mut self, id: NodeId, group: GroupId) {
        let Some(node) = self.nodes.get(&id).filter(|node| node.up) else { return };
        if !node.copies.contains_key(&group) {
            return;
        }
        match node.movers.get(&group).cloned() {
            None => self.look(id, group),
            Some(Mover { decided: None, term, view }) => {
                let node = self.nodes.get_mut(&id).unwrap();
                let placement = self.catalog.groups().get(&group);
                let decided = placement.map(|p| (p.generation, step(p, id, &view)));
                match decided {
                    None | Some((_, Step::Wait)) => node.movers.remove(&group),
                    decided => node.movers.insert(group, Mover { term, view, decided }),
                };
            }
            Some(Mover { decided: Some((generation, step)), term, .. }) => {
                self.nodes.get_mut(&id).unwrap().movers.remove(&group);
                self.act(id, (group, term, generation), step);
            }
        }
    }

    fn look(&mut self, id: NodeId, group: GroupId) {
        let present = self.present(group);
        let Some(toy) = self.groups.get_mut(&group) else { return };
        if toy.leader != Some(id) {
            return;
        }
        let learner = toy.newest().learners.iter().next().copied();
        if toy.asked.map(|(node, _)| node) != learner {
            toy.asked = learner.map(|node| (node, toy.commit));
        }
        let heard = |node: &NodeId| present.contains(node);
        let matched = toy.matched.iter().map(|(node, has)| (*node, (Index(*has), heard(node))));
        let Members { voters, learners } = toy.newest().clone();
        let view = GroupView {
            voters,
            learners,
            settled: toy.next.is_none(),
            commit: Index(toy.commit),
            asked: Index(toy.asked.map_or(toy.commit, |(_, commit)| commit)),
            matched: matched.collect(),
            term_age_ms: u64::MAX,
        };
        let mover = Mover { term: toy.term, view, decided: None };
        self.nodes.get_mut(&id).unwrap().movers.insert(group, mover);
    }

    fn act(&mut self, id: NodeId, (group, term, generation): (GroupId, u64, u64), step: Step) {
        let Some(toy) = self.groups.get_mut(&group) else { return };
        let leads = toy.is_led_by(id, term);
        let members = toy.members.clone();
        let next = match step {
            Step::AddLearner(node) => {
                let mut members = members;
                members.learners.insert(node);
                Some(members)
            }
            Step::Finish { promote, remove } => Some(members.change(promote, remove)),
            Step::End { done } if leads => {
                let done = done || self.bug == Bug::SaysDone;
                self.pending.push(CatalogCommand::EndMove { group, generation, done });
                None
            }
            Step::Transfer(node) if leads => {
                (toy.leader, toy.term) = (Some(node), toy.term + 1);
                toy.matched.clear();
                None
            }
            Step::End { .. } | Step::Transfer(_) | Step::Wait => None,
        };
        let Some(next) = next else { return };
        if leads && toy.next.is_none() {
            toy.next = Some(next);
        }
        if self.bug == Bug::EndsEarly && matches!(step, Step::Finish { .. }) {
            self.pending.push(CatalogCommand::EndMove { group, generation, done: true });
        }
    }
}
