//! The nodes, what is on its way between them, and what may happen next.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use replication::ack::Confirmed;
use replication::command::{Change, Command, Space};
use replication::handshake::{Hello, Join, Local, Plan, Step};
use replication::wire::{FromPrimary, FromReplica, Stamp};
use replication::{AckLevel, Effect, Epoch, Head, Index, MemberId, Primary, Ticket};
use sim::Rng;

use crate::node::{Core, Engine, GROUP, Node, Op};

/// Mistakes to be caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A disk that says it is done when it is not.
    LyingDisk,
    /// A primary that is heard of before its epoch is durable.
    EarlyOpening,
    /// A replica that counts as durable what it has only received.
    EarlyReport,
    /// An engine that is fed what is not committed.
    EagerEngine,
    /// An operator who promotes a node without looking at the others.
    BlindPromotion,
}

impl Bug {
    pub(crate) const ALL: [Self; 5] = [
        Self::LyingDisk,
        Self::EarlyOpening,
        Self::EarlyReport,
        Self::EagerEngine,
        Self::BlindPromotion,
    ];
}

/// A replica's connection, first in, first out.
#[derive(Default)]
struct Connection {
    session: u64,
    next: Index,
    to_replica: VecDeque<FromPrimary>,
    to_primary: VecDeque<FromReplica>,
    snapshot: Option<Engine>,
}

pub(crate) struct Cluster {
    rng: Rng,
    bug: Option<Bug>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) primary: usize,
    /// The highest epoch of any primary. Whoever is promoted is told: that is the coordinator's
    /// part. A primary that has begun relies on its own disk from then on.
    highest: Epoch,
    begun: bool,
    /// By replica, to the present primary.
    connections: BTreeMap<usize, Connection>,
    tickets: BTreeMap<Ticket, (Head, AckLevel)>,
    ticket: u64,
    /// Every write that was answered at quorum or better.
    pub(crate) acked: Vec<Head>,
}

impl Cluster {
    pub(crate) fn new(count: usize, seed: u64, bug: Option<Bug>) -> Self {
        let mut cluster = Self {
            rng: Rng::new(seed),
            bug,
            nodes: (0..count).map(|_| Node::new()).collect(),
            primary: 0,
            highest: Epoch(0),
            begun: false,
            connections: BTreeMap::new(),
            tickets: BTreeMap::new(),
            ticket: 0,
            acked: Vec::new(),
        };
        (0..count).for_each(|node| cluster.start(node));
        cluster
    }

    /// Anything may happen next.
    pub(crate) fn step(&mut self) {
        let node = self.rng.index(self.nodes.len());
        match self.rng.index(100) {
            0..25 => self.write(),
            25..45 => self.sync(node),
            45..65 => self.pump(node),
            65..82 => self.deliver(node),
            82..90 => self.apply(node),
            90..94 => self.connect(node),
            94 => self.disconnect(node),
            95 => self.crash(node),
            96 | 97 => self.start(node),
            98 => self.compact(node),
            _ => self.promote(),
        }
    }

    /// No more faults: everything runs, connects and settles.
    pub(crate) fn heal(&mut self) {
        for _ in 0..400 {
            for node in 0..self.nodes.len() {
                self.start(node);
                self.connect(node);
                self.pump(node);
                (0..8).for_each(|_| self.deliver(node));
                (0..4).for_each(|_| self.sync(node));
                self.apply(node);
            }
        }
    }

    fn is_primary(&self, node: usize) -> bool {
        matches!(self.nodes[node].core, Some(Core::Primary(_)))
    }

    fn leading(&mut self) -> Option<&mut Primary> {
        match &mut self.nodes[self.primary].core {
            Some(Core::Primary(primary)) => Some(primary),
            _ => None,
        }
    }

    fn write(&mut self) {
        let key = Space::User.key(&[self.rng.index(8) as u8]);
        let change = match self.rng.chance(1, 4) {
            true => Change::Delete { key },
            false => Change::Put {
                key,
                value: Bytes::from(self.rng.next_u64().to_le_bytes().to_vec()),
                content_type: None,
                expires_at_ms: None,
            },
        };
        let command = Command::Write { changes: vec![change] }.encode();
        let level = AckLevel::ALL[self.rng.index(4)];
        self.ticket += 1;
        let ticket = Ticket(self.ticket);
        let Some(primary) = self.leading().filter(|primary| primary.is_open()) else { return };
        let Ok(position) = primary.append(command) else { return };
        let head = primary.head();
        primary.wait(ticket, position.index, level);
        self.tickets.insert(ticket, (head, level));
        self.settle(self.primary);
    }

    /// Carries out what a core asks for.
    fn settle(&mut self, node: usize) {
        loop {
            let effects = self.nodes[node].take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.perform(node, effect);
            }
        }
    }

    fn perform(&mut self, node: usize, effect: Effect) {
        let disk = &mut self.nodes[node];
        match effect {
            Effect::KeepEpoch { token, epoch } => disk.write(token, Op::KeepEpoch(epoch)),
            Effect::Append { token, entries } => disk.write(token, Op::Append(entries)),
            Effect::Truncate { token, last } => disk.write(token, Op::Truncate(last)),
            Effect::Commit { .. } => (),
            Effect::Acked { ticket, .. } => {
                if let Some((head, AckLevel::Quorum | AckLevel::All)) = self.tickets.remove(&ticket)
                {
                    self.acked.push(head);
                }
            }
            Effect::Lost { ticket } => {
                self.tickets.remove(&ticket);
            }
            Effect::Report => self.report(node),
            Effect::Install { .. } => {
                let connection = self.connections.get_mut(&node);
                if let Some(engine) = connection.and_then(|connection| connection.snapshot.take()) {
                    self.nodes[node].install(engine);
                }
            }
            Effect::Leave => self.disconnect(node),
            Effect::Halt(fault) => {
                self.nodes[node].fault = Some(fault);
                self.disconnect(node);
            }
        }
    }

    fn report(&mut self, node: usize) {
        let early = self.bug == Some(Bug::EarlyReport);
        let applied = self.nodes[node].engine.applied.index();
        let Some(Core::Replica(replica)) = &self.nodes[node].core else { return };
        let Some(mut confirmed) = replica.confirmed() else { return };
        if early {
            confirmed.durable = confirmed.received;
        }
        if let Some(connection) = self.connections.get_mut(&node) {
            connection.to_primary.push_back(FromReplica::report(confirmed, applied));
        }
    }

    fn sync(&mut self, node: usize) {
        if self.bug == Some(Bug::LyingDisk) && self.rng.chance(1, 8) {
            let last = self.nodes[node].pending.back().map(|(token, _)| *token);
            if let Some(token) = last {
                self.nodes[node].persisted(token);
                return self.settle(node);
            }
        }
        if let Some(token) = self.nodes[node].sync() {
            self.nodes[node].persisted(token);
            self.begun |= self.leading().is_some_and(|primary| primary.is_open());
            self.settle(node);
        }
    }

    /// The primary sends a replica what it can read of its log, durable or not, or a heartbeat.
    fn pump(&mut self, node: usize) {
        let Some(primary) = self.leading() else { return };
        let (epoch, commit, last) = (primary.epoch(), primary.commit(), primary.head().index());
        let stamp = Stamp { last, now_ms: 0 };
        let most = 1 + self.rng.index(4);
        let Some(connection) = self.connections.get_mut(&node) else { return };
        let log = &self.nodes[self.primary];
        if connection.next <= log.base {
            return self.disconnect(node);
        }
        let entries: Vec<_> = (connection.next.0..)
            .map_while(|index| log.entry(Index(index)).cloned())
            .take(most)
            .collect();
        let message = match entries.last() {
            None => FromPrimary::Heartbeat { epoch, commit, stamp },
            Some(last) => {
                connection.next = last.position.index.next();
                FromPrimary::Entries { epoch, entries, commit, stamp }
            }
        };
        connection.to_replica.push_back(message);
    }

    fn deliver(&mut self, node: usize) {
        let Some(connection) = self.connections.get_mut(&node) else { return };
        let session = connection.session;
        if self.rng.chance(1, 2) {
            let Some(message) = connection.to_replica.pop_front() else { return };
            if let Some(Core::Replica(replica)) = &mut self.nodes[node].core {
                replica.handle(message);
                self.settle(node);
            }
        } else if let Some(FromReplica::Report { received, durable, applied }) =
            connection.to_primary.pop_front()
        {
            let confirmed = Confirmed { received, durable };
            if let Some(primary) = self.leading() {
                let truth = primary.report(MemberId(node as u32), session, confirmed, applied);
                assert!(truth, "an honest replica is believed");
                self.settle(self.primary);
            }
        }
    }

    fn apply(&mut self, node: usize) {
        let eager = self.bug == Some(Bug::EagerEngine);
        let node = &mut self.nodes[node];
        let Some(commit) = node.commit() else { return };
        let through = if eager { node.head().index() } else { commit };
        while node.engine.applied.index() < through {
            let next = node.engine.applied.index().next();
            let Some(entry) = node.entry(next).cloned() else { return };
            // With the planted bug the engine may hold what the history has dropped.
            if !entry.follows(&node.engine.applied) {
                return;
            }
            node.engine.apply(&entry);
        }
    }

    fn connect(&mut self, node: usize) {
        if node == self.primary || self.connections.contains_key(&node) {
            return;
        }
        let early = self.bug == Some(Bug::EarlyOpening);
        let open = |primary: &&mut Primary| primary.is_open() || early;
        let Some(primary) = self.leading().filter(open) else { return };
        let (epoch, head) = (primary.epoch(), primary.head());
        let Some(Core::Replica(replica)) = &mut self.nodes[node].core else { return };
        if replica.halted().is_some() {
            return;
        }
        let hello = replica.hello();
        let log = &self.nodes[self.primary];
        let first = log.log.first().filter(|_| log.base == Index::ZERO);
        let birth = log.engine.birth.or(first.map(|entry| entry.hash));
        let local = Local { group: GROUP.to_owned(), epoch, birth, head, base: log.base };
        let mut connection = Connection::default();
        match self.handshake(node, &hello, &local) {
            Err(refusal) => connection.to_replica.push_back(FromPrimary::Refused(refusal)),
            Ok(plan) => {
                let at = match plan {
                    Plan::Log => hello.head,
                    Plan::TruncateTo(common) => log.head_at(common).expect("it was compared"),
                    Plan::Snapshot => {
                        connection.snapshot = Some(log.engine.clone());
                        log.engine.applied
                    }
                };
                connection.next = at.index().next();
                connection.to_replica.push_back(FromPrimary::Welcome { epoch, plan, at });
                let member = MemberId(node as u32);
                connection.session = self.leading().map_or(0, |primary| primary.connected(member));
            }
        }
        self.connections.insert(node, connection);
    }

    fn handshake(
        &self,
        node: usize,
        hello: &Hello,
        local: &Local,
    ) -> Result<Plan, replication::handshake::Refusal> {
        let (mut join, mut step) = Join::start(hello, local)?;
        loop {
            match step {
                Step::Done(plan) => return Ok(plan),
                Step::Compare(index) => {
                    let hash = |node: &Node| node.head_at(index).map(|head| head.hash);
                    step = join.compared(hash(&self.nodes[self.primary]), hash(&self.nodes[node]));
                }
            }
        }
    }

    fn disconnect(&mut self, node: usize) {
        if let Some(connection) = self.connections.remove(&node)
            && let Some(primary) = self.leading()
        {
            primary.disconnected(MemberId(node as u32), connection.session);
        }
    }

    fn crash(&mut self, node: usize) {
        self.disconnect(node);
        if node == self.primary {
            self.connections.clear();
            self.tickets.clear();
        }
        self.nodes[node].crash();
    }

    fn start(&mut self, node: usize) {
        if self.nodes[node].core.is_some() {
            return;
        }
        if node == self.primary {
            let nonce = u128::from(self.rng.next_u64());
            let mut recovered = self.nodes[node].recovered();
            if !self.begun {
                recovered.epoch = recovered.epoch.max(self.highest);
            }
            let replicas: Vec<_> = (0..self.nodes.len()).filter(|other| *other != node).collect();
            let primary = Primary::with_members(
                replicas.iter().map(|id| MemberId(*id as u32)),
                recovered,
                nonce,
            );
            self.highest = self.highest.max(primary.epoch());
            self.nodes[node].core = Some(Core::Primary(primary));
        } else {
            self.nodes[node].start_replica(format!("r{node}"));
        }
        self.settle(node);
    }

    fn compact(&mut self, node: usize) {
        let through = Index(self.rng.range(0..self.nodes[node].head().index().0 + 1));
        self.nodes[node].compact(through);
    }

    /// An operator makes another node the primary: stops the old one, looks at a majority, takes
    /// the one whose log goes furthest.
    fn promote(&mut self) {
        let count = self.nodes.len();
        if count == 1 {
            return;
        }
        self.crash(self.primary);
        let mut seen: Vec<_> = (0..count).collect();
        self.rng.shuffle(&mut seen);
        let majority = count / 2 + 1;
        seen.truncate(if self.bug == Some(Bug::BlindPromotion) { 1 } else { majority });
        for node in 0..count {
            self.crash(node);
        }
        let best = seen.into_iter().max_by_key(|node| self.nodes[*node].head().position);
        self.primary = best.expect("a majority is not empty");
        self.begun = false;
        (0..count).for_each(|node| self.start(node));
    }

    /// Everything that a run leads to.
    pub(crate) fn fingerprint(&self) -> Vec<(Head, u128, bool)> {
        let one = |node: usize| {
            let state = &self.nodes[node];
            (state.head(), state.engine.root().0, self.is_primary(node))
        };
        (0..self.nodes.len()).map(one).collect()
    }
}
