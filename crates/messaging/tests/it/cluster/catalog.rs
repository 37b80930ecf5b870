//! What brokers do about the catalog: start and remove copies, plan, and carry moves out.

use std::collections::BTreeMap;

use bytes::Bytes;
use consensus::{Change, GroupId, NodeId, RoleName, Term};
use messaging::catalog::{Announced, CATALOG, CatalogCommand, Duty, Kind, Placement};
use messaging::frame::{self, Records};
use messaging::placement::{GroupView, PlanLimits, Seen, Step, plan, step};

use super::disk::Disk;
use super::host::{Tag, Then};
use super::world::{Check, What, World, machine_for, members};

const LIMITS: PlanLimits = PlanLimits {
    moves: 8,
    moves_per_broker: 2,
    preferred: 16,
    replace_after_ms: 4_000,
    cancel_after_ms: 3_000,
    settle_ms: 1_000,
};
/// Who was not heard for so long is down.
const SILENCE_MS: u64 = 1_000;

/// What the catalog's leader remembers in one term.
pub(super) struct Planner {
    term: Term,
    since_ms: u64,
    heard: BTreeMap<NodeId, u64>,
}

impl World {
    fn tell(&mut self, node: usize, command: &CatalogCommand) -> Check {
        let payload = frame::encode(self.wall(node), command, &Records::default());
        self.propose(node, CATALOG, payload, Tag::Nobody)
    }

    /// Copies are started and removed as the catalog says.
    pub(super) fn reconcile(&mut self, node: usize) -> Check {
        let delay = self.rng.range(50..300);
        self.later(node, delay, What::Reconcile);
        let id = self.nodes[node].id;
        let Some(catalog) = self.catalog(node).cloned() else { return Ok(()) };
        if !catalog.brokers().contains_key(&id) {
            let announced = Announced {
                name: format!("b{id}"),
                client_url: format!("http://b{id}"),
                peer_url: format!("http://p{id}"),
                zone: String::new(),
                version: 1,
            };
            return self.tell(node, &CatalogCommand::Announce { node: id, announced });
        }
        for (group, placement) in catalog.groups() {
            if let Kind::Queue { name } = &placement.kind {
                match name.as_str() {
                    "dead" => self.log.dead = Some(*group),
                    "small" => self.log.small = Some(*group),
                    _ => (),
                }
            }
            let leaving = catalog.leaving().get(group).is_some_and(|all| all.contains_key(&id));
            let runs = self.nodes[node].up.as_ref().is_some_and(|up| up.copies.contains_key(group));
            if let Some(duty) = placement.duty(id).filter(|_| !leaving && !runs) {
                self.begin(node, *group, (placement, duty));
            }
        }
        let leaving = catalog.leaving().iter();
        let mine = leaving.filter_map(|(group, all)| Some((*group, *all.get(&id)?)));
        let copies: Vec<(GroupId, u64)> = mine.collect();
        let running = self.nodes[node].up.iter().flat_map(|up| up.copies.keys().copied());
        let stray = running.filter(|group| *group != CATALOG && catalog.has_no_copy(*group, id));
        let gone: Vec<GroupId> = stray.chain(copies.iter().map(|(group, _)| *group)).collect();
        for group in &gone {
            self.end(node, *group);
            let at = &mut self.nodes[node];
            if let Some(disk) = at.disks.remove(group) {
                at.left.insert(*group, disk.left());
            }
        }
        match copies.is_empty() {
            true => Ok(()),
            false => self.tell(node, &CatalogCommand::Left { node: id, copies }),
        }
    }

    fn begin(&mut self, node: usize, group: GroupId, (placement, duty): (&Placement, Duty)) {
        let at = &mut self.nodes[node];
        let is_new = !at.disks.contains_key(&group);
        if is_new {
            // A catalog that is read anew may be older than what was done by it.
            let disk = match (duty, at.left.get(&group).copied()) {
                (_, Some(hard_state)) => Disk { hard_state, ..Disk::default() },
                (Duty::Found, None) => Disk::founding(&members(placement.founders.iter().copied())),
                (Duty::Join, None) => Disk::default(),
            };
            at.disks.insert(group, disk);
        }
        let first = (is_new && duty == Duty::Found).then_some(placement.preferred == at.id);
        self.load(node, group, machine_for(&placement.kind), first);
    }

    /// The catalog's leader says who is up, and what is to move.
    pub(super) fn plan(&mut self, node: usize) -> Check {
        self.later(node, 300, What::Plan);
        let (now, wall) = (self.now, self.wall(node));
        let Some(term) = self.led(node, CATALOG) else { return Ok(()) };
        let Some(catalog) = self.catalog(node).cloned() else { return Ok(()) };
        let status = self.raft(node, CATALOG).expect("it leads").status();
        let at = &mut self.nodes[node];
        let (me, up) = (at.id, at.up.as_mut().expect("it is up"));
        let planner = up.planner.take().filter(|planner| planner.term == term);
        let new = || Planner { term, since_ms: wall, heard: BTreeMap::new() };
        let mut planner = planner.unwrap_or_else(new);
        let mut commands = Vec::new();
        for (id, broker) in catalog.brokers() {
            let peer = status.peers.iter().find(|peer| peer.node == *id);
            let hears = *id == me || peer.is_some_and(|peer| peer.reachable);
            let heard = planner.heard.entry(*id).or_insert(now);
            if hears {
                *heard = now;
            }
            let up = now - *heard < SILENCE_MS;
            if up != broker.up && (hears || !up) {
                commands.push(CatalogCommand::SetUp { node: *id, up });
            }
        }
        let seen = Seen { now_ms: wall, leading_since_ms: planner.since_ms };
        commands.extend(plan(&catalog, &seen, LIMITS));
        up.planner = Some(planner);
        for command in commands {
            let payload = frame::encode(wall, &command, &Records::default());
            self.place(node, (CATALOG, term), payload, Tag::Nobody)?;
        }
        Ok(())
    }

    /// The groups that this node leads are looked at; what is to be done about them the catalog
    /// says behind a barrier.
    pub(super) fn go_on(&mut self, node: usize) -> Check {
        let delay = self.rng.range(50..150);
        self.later(node, delay, What::Move);
        let Some(catalog) = self.catalog(node).cloned() else { return Ok(()) };
        let me = self.nodes[node].id;
        for (group, placement) in catalog.groups() {
            let Some(term) = self.led(node, *group) else { continue };
            let rests = placement.move_.is_none() && placement.preferred == me;
            if rests && !self.rng.chance(1, 10) {
                continue;
            }
            let status = self.raft(node, *group).expect("it leads").status();
            if status.role != RoleName::Leader || status.term != term {
                continue;
            }
            let draining = catalog.brokers().get(&me).is_some_and(|broker| broker.draining);
            let now = self.now;
            let up = self.nodes[node].up.as_mut().expect("it leads");
            let since = up.copies[group].led.map_or(now, |led| led.since);
            let membership = &status.membership;
            let asked = match membership.learners.iter().next() {
                None => status.commit,
                Some(learner) => {
                    let known = up.asked.get(group).filter(|at| (at.0, at.1) == (*learner, term));
                    let asked = known.map_or(status.commit, |(.., commit)| *commit);
                    up.asked.insert(*group, (*learner, term, asked));
                    asked
                }
            };
            let peers = status.peers.iter();
            let view = GroupView {
                voters: membership.voters.iter().copied().collect(),
                learners: membership.learners.iter().copied().collect(),
                settled: !membership.is_joint() && status.membership_index <= status.commit,
                commit: status.commit,
                asked,
                matched: peers.map(|peer| (peer.node, (peer.matched, peer.reachable))).collect(),
                term_age_ms: if draining { u64::MAX } else { (now - since) * 20 },
            };
            let judge = Then::Judge { group: *group, term, view: Box::new(view) };
            self.read(node, CATALOG, judge);
        }
        Ok(())
    }

    pub(super) fn judge(
        &mut self,
        node: usize,
        (group, term): (GroupId, Term),
        view: &GroupView,
    ) -> Check {
        let me = self.nodes[node].id;
        let placement =
            self.catalog(node).and_then(|catalog| catalog.groups().get(&group)).cloned();
        let Some(placement) = placement else { return Ok(()) };
        let changes = match step(&placement, me, view) {
            Step::Wait => return Ok(()),
            Step::AddLearner(node) => vec![Change::AddLearner { node, info: Bytes::new() }],
            Step::Finish { promote, remove } => {
                let promote = promote.map(|node| Change::Promote { node });
                promote.into_iter().chain(remove.map(|node| Change::Remove { node })).collect()
            }
            Step::Transfer(to) => {
                let up = self.nodes[node].up.as_mut().expect("it reads");
                if let Some(raft) = up.multi.touch(group) {
                    let _ = raft.transfer(to);
                }
                return Ok(());
            }
            Step::End { done } => {
                let generation = placement.generation;
                let command = CatalogCommand::EndMove { group, generation, done };
                self.read(node, group, Then::End { term, command: Box::new(command) });
                return Ok(());
            }
        };
        if self.leads(node, group) != Some(term) {
            return Ok(());
        }
        let up = self.nodes[node].up.as_mut().expect("it leads");
        let raft = up.multi.touch(group).expect("it leads");
        self.counts.moves += u64::from(raft.change(&changes).is_ok());
        Ok(())
    }
}
