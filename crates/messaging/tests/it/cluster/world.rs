//! Nodes, disks, network and clients under virtual time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use consensus::{
    Effect, GroupId, HardState, Heartbeat, Index, Membership, Message, Multi, MultiConfig, NodeId,
    Output, Persist, Raft, ReadId, SnapshotMeta, Term, Ticket,
};
use messaging::catalog::{CATALOG, Catalog};
use messaging::partition::Partition;
use messaging::queue::Queue;
use sim::network::Delivery;
use sim::{Events, Network, Rng};

use super::Bug;
use super::checks::Log;
use super::clients::Clients;
use super::disk::{Disk, Snapshot, Write};
use super::faults::Plan;
use super::host::{Led, Tag, Then};
use super::machine::{Machine, Reply};

pub(super) const ELECTION_MS: u64 = 200;
pub(super) const HEARTBEAT_MS: u64 = 40;
/// What clocks show when a run begins, about.
const BEGIN_MS: u64 = 1_000_000;

pub(super) type Check = Result<(), String>;

#[derive(Clone, Debug)]
pub(super) enum Wire {
    Raft(GroupId, Message),
    Beat(Heartbeat),
    /// A command of a follower for its leader, who says where it stands.
    Forward {
        group: GroupId,
        token: u64,
        payload: Bytes,
    },
    Placed {
        token: u64,
        at: Option<(Term, Index)>,
    },
    /// A command of a node without a copy for one that has one, who says what came of it.
    Call {
        group: GroupId,
        token: u64,
        payload: Bytes,
    },
    Answer {
        token: u64,
        reply: Option<Reply>,
    },
}

/// What happens to one life of a node.
#[derive(Clone, Debug)]
pub(super) enum What {
    Tick,
    Sync,
    Acked(GroupId, Ticket),
    Apply(GroupId),
    Loaded {
        group: GroupId,
        from: Index,
        through: Index,
        max_bytes: usize,
    },
    Fetched {
        group: GroupId,
        from: NodeId,
        snapshot: SnapshotMeta,
    },
    Fill {
        group: GroupId,
        ticket: Ticket,
    },
    /// The host looks who leads.
    Notice(GroupId),
    Tend(GroupId),
    Place {
        group: GroupId,
        term: Term,
        payload: Bytes,
        tag: Tag,
    },
    Reconcile,
    Plan,
    Move,
}

#[derive(Clone, Debug)]
pub(super) enum Event {
    Node { node: usize, life: u64, what: What },
    Start { node: usize },
    Client,
    Timeout(u64),
    Fault,
    Mend,
}

/// What one running process has of one group.
pub(super) struct Copy {
    pub(super) machine: Machine,
    pub(super) applied: Index,
    pub(super) commit: Index,
    pub(super) is_applying: bool,
    /// Held back until the log has what the installed snapshot's machine reads.
    pub(super) held: Option<(Ticket, Vec<Persist>)>,
    pub(super) fetched: Option<Snapshot>,
    pub(super) led: Option<Led>,
    pub(super) is_noticed: bool,
}

/// One running process.
pub(super) struct Up {
    pub(super) multi: Multi,
    pub(super) copies: BTreeMap<GroupId, Copy>,
    pub(super) reads: BTreeMap<ReadId, (GroupId, Then)>,
    pub(super) next_read: u64,
    /// Served when the machine is that far.
    pub(super) parked: Vec<(GroupId, Index, Then)>,
    pub(super) waiters: Vec<(GroupId, Term, Index, Tag)>,
    pub(super) forwards: BTreeMap<u64, (GroupId, Tag)>,
    /// Replies of late, for who hears late where its command stands.
    pub(super) recent: BTreeMap<(GroupId, Index), (Term, Reply)>,
    pub(super) seen_tokens: BTreeSet<u64>,
    pub(super) planner: Option<super::catalog::Planner>,
    pub(super) asked: BTreeMap<GroupId, (NodeId, Term, Index)>,
}

pub(super) struct Job {
    pub(super) group: GroupId,
    pub(super) ticket: Option<Ticket>,
    pub(super) write: Write,
}

pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) up: Option<Up>,
    pub(super) disks: BTreeMap<GroupId, Disk>,
    /// Of groups that were left.
    pub(super) left: BTreeMap<GroupId, HardState>,
    pub(super) wal: VecDeque<Job>,
    pub(super) life: u64,
    pub(super) paused_until: u64,
    /// Milliseconds that its clock is ahead, or behind.
    pub(super) offset: i64,
    /// How many of 1,000 it is fast.
    pub(super) skew: i64,
    pub(super) tick_at: u64,
}

/// What a run has seen, to know that it was one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) steps: u64,
    pub(super) crashes: u64,
    pub(super) lost_writes: u64,
    pub(super) cuts: u64,
    pub(super) leads: u64,
    pub(super) moves: u64,
    pub(super) installs: u64,
    pub(super) refills: u64,
    pub(super) snapshots: u64,
    pub(super) forwards: u64,
    pub(super) deposed_answers: u64,
}

pub(super) struct World {
    pub(super) bug: Bug,
    pub(super) plan: Plan,
    pub(super) rng: Rng,
    pub(super) now: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) network: Network<Wire>,
    pub(super) events: Events<Event>,
    pub(super) log: Log,
    pub(super) clients: Clients,
    pub(super) counts: Counts,
    /// No faults any more.
    pub(super) is_calm: bool,
    pub(super) next_token: u64,
    output: Output,
}

impl World {
    pub(super) fn new(seed: u64, bug: Bug) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::draw(&mut rng);
        let nodes = plan.nodes;
        let network = Network::new(nodes, plan.faults.clone(), rng.fork());
        let mut world = Self {
            bug,
            plan,
            rng,
            now: 1,
            nodes: Vec::new(),
            network,
            events: Events::default(),
            log: Log::default(),
            clients: Clients::default(),
            counts: Counts::default(),
            is_calm: false,
            next_token: 0,
            output: Output::default(),
        };
        let founders = members((1..=nodes as u64).map(NodeId));
        for id in 1..=nodes as u64 {
            let (offset, skew) = (world.plan.offset_ms, world.plan.skew);
            let around = |rng: &mut Rng, most: i64| rng.range(0..2 * most as u64 + 1) as i64 - most;
            let offset = around(&mut world.rng, offset);
            let skew = around(&mut world.rng, skew);
            world.nodes.push(Node {
                id: NodeId(id),
                up: None,
                disks: BTreeMap::from([(CATALOG, Disk::founding(&founders))]),
                left: BTreeMap::new(),
                wal: VecDeque::new(),
                life: 0,
                paused_until: 0,
                offset,
                skew,
                tick_at: u64::MAX,
            });
            world.events.add(1, Event::Start { node: id as usize - 1 });
        }
        world.events.add(500, Event::Client);
        world.events.add(2_000, Event::Fault);
        world
    }

    /// The wall clock of a node.
    pub(super) fn wall(&self, node: usize) -> u64 {
        let Node { offset, .. } = self.nodes[node];
        (self.nodes[node].local(self.now) as i64 + BEGIN_MS as i64 + offset) as u64
    }

    pub(super) fn raft(&self, node: usize, group: GroupId) -> Option<&Raft> {
        self.nodes[node].up.as_ref()?.multi.group(group)
    }

    pub(super) fn copy(&mut self, node: usize, group: GroupId) -> Option<&mut Copy> {
        self.nodes[node].up.as_mut()?.copies.get_mut(&group)
    }

    /// The catalog as this node has applied it.
    pub(super) fn catalog(&self, node: usize) -> Option<&Catalog> {
        match &self.nodes[node].up.as_ref()?.copies.get(&CATALOG)?.machine {
            Machine::Catalog(catalog) => Some(catalog),
            _ => None,
        }
    }

    pub(super) fn later(&mut self, node: usize, delay: u64, what: What) {
        let life = self.nodes[node].life;
        self.events.add(self.now + delay, Event::Node { node, life, what });
    }

    /// Lets time pass.
    pub(super) fn run_until(&mut self, end: u64) -> Check {
        loop {
            let message = self.network.next_at().unwrap_or(u64::MAX);
            let event = self.events.next_at().unwrap_or(u64::MAX);
            if end < message.min(event) {
                self.now = self.now.max(end);
                return Ok(());
            }
            self.counts.steps += 1;
            if message < event {
                let (at, delivery) = self.network.pop().expect("there is a next one");
                self.now = self.now.max(at);
                if let Some(delivery) = delivery {
                    self.deliver(delivery)?;
                }
            } else {
                let (at, event) = self.events.pop().expect("there is a next one");
                self.now = self.now.max(at);
                self.happen(event)?;
            }
        }
    }

    fn happen(&mut self, event: Event) -> Check {
        match event {
            Event::Node { node, life, what } => {
                let Node { life: current, paused_until, up, .. } = &self.nodes[node];
                if *current != life || up.is_none() {
                    return Ok(());
                }
                if self.now < *paused_until {
                    self.events.add(*paused_until, Event::Node { node, life, what });
                    return Ok(());
                }
                self.happen_to(node, what)?;
                self.settle(node)
            }
            Event::Start { node } => self.start(node),
            Event::Client => self.client(),
            Event::Timeout(op) => self.timeout(op),
            Event::Fault => self.fault(),
            Event::Mend => {
                self.network.heal();
                Ok(())
            }
        }
    }

    fn deliver(&mut self, delivery: Delivery<Wire>) -> Check {
        let Delivery { from, to, message } = delivery;
        if self.now < self.nodes[to].paused_until {
            let until = self.nodes[to].paused_until;
            self.network.send(until, from, to, message);
            return Ok(());
        }
        let local = self.nodes[to].local(self.now);
        let Some(up) = &mut self.nodes[to].up else { return Ok(()) };
        up.multi.tick(local);
        let sender = NodeId(from as u64 + 1);
        match message {
            Wire::Raft(group, message) => {
                up.multi.receive(sender, group, message);
            }
            Wire::Beat(beat) => up.multi.receive_heartbeat(sender, beat),
            other => self.hear(from, to, other)?,
        }
        self.settle(to)
    }

    fn happen_to(&mut self, node: usize, what: What) -> Check {
        let local = self.nodes[node].local(self.now);
        if matches!(what, What::Tick) {
            self.nodes[node].tick_at = u64::MAX;
        }
        self.nodes[node].up.as_mut().expect("it is up").multi.tick(local);
        match what {
            What::Tick => (),
            What::Sync => self.sync(node),
            What::Acked(group, ticket) => self.persisted(node, group, ticket),
            What::Apply(group) => return self.apply(node, group),
            What::Loaded { group, from, through, max_bytes } => {
                let disk = &self.nodes[node].disks[&group];
                let entries = disk.read(from, through, max_bytes);
                let up = self.nodes[node].up.as_mut().expect("it is up");
                if let Some(raft) = up.multi.touch(group) {
                    raft.handle_loaded(from, entries);
                }
            }
            What::Fetched { group, from, snapshot } => self.fetched(node, group, (from, &snapshot)),
            What::Fill { group, ticket } => self.fill(node, group, ticket),
            What::Notice(group) => return self.notice(node, group),
            What::Tend(group) => return self.tend(node, group),
            What::Place { group, term, payload, tag } => {
                return self.place(node, (group, term), payload, tag);
            }
            What::Reconcile => return self.reconcile(node),
            What::Plan => return self.plan(node),
            What::Move => return self.go_on(node),
        }
        Ok(())
    }

    fn apply(&mut self, node: usize, group: GroupId) -> Check {
        let most = 1 + self.rng.index(20);
        if let Some(copy) = self.copy(node, group) {
            copy.is_applying = false;
        }
        for _ in 0..most {
            let Node { up, disks, id, .. } = &mut self.nodes[node];
            let copy = up.as_mut().and_then(|up| up.copies.get_mut(&group));
            let Some(copy) = copy.filter(|copy| copy.applied < copy.commit) else { break };
            let next = copy.applied.next();
            let Some(entry) = disks.get(&group).and_then(|disk| disk.log.get(&next)).cloned()
            else {
                if self.bug == Bug::AckBeforeSync {
                    break;
                }
                return Err(format!("{id} was told that {group}/{next} is committed, lacks it"));
            };
            let reply = copy.machine.apply(&entry);
            copy.applied = next;
            self.log.observe(group, &entry, &reply, &self.clients)?;
            self.replied(node, group, &entry, reply)?;
        }
        self.unpark(node, group)?;
        if let Some(copy) = self.copy(node, group)
            && copy.applied < copy.commit
        {
            copy.is_applying = true;
            self.later(node, 2, What::Apply(group));
        }
        Ok(())
    }

    /// The process starts from what its disk holds.
    fn start(&mut self, node: usize) -> Check {
        if self.nodes[node].up.is_some() {
            return Ok(());
        }
        let epoch = self.rng.next_u64() | 1;
        let (heartbeat_ms, election_ms) = (HEARTBEAT_MS, ELECTION_MS);
        let id = self.nodes[node].id;
        let config = MultiConfig { node: id, epoch, heartbeat_ms, election_ms };
        let multi = Multi::new(config, self.nodes[node].local(self.now));
        let at = &mut self.nodes[node];
        at.life += 1;
        at.tick_at = u64::MAX;
        at.paused_until = 0;
        at.up = Some(Up {
            multi,
            copies: BTreeMap::new(),
            reads: BTreeMap::new(),
            next_read: 0,
            parked: Vec::new(),
            waiters: Vec::new(),
            forwards: BTreeMap::new(),
            recent: BTreeMap::new(),
            seen_tokens: BTreeSet::new(),
            planner: None,
            asked: BTreeMap::new(),
        });
        self.load(node, CATALOG, Machine::Catalog(Catalog::default()), None);
        for what in [What::Reconcile, What::Plan, What::Move] {
            let delay = self.rng.range(10..60);
            self.later(node, delay, what);
        }
        self.settle(node)
    }

    /// What the last input leads to.
    pub(super) fn settle(&mut self, node: usize) -> Check {
        let mut output = std::mem::take(&mut self.output);
        let Some(up) = &mut self.nodes[node].up else { return Ok(()) };
        up.multi.flush(&mut output);
        for (to, beat) in output.heartbeats.drain(..) {
            self.network.send(self.now, node, to.0 as usize - 1, Wire::Beat(beat));
        }
        for change in output.effects.drain(..) {
            self.carry_out(node, change.group, change.effect)?;
        }
        self.output = output;
        self.tick_later(node);
        Ok(())
    }

    fn carry_out(&mut self, node: usize, group: GroupId, effect: Effect) -> Check {
        match effect {
            Effect::Persist(persist) => {
                let Some(copy) = self.copy(node, group) else { return Ok(()) };
                match &mut copy.held {
                    Some((_, waiting)) => waiting.push(persist),
                    None => {
                        let ticket = persist.ticket;
                        self.submit(node, group, (Some(ticket), Write::Persist(persist)));
                    }
                }
            }
            Effect::Install { ticket, .. } => self.install(node, group, ticket),
            Effect::Send { to, message } => {
                self.network.send(self.now, node, to.0 as usize - 1, Wire::Raft(group, message));
            }
            Effect::Commit { through } => {
                let most = if self.is_calm { 1 } else { self.plan.apply_ms };
                let delay = self.rng.range(0..most + 1);
                let Some(copy) = self.copy(node, group) else { return Ok(()) };
                copy.commit = copy.commit.max(through);
                if !std::mem::replace(&mut copy.is_applying, true) {
                    self.later(node, delay, What::Apply(group));
                }
            }
            Effect::ReadReady { reads, index } => return self.reads_ready(node, &reads, index),
            Effect::ReadFailed { reads } => return self.reads_failed(node, &reads),
            Effect::Load { from, through, max_bytes } => {
                let delay = self.rng.range(0..5);
                self.later(node, delay, What::Loaded { group, from, through, max_bytes });
            }
            Effect::Fetch { from, snapshot } => {
                let delay = self.rng.range(1..if self.is_calm { 20 } else { 2 * ELECTION_MS });
                self.later(node, delay, What::Fetched { group, from, snapshot });
            }
            Effect::Leader { .. } => self.notice_later(node, group),
            Effect::Membership { .. } => (),
            Effect::Poison { reason } => {
                return Err(format!("{group} is poisoned on {}: {reason}", self.nodes[node].id));
            }
        }
        Ok(())
    }

    fn tick_later(&mut self, node: usize) {
        let now = self.now;
        let state = &mut self.nodes[node];
        let Some(local) = state.up.as_ref().and_then(|up| up.multi.deadline_ms()) else { return };
        let at = state.global(local).max(now + 1);
        if at < state.tick_at {
            state.tick_at = at;
            self.later(node, at - now, What::Tick);
        }
    }
}

impl Up {
    pub(super) fn next_read(&mut self, group: GroupId, then: Then) -> ReadId {
        self.next_read += 1;
        let id = ReadId(self.next_read);
        self.reads.insert(id, (group, then));
        id
    }
}

impl Node {
    /// This node's clock, as it measures time.
    pub(super) fn local(&self, now: u64) -> u64 {
        (now as i64 + now as i64 * self.skew / 1_000) as u64
    }

    /// When this node's clock will show `local`.
    fn global(&self, local: u64) -> u64 {
        let at = (local as i64 * 1_000 / (1_000 + self.skew)) as u64;
        if self.local(at) < local { at + 1 } else { at }
    }
}

pub(super) fn members(nodes: impl IntoIterator<Item = NodeId>) -> Membership {
    Membership::of(nodes.into_iter().map(|node| (node, Bytes::new())))
}

/// An empty machine for what lives in a group.
pub(super) fn machine_for(kind: &messaging::catalog::Kind) -> Machine {
    match kind {
        messaging::catalog::Kind::Partition { .. } => Machine::Partition(Partition::new()),
        messaging::catalog::Kind::Queue { .. } => Machine::Queue(Queue::new()),
        messaging::catalog::Kind::Streams { .. } => unreachable!("nobody makes one here"),
    }
}
