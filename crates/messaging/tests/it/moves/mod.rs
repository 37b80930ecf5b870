//! Groups that move while nodes crash, leaders change, and proposals are lost, late or doubled.
//!
//! A toy Raft stands for the real one: it knows who votes and who has what, and commits by
//! majorities. Catalog, plan and step are the real ones. Every run is a function of its seed.
//! Each planted bug is a rule that whoever carries moves out could forget; the checks must find
//! every one of them.

mod checks;
mod toy;
mod world;

use consensus::{GroupId, NodeId};
use messaging::catalog::CatalogCommand;

use world::{Outcome, World};

const NODES: u64 = 4;
const QUEUES: u64 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// A node removes what its catalog does not tell it to have.
    NoEvidence,
    /// A node says that it has removed a copy, and then removes it.
    LeftFirst,
    /// A node removes a copy when a move begins that will remove it.
    RemovesEarly,
    /// A move that was undone is said to be done.
    SaysDone,
    /// A move is ended as soon as its change is logged.
    EndsEarly,
    /// The end of one move is taken for that of the next.
    AnyGeneration,
    /// A cancelled move is taken for undone.
    HastyCancel,
    /// A founder that comes back founds once more.
    FoundAgain,
}

impl World {
    fn chaos(&mut self) -> Outcome {
        self.now += if self.rng.chance(1, 200) { 30_000 } else { self.rng.range(0..100) };
        let id = NodeId(self.rng.range(1..NODES + 1));
        let groups: Vec<GroupId> = self.groups.keys().copied().collect();
        let group = self.rng.pick(&groups).copied().unwrap_or(GroupId(0));
        match self.rng.range(0..40) {
            0 => self.put_or_delete(),
            1 => self.crash(id),
            2 => self.tell(id),
            3 => self.drain(id),
            4..6 => self.come(id),
            6..9 => self.plan(),
            9..15 => self.deliver(),
            15..20 => self.sync(id),
            20..25 => self.reconcile(id)?,
            25 => self.elect(group),
            26..29 if self.groups.get(&group).is_some_and(|toy| toy.leader.is_none()) => {
                self.elect(group);
            }
            26..29 => self.commit(group),
            29..32 => self.catch_up(group),
            _ => {
                let leader = self.groups.get(&group).and_then(|toy| toy.leader);
                let id = if self.rng.chance(1, 3) { id } else { leader.unwrap_or(id) };
                self.go_on(id, group);
            }
        }
        self.check()
    }

    fn put_or_delete(&mut self) {
        let name = self.rng.range(0..QUEUES);
        if self.rng.chance(1, 5) {
            let name = format!("q{name}").parse().unwrap();
            let _ = self.apply(CatalogCommand::DeleteQueue { name });
        } else {
            let copies = if self.rng.chance(1, 2) { 1 } else { 3 };
            self.put(name, copies);
        }
    }

    fn come(&mut self, id: NodeId) {
        if self.nodes.get(&id).is_none_or(|node| !node.up) {
            self.announce(id);
        }
    }

    /// The catalog is told who is heard.
    fn tell(&mut self, node: NodeId) {
        if let Some(up) = self.nodes.get(&node).map(|node| node.up) {
            let _ = self.apply(CatalogCommand::SetUp { node, up });
        }
    }

    /// At most one is emptied at a time.
    fn drain(&mut self, node: NodeId) {
        for (other, broker) in self.catalog.brokers().clone() {
            if broker.draining {
                let _ = self.apply(CatalogCommand::SetDraining { node: other, on: false });
            }
        }
        if self.rng.chance(2, 3) {
            let _ = self.apply(CatalogCommand::SetDraining { node, on: true });
        }
    }
}

/// How many changes of members there were.
fn run(seed: u64, bug: Bug) -> Result<u64, String> {
    let mut world = World::new(seed, bug);
    (1..=3).for_each(|node| world.announce(NodeId(node)));
    (0..3).for_each(|name| world.put(name, 1 + 2 * u8::from(name == 0)));
    for step in 0..1_500 {
        let checked = if step % 100 == 0 { world.check_counts() } else { Ok(()) };
        let checked = checked.and_then(|()| world.chaos());
        checked.map_err(|violation| format!("seed {seed}, step {step}: {violation}"))?;
    }
    world.heal().map_err(|violation| format!("seed {seed}, healing: {violation}"))?;
    Ok(world.moved)
}

#[test]
fn every_group_ends_where_it_should_and_nothing_is_lost_on_the_way() {
    let mut moved = 0;
    for seed in sim::seeds(60) {
        moved += run(seed, Bug::None).unwrap_or_else(|violation| panic!("{violation}"));
    }
    assert!(0 < moved, "nothing ever moved");
}

#[test]
fn every_planted_bug_is_found() {
    for bug in [
        Bug::NoEvidence,
        Bug::LeftFirst,
        Bug::RemovesEarly,
        Bug::SaysDone,
        Bug::EndsEarly,
        Bug::AnyGeneration,
        Bug::HastyCancel,
        Bug::FoundAgain,
    ] {
        let found = (0..100).find(|seed| run(*seed, bug).is_err());
        assert!(found.is_some(), "{bug:?} was not found in 100 seeds");
    }
}
