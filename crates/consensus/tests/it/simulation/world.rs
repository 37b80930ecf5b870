//! Nodes, disks, network and clients under virtual time.

use consensus::{
    Config, GroupId, Heartbeat, Index, Message, Multi, MultiConfig, NodeId, Output, Raft, Restored,
    RoleName, SnapshotMeta, Ticket,
};
use sim::network::Delivery;
use sim::{Events, Network, Rng};

use super::clients::{Clients, Op};
use super::plan::Plan;
use crate::cluster::{Command, Oracle, REGISTERS, Store, Wish, founders, mix};

pub(crate) const GROUP: GroupId = GroupId(1);
pub(crate) const ELECTION_MS: u64 = 200;
pub(crate) const HEARTBEAT_MS: u64 = 40;
/// Founders and those who come later.
pub(crate) const MAX_NODES: usize = 16;

pub(crate) type Check = Result<(), String>;

#[derive(Clone, Debug)]
pub(crate) enum Wire {
    Raft(Message),
    Beat(Heartbeat),
}

/// What happens to one life of a node.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Tick,
    Sync,
    Acked(Ticket),
    Apply,
    Loaded { from: Index, through: Index, max_bytes: usize },
    Fetched { from: NodeId, snapshot: SnapshotMeta },
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    Node { node: usize, life: u64, what: Happening },
    Start { node: usize },
    Client,
    Fault,
    Mend,
}

pub(crate) struct Node {
    pub(crate) store: Store,
    pub(crate) multi: Option<Multi>,
    pub(crate) life: u64,
    /// Its disk is gone.
    pub(crate) is_wiped: bool,
    pub(crate) paused_until: u64,
    /// How many of 1,000 its clock is fast.
    skew: i64,
    /// When it will be ticked.
    tick_at: u64,
    is_applying: bool,
}

/// What a run has seen, to know that it was one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) steps: u64,
    pub(crate) messages: u64,
    pub(crate) crashes: u64,
    pub(crate) cuts: u64,
    pub(crate) changes: u64,
    pub(crate) transfers: u64,
    pub(crate) snapshots: u64,
    pub(crate) installs: u64,
    pub(crate) wipes: u64,
    pub(crate) leaves: u64,
    pub(crate) loads: u64,
    pub(crate) elections: u64,
    pub(crate) writes: u64,
    pub(crate) reads: u64,
    pub(crate) gave_up: u64,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) now: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network<Wire>,
    pub(crate) events: Events<Event>,
    pub(crate) oracle: Oracle,
    pub(crate) clients: Clients,
    pub(crate) counts: Counts,
    /// No faults any more.
    pub(crate) is_calm: bool,
    /// A number for everything that happened.
    pub(crate) trace: u64,
    output: Output,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::draw(&mut rng);
        Self::with_plan(plan, rng)
    }

    pub(crate) fn with_plan(plan: Plan, mut rng: Rng) -> Self {
        let founders = founders(1..=plan.founders);
        let first = Restored::founding(&founders).1;
        let network = Network::new(MAX_NODES, plan.faults.clone(), rng.fork());
        let mut world = Self {
            plan,
            rng,
            now: 1,
            nodes: Vec::new(),
            network,
            events: Events::default(),
            oracle: Oracle::new(&first),
            clients: Clients::default(),
            counts: Counts::default(),
            is_calm: false,
            trace: 0,
            output: Output::default(),
        };
        for _ in 0..world.plan.founders {
            world.add_node(Some(&founders));
        }
        world.events.add(1, Event::Client);
        world.events.add(ELECTION_MS, Event::Fault);
        world
    }

    /// A node with an empty disk, or with the founders' entry on it.
    pub(crate) fn add_node(&mut self, founders: Option<&consensus::Membership>) -> NodeId {
        let id = NodeId(self.nodes.len() as u64 + 1);
        let bound = self.plan.skew;
        let skew = self.rng.range(0..2 * bound as u64 + 1) as i64 - bound;
        self.nodes.push(Node {
            store: Store::new(id, founders),
            multi: None,
            life: 0,
            is_wiped: false,
            paused_until: 0,
            skew,
            tick_at: u64::MAX,
            is_applying: false,
        });
        self.events.add(self.now, Event::Start { node: self.nodes.len() - 1 });
        id
    }

    pub(crate) fn raft(&self, node: usize) -> Option<&Raft> {
        self.nodes[node].multi.as_ref()?.group(GROUP)
    }

    /// The leader of the highest term, if it is up.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leads =
            |node: &usize| self.raft(*node).is_some_and(|raft| raft.role() == RoleName::Leader);
        let term = |node: &usize| self.raft(*node).map(|raft| raft.hard_state().term);
        (0..self.nodes.len()).filter(leads).max_by_key(term)
    }

    /// The next thing happens.
    pub(crate) fn step(&mut self) -> Check {
        let message = self.network.next_at().unwrap_or(u64::MAX);
        let event = self.events.next_at().unwrap_or(u64::MAX);
        if message < event {
            let (at, delivery) = self.network.pop().expect("there is a next one");
            self.now = self.now.max(at);
            return delivery.map_or(Ok(()), |delivery| self.deliver(delivery));
        }
        let (at, event) = self.events.pop().expect("clients never end");
        self.now = self.now.max(at);
        self.happen(event)
    }

    /// Lets time pass.
    pub(crate) fn run_until(&mut self, end: u64) -> Check {
        let next = |world: &Self| {
            let next = [world.network.next_at(), world.events.next_at()];
            next.into_iter().flatten().min().unwrap_or(u64::MAX)
        };
        while next(self) <= end {
            self.step()?;
        }
        self.now = self.now.max(end);
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Check {
        match event {
            Event::Node { node, life, what } => {
                let Node { life: current, paused_until, multi, .. } = &self.nodes[node];
                if *current != life || multi.is_none() {
                    return Ok(());
                }
                if self.now < *paused_until {
                    self.events.add(*paused_until, Event::Node { node, life, what });
                    return Ok(());
                }
                self.happen_to(node, what)
            }
            Event::Start { node } => self.start(node),
            Event::Client => self.client(),
            Event::Fault => self.fault(),
            Event::Mend => {
                self.network.heal();
                Ok(())
            }
        }
    }

    fn deliver(&mut self, delivery: Delivery<Wire>) -> Check {
        let Delivery { from, to, message } = delivery;
        let node = &mut self.nodes[to];
        if self.now < node.paused_until {
            let (until, now) = (node.paused_until, self.now);
            if self.rng.chance(1, 2) {
                self.network.send(until.max(now), from, to, message);
            }
            return Ok(());
        }
        let from = NodeId(from as u64 + 1);
        let local = node.local(self.now);
        let Some(multi) = &mut node.multi else { return Ok(()) };
        multi.tick(local);
        match message {
            Wire::Raft(message) => {
                self.trace = mix(self.trace, self.now ^ (to as u64) << 48 ^ from.0 << 56);
                multi.receive(from, GROUP, message);
            }
            Wire::Beat(beat) => multi.receive_heartbeat(from, beat),
        }
        self.settle(to)
    }

    fn happen_to(&mut self, node: usize, what: Happening) -> Check {
        let now = self.now;
        self.trace = mix(self.trace, now ^ (node as u64) << 48);
        let Node { store, multi, tick_at, .. } = &mut self.nodes[node];
        let multi = multi.as_mut().expect("it is up");
        match what {
            Happening::Tick => {
                *tick_at = u64::MAX;
                let local = self.nodes[node].local(now);
                self.nodes[node].multi.as_mut().expect("it is up").tick(local);
            }
            Happening::Sync => return self.sync(node),
            Happening::Acked(ticket) => {
                multi.touch(GROUP).expect("it is here").handle_persisted(ticket);
            }
            Happening::Apply => return self.apply(node),
            Happening::Loaded { from, through, max_bytes } => {
                let entries = store.disk.read(from, through, max_bytes);
                multi.touch(GROUP).expect("it is here").handle_loaded(from, entries);
                self.counts.loads += 1;
            }
            Happening::Fetched { from, snapshot } => self.fetched(node, from, &snapshot),
        }
        self.settle(node)
    }

    fn sync(&mut self, node: usize) -> Check {
        let most = 1 + self.rng.index(3);
        for _ in 0..most {
            let Some(ticket) = self.nodes[node].store.disk.sync_one() else { break };
            self.oracle.check_durable(&self.nodes[node].store)?;
            // Completions may come late, out of order, or not at all if a later one comes.
            let is_last = self.nodes[node].store.disk.pending.is_empty();
            if is_last || self.rng.chance(3, 4) {
                let late = if self.rng.chance(1, 8) { self.rng.range(0..20) } else { 0 };
                self.later(node, late, Happening::Acked(ticket));
            }
        }
        if !self.nodes[node].store.disk.pending.is_empty() {
            let delay = self.disk_delay();
            self.later(node, delay, Happening::Sync);
        }
        Ok(())
    }

    fn disk_delay(&mut self) -> u64 {
        if self.is_calm { 1 } else { self.rng.range(0..self.plan.disk_ms + 1) }
    }

    fn apply(&mut self, node: usize) -> Check {
        self.nodes[node].is_applying = false;
        let most = 1 + self.rng.index(20);
        let id = self.nodes[node].store.id;
        for _ in 0..most {
            let store = &mut self.nodes[node].store;
            if !store.apply_one()? {
                break;
            }
            self.oracle.check_applied(store)?;
            let applied = store.machine.applied;
            let term = store.disk.term(applied).unwrap_or_default();
            self.clients.applied(&mut self.oracle, self.now, (id, term), applied);
        }
        self.clients.serve(self.now, id, &self.nodes[node].store.machine);
        self.apply_later(node);
        Ok(())
    }

    fn apply_later(&mut self, node: usize) {
        let Node { store, is_applying, .. } = &mut self.nodes[node];
        if !*is_applying && store.machine.applied < store.commit {
            *is_applying = true;
            let most = if self.is_calm { 1 } else { self.plan.apply_ms };
            let delay = self.rng.range(0..most + 1);
            self.later(node, delay, Happening::Apply);
        }
    }

    /// A snapshot was read to its end, if whoever offered it still has it and is reached.
    fn fetched(&mut self, node: usize, from: NodeId, meta: &SnapshotMeta) {
        let source = from.0 as usize - 1;
        let is_reached = self.nodes[source].multi.is_some()
            && !self.network.is_cut(source, node)
            && !self.network.is_cut(node, source);
        let snapshot = self.nodes[source].store.disk.snapshot.clone();
        let Some(snapshot) = snapshot.filter(|snapshot| is_reached && snapshot.meta == *meta)
        else {
            return;
        };
        let Node { store, multi, .. } = &mut self.nodes[node];
        let raft = multi.as_mut().and_then(|multi| multi.touch(GROUP)).expect("it is up");
        self.counts.installs += 1;
        store.handle_fetched(raft, snapshot);
    }

    pub(crate) fn later(&mut self, node: usize, delay: u64, what: Happening) {
        let life = self.nodes[node].life;
        self.events.add(self.now + delay, Event::Node { node, life, what });
    }

    fn start(&mut self, node: usize) -> Check {
        let Node { is_wiped, multi, .. } = &self.nodes[node];
        if *is_wiped || multi.is_some() {
            return Ok(());
        }
        let (epoch, seed) = (self.rng.next_u64() | 1, self.rng.next_u64());
        let Plan { max_append_bytes, max_in_flight_appends, recent_bytes, .. } = self.plan;
        let now = self.now;
        let state = &mut self.nodes[node];
        let local = state.local(now);
        let id = state.store.id;
        let config = Config {
            election_ms: ELECTION_MS,
            retry_ms: HEARTBEAT_MS * 2,
            max_append_bytes,
            max_in_flight_appends,
            recent_bytes,
            max_uncommitted_bytes: 4_000,
            ..Config::new(id)
        };
        let raft = state.store.start(config, local, seed);
        self.oracle.check_start(&state.store, &raft)?;
        let (heartbeat_ms, election_ms) = (HEARTBEAT_MS, ELECTION_MS);
        let mut multi =
            Multi::new(MultiConfig { node: id, epoch, heartbeat_ms, election_ms }, local);
        multi.add(GROUP, raft);
        state.multi = Some(multi);
        state.life += 1;
        state.tick_at = u64::MAX;
        state.is_applying = false;
        state.paused_until = 0;
        self.settle(node)
    }

    /// What the last input leads to.
    pub(crate) fn settle(&mut self, node: usize) -> Check {
        self.counts.steps += 1;
        let mut output = std::mem::take(&mut self.output);
        let multi = self.nodes[node].multi.as_mut().expect("it is up");
        multi.flush(&mut output);
        let raft = self.nodes[node].multi.as_ref().and_then(|multi| multi.group(GROUP));
        let raft = raft.expect("it is here");
        // A lost disk still counts for what it confirmed: its node never votes for less.
        let stores = self.nodes.iter().map(|node| &node.store);
        self.oracle.check_node(&self.nodes[node].store, raft, stores)?;
        let beats: Vec<_> = output.heartbeats.drain(..).collect();
        for (to, beat) in beats {
            self.network.send(self.now, node, to.0 as usize - 1, Wire::Beat(beat));
        }
        for change in output.effects.drain(..) {
            let state = &mut self.nodes[node];
            let raft = state.multi.as_ref().and_then(|multi| multi.group(GROUP));
            let raft = raft.expect("it is here");
            self.oracle.check_effect(&state.store, raft, &change.effect)?;
            if let Some(wish) = state.store.perform(change.effect) {
                self.grant(node, wish)?;
            }
        }
        self.output = output;
        if self.counts.steps.is_multiple_of(64) {
            self.oracle.check_membership(&self.nodes[node].store)?;
        }
        self.apply_later(node);
        self.tick_later(node);
        Ok(())
    }

    fn tick_later(&mut self, node: usize) {
        let now = self.now;
        let state = &mut self.nodes[node];
        let Some(local) = state.multi.as_ref().and_then(Multi::deadline_ms) else { return };
        let at = state.global(local).max(now + 1);
        if at < state.tick_at {
            state.tick_at = at;
            self.later(node, at - now, Happening::Tick);
        }
    }

    fn grant(&mut self, node: usize, wish: Wish) -> Check {
        let id = self.nodes[node].store.id;
        match wish {
            Wish::Send { to, message } => {
                self.counts.messages += 1;
                self.trace = mix(self.trace, message.term().0 ^ to.0 << 32);
                self.network.send(self.now, node, to.0 as usize - 1, Wire::Raft(message));
            }
            Wish::Sync => {
                if self.nodes[node].store.disk.pending.len() == 1 {
                    let delay = self.disk_delay();
                    self.later(node, delay, Happening::Sync);
                }
            }
            Wish::ReadReady { reads, index } => {
                self.clients.read_ready(&mut self.oracle, id, reads, index)?;
                self.clients.serve(self.now, id, &self.nodes[node].store.machine);
            }
            Wish::ReadFailed { reads } => self.clients.read_failed(self.now, reads)?,
            Wish::Load { from, through, max_bytes } => {
                let delay = self.rng.range(0..5);
                self.later(node, delay, Happening::Loaded { from, through, max_bytes });
            }
            Wish::Fetch { from, snapshot } => {
                let delay = self.rng.range(1..if self.is_calm { 20 } else { 3 * ELECTION_MS });
                self.later(node, delay, Happening::Fetched { from, snapshot });
            }
            Wish::Poison(reason) => return Err(format!("{id} is poisoned: {reason}")),
        }
        Ok(())
    }

    /// Some client asks something of some node.
    fn client(&mut self) -> Check {
        let gap = self.rng.range(1..2 * self.plan.client_gap_ms + 1);
        self.events.add(self.now + gap, Event::Client);
        let write = self.rng.chance(2, 3) && self.clients.open() < self.plan.max_open;
        let node = match self.leader().filter(|_| write && self.rng.chance(7, 8)) {
            Some(leader) => leader,
            None => self.rng.index(self.nodes.len()),
        };
        self.request(node, write)
    }

    pub(crate) fn request(&mut self, node: usize, write: bool) -> Check {
        if self.nodes[node].multi.is_none() || self.now < self.nodes[node].paused_until {
            return Ok(());
        }
        let register = self.rng.index(REGISTERS) as u8;
        let local = self.nodes[node].local(self.now);
        let multi = self.nodes[node].multi.as_mut().expect("it is up");
        multi.tick(local);
        let raft = multi.touch(GROUP).expect("it is here");
        let id = NodeId(node as u64 + 1);
        if write {
            let value = self.clients.next_value();
            let payload = Command { register, value }.encode();
            if let Ok(proposed) = raft.propose(vec![payload]) {
                let at = (proposed.term, proposed.first);
                self.clients.wrote(self.now, id, Op::Write(register, value), at);
            }
        } else {
            let read = self.clients.begin_read(self.now, register, self.oracle.read_floor());
            raft.read(read);
        }
        self.settle(node)
    }
}

impl Node {
    /// This node's clock.
    fn local(&self, now: u64) -> u64 {
        (now as i64 + now as i64 * self.skew / 1_000) as u64
    }

    /// When this node's clock will show `local`.
    fn global(&self, local: u64) -> u64 {
        let at = (local as i64 * 1_000 / (1_000 + self.skew)) as u64;
        if self.local(at) < local { at + 1 } else { at }
    }
}
