//! One state of a small cluster, and everything that can happen in it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use consensus::{
    Change, Config, Effect, Entry, HardState, Index, Membership, Message, NodeId, Persist, Raft,
    ReadId, Restored, RoleName, Term, Ticket,
};

use super::fate::{Fate, Left};
use super::hash::{Quick, hash_of};
use crate::cluster::{Command, Oracle, Store, Wish};

/// How much of everything may happen. What is 0 does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Followers and candidates whose election timeout passes.
    pub(crate) timeouts: u8,
    /// Leaders that send again what was not answered.
    pub(crate) retries: u8,
    pub(crate) proposals: u8,
    pub(crate) reads: u8,
    /// Nodes that lose what is not durable, and start again.
    pub(crate) crashes: u8,
    /// Messages that arrive once more.
    pub(crate) repeats: u8,
    /// Logs that are cut behind a snapshot.
    pub(crate) compactions: u8,
    pub(crate) transfers: u8,
    /// Every append carries one entry.
    pub(crate) one_by_one: bool,
    /// Membership changes, in this order.
    pub(crate) changes: Vec<Change>,
}

/// A message on its way. It arrives at any time, or never.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    /// Of everything else in it.
    pub(super) hash: u128,
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) message: Arc<Message>,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) raft: Raft,
    pub(super) store: Store,
    /// A snapshot that it was told to fetch.
    pub(super) fetch: Option<(NodeId, Index)>,
    /// Of all of that.
    pub(super) hash: u128,
}

/// What the nodes themselves may have forgotten, and what is judged by it.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) oracle: Oracle,
    /// By read: what it has to see.
    pub(super) floors: Vec<Index>,
    /// Nobody has campaigned yet.
    pub(super) is_first: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(super) nodes: Vec<Arc<Node>>,
    pub(super) letters: Vec<Letter>,
    pub(crate) budget: Budget,
    pub(super) history: History,
    /// Who served which read as of which index.
    served: Vec<(NodeId, ReadId, Index)>,
    network: Network,
}

/// What becomes of a message that has arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Network {
    /// It is gone, unless an action repeats it.
    #[default]
    Once,
    /// It arrives again, at any time, as often as it likes.
    Again,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Deliver(usize),
    Repeat(usize),
    Sync(usize),
    Timeout(usize),
    Retry(usize),
    Propose(usize),
    Read(usize),
    /// With this many writes that had reached the disk.
    Crash(usize, usize),
    Change(usize),
    Compact(usize),
    Fetched(usize),
    Transfer(usize, usize),
}

impl Action {
    /// The node to which it happens, for those that are not about a message.
    pub(super) fn at(self) -> usize {
        match self {
            Self::Deliver(_) | Self::Repeat(_) => unreachable!("a message knows its receiver"),
            Self::Sync(at)
            | Self::Timeout(at)
            | Self::Retry(at)
            | Self::Propose(at)
            | Self::Read(at)
            | Self::Crash(at, _)
            | Self::Change(at)
            | Self::Compact(at)
            | Self::Fetched(at)
            | Self::Transfer(at, _) => at,
        }
    }
}

impl Budget {
    /// The same can happen with `other`, and maybe more. What names what is proposed, read or
    /// changed is to be equal.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        let names = |budget: &Self| (budget.proposals, budget.reads, budget.changes.len());
        names(self) == names(other)
            && self.timeouts <= other.timeouts
            && self.retries <= other.retries
            && self.crashes <= other.crashes
            && self.compactions <= other.compactions
            && self.transfers <= other.transfers
    }
}

/// What the future is judged by.
impl Hash for History {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (&self.oracle, &self.floors, self.is_first).hash(hasher);
    }
}

fn config(node: NodeId, budget: &Budget) -> Config {
    let config = Config { election_ms: 1, retry_ms: 1, ..Config::new(node) };
    if budget.one_by_one { Config { max_append_bytes: 1, ..config } } else { config }
}

impl State {
    /// `voters` founders, and `others` that may join.
    pub(crate) fn new(voters: u64, others: u64, budget: Budget) -> Self {
        let founders = crate::cluster::founders(1..=voters);
        let node = |id: u64| {
            let founders: Option<&Membership> = (id <= voters).then_some(&founders);
            let mut store = Store::new(NodeId(id), founders);
            let mut raft = store.start(config(NodeId(id), &budget), 0, 0);
            raft.forget_time();
            let hash = hash_of(&(&raft, &store, &None::<(NodeId, Index)>));
            Arc::new(Node { raft, store, fetch: None, hash })
        };
        let nodes = (1..=voters + others).map(node).collect();
        let oracle = Oracle::new(&Restored::founding(&founders).1);
        Self {
            nodes,
            letters: Vec::new(),
            budget,
            history: History { oracle, floors: Vec::new(), is_first: true },
            served: Vec::new(),
            network: Network::default(),
        }
    }

    /// These nodes, with nothing on its way.
    pub(super) fn of(nodes: Vec<Arc<Node>>, budget: Budget, history: History) -> Self {
        let (letters, served, network) = (Vec::new(), Vec::new(), Network::Once);
        Self { nodes, letters, budget, history, served, network }
    }

    /// The same cluster with another network.
    pub(crate) fn over(self, network: Network) -> Self {
        Self { network, ..self }
    }

    /// Equal for states from which the same can happen.
    pub(crate) fn fingerprint(&self) -> u128 {
        let mut hasher = Quick::default();
        for node in &self.nodes {
            hasher.write_u128(node.hash);
        }
        for letter in &self.letters {
            hasher.write_u128(letter.hash);
        }
        self.budget.hash(&mut hasher);
        self.history.hash(&mut hasher);
        hasher.wide()
    }

    /// What the nodes are, and what they are judged by, whatever is on its way.
    pub(crate) fn shown(&self) -> (Vec<u128>, u128) {
        (self.nodes.iter().map(|node| node.hash).collect(), hash_of(&self.history))
    }

    /// Everything that can happen now.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let mut actions: Vec<Action> = (0..self.letters.len()).map(Action::Deliver).collect();
        for (at, node) in self.nodes.iter().enumerate() {
            let may_campaign = !self.history.is_first || at == 0;
            node.actions(self.nodes.len(), &self.budget, may_campaign, &mut actions);
        }
        if 0 < self.budget.repeats && self.network == Network::Once {
            actions.extend((0..self.letters.len()).map(Action::Repeat));
        }
        actions
    }

    /// The state after an action. `None` if it does nothing.
    pub(crate) fn after(&self, action: Action) -> Result<Option<Self>, String> {
        let mut next = self.clone();
        if !next.step(action)? {
            return Ok(None);
        }
        if self.network == Network::Once {
            next.forget_the_dead();
        }
        Ok(Some(next))
    }

    /// Does it. False if that is nothing.
    pub(super) fn step(&mut self, action: Action) -> Result<bool, String> {
        let at = match action {
            Action::Deliver(letter) => {
                return self.deliver(letter, self.network == Network::Again).map(|()| true);
            }
            Action::Repeat(letter) => {
                self.budget.repeats -= 1;
                return self.deliver(letter, true).map(|()| true);
            }
            Action::Sync(at)
            | Action::Timeout(at)
            | Action::Retry(at)
            | Action::Propose(at)
            | Action::Read(at)
            | Action::Crash(at, _)
            | Action::Change(at)
            | Action::Compact(at)
            | Action::Fetched(at)
            | Action::Transfer(at, _) => at,
        };
        if !self.act(at, action)? {
            return Ok(false);
        }
        self.settle(at)?;
        Ok(true)
    }

    /// What happens on one node. False if nothing does.
    fn act(&mut self, at: usize, action: Action) -> Result<bool, String> {
        let raft = &mut Arc::make_mut(&mut self.nodes[at]).raft;
        let budget = &mut self.budget;
        Ok(match action {
            Action::Deliver(_) | Action::Repeat(_) => false,
            Action::Sync(_) => self.sync(at).map(|()| true)?,
            Action::Timeout(_) => {
                budget.timeouts -= 1;
                self.history.is_first = false;
                if let Some(leader) = raft.leader() {
                    raft.handle_node_silent(leader);
                }
                let deadline = raft.deadline_ms();
                deadline.map(|deadline| raft.tick(deadline)).is_some()
            }
            Action::Retry(_) => {
                budget.retries -= 1;
                raft.tick(1);
                true
            }
            Action::Propose(_) => {
                budget.proposals -= 1;
                let command = Command { register: 0, value: u64::from(budget.proposals) };
                raft.propose(vec![command.encode()]).is_ok()
            }
            Action::Read(_) => {
                budget.reads -= 1;
                let History { oracle, floors, .. } = &mut self.history;
                raft.read(ReadId(floors.len() as u64));
                floors.push(oracle.read_floor());
                true
            }
            Action::Crash(_, survive) => {
                budget.crashes -= 1;
                self.crash(at, survive).map(|()| true)?
            }
            Action::Change(_) => {
                let change = budget.changes.remove(0);
                raft.change(&[change]).is_ok()
            }
            Action::Compact(_) => {
                budget.compactions -= 1;
                let Node { raft, store, .. } = Arc::make_mut(&mut self.nodes[at]);
                store.compact(raft, 0)?
            }
            Action::Fetched(_) => self.fetched(at),
            Action::Transfer(_, to) => {
                budget.transfers -= 1;
                raft.transfer(NodeId(to as u64 + 1)).is_ok()
            }
        })
    }

    fn deliver(&mut self, letter: usize, again: bool) -> Result<(), String> {
        let Letter { from, to, message, .. } = self.letters[letter].clone();
        if !again {
            self.letters.remove(letter);
        }
        let id = self.nodes[from].store.id;
        let node = Arc::make_mut(&mut self.nodes[to]);
        node.raft.receive(id, message.as_ref().clone());
        self.settle(to)
    }

    fn sync(&mut self, at: usize) -> Result<(), String> {
        let Node { raft, store, .. } = Arc::make_mut(&mut self.nodes[at]);
        let ticket = store.disk.sync_one().expect("something waits");
        self.history.oracle.check_durable(store)?;
        raft.handle_persisted(ticket);
        Ok(())
    }

    fn crash(&mut self, at: usize, survive: usize) -> Result<(), String> {
        let Node { raft, store, fetch, .. } = Arc::make_mut(&mut self.nodes[at]);
        for _ in 0..survive {
            store.disk.sync_one();
            self.history.oracle.check_durable(store)?;
        }
        store.crash();
        *fetch = None;
        *raft = store.start(config(store.id, &self.budget), 0, 0);
        self.history.oracle.check_start(store, raft)
    }

    fn fetched(&mut self, at: usize) -> bool {
        let node = Arc::make_mut(&mut self.nodes[at]);
        let (from, index) = node.fetch.take().expect("it was told to");
        let snapshot = self.nodes[from.0 as usize - 1].store.disk.snapshot.clone();
        let Some(snapshot) = snapshot.filter(|snapshot| snapshot.meta.index == index) else {
            return false;
        };
        let Node { raft, store, .. } = Arc::make_mut(&mut self.nodes[at]);
        store.handle_fetched(raft, snapshot);
        true
    }

    /// Carries out what the node wants, and checks it.
    fn settle(&mut self, at: usize) -> Result<(), String> {
        let mut shared = self.nodes[at].clone();
        let node = Arc::make_mut(&mut shared);
        // What was read from the disk is sent by the next flush.
        while self.flush(at, node)? {}
        let Node { raft, store, fetch, hash } = node;
        while store.apply_one()? {
            self.history.oracle.check_applied(store)?;
            let applied = store.machine.applied;
            if raft.role() == RoleName::Leader
                && raft.term_at(applied) == Some(raft.hard_state().term)
            {
                // Whoever proposed it is told.
                self.history.oracle.acknowledge(applied);
            }
        }
        let by = raft.forget_time();
        for (ticket, _) in &mut store.disk.pending {
            ticket.0 -= by;
        }
        *hash = hash_of(&(&*raft, &*store, &*fetch));
        self.nodes[at] = shared;
        // The same message twice is the same as once: it arrives at any time.
        self.letters.sort_unstable_by_key(|letter| letter.hash);
        self.letters.dedup_by_key(|letter| letter.hash);
        Ok(())
    }

    /// See [`Letter::fate`].
    fn forget_the_dead(&mut self) {
        let (nodes, left) = (&self.nodes, Left::of(&self.budget));
        self.letters.retain(|letter| letter.fate(&nodes[letter.to], left) != Fate::Dead);
    }

    /// True if entries were loaded.
    fn flush(&mut self, at: usize, node: &mut Node) -> Result<bool, String> {
        let Node { raft, store, fetch, .. } = node;
        let mut effects: Vec<Effect> = Vec::new();
        raft.flush(&mut effects);
        let before = self.nodes.iter().map(|node| &node.store);
        self.history.oracle.check_node(store, raft, before)?;
        let (mut is_changed, mut is_loaded) = (false, false);
        for effect in effects {
            is_changed |= matches!(effect, Effect::Membership { .. } | Effect::Install { .. });
            self.history.oracle.check_effect(store, raft, &effect)?;
            match store.perform(effect) {
                Some(Wish::Send { to, message }) => {
                    let to = to.0 as usize - 1;
                    if to < self.nodes.len() {
                        self.letters.push(Letter::new(at, to, message));
                    }
                }
                Some(Wish::Fetch { from, snapshot }) => *fetch = Some((from, snapshot.index)),
                Some(Wish::Load { from, through, max_bytes }) => {
                    raft.handle_loaded(from, store.disk.read(from, through, max_bytes));
                    is_loaded = true;
                }
                Some(Wish::Poison(reason)) => return Err(format!("poisoned: {reason}")),
                Some(Wish::ReadReady { reads, index }) => {
                    for read in reads {
                        self.history.oracle.check_read(
                            store.id,
                            self.history.floors[read.0 as usize],
                            index,
                        )?;
                        self.served.push((store.id, read, index));
                    }
                }
                Some(Wish::Sync | Wish::ReadFailed { .. }) | None => {}
            }
        }
        if is_changed {
            self.history.oracle.check_membership(store)?;
        }
        Ok(is_loaded)
    }
}

impl Letter {
    pub(super) fn new(from: usize, to: usize, message: Message) -> Self {
        let hash = hash_of(&(from, to, &message));
        Self { hash, from, to, message: Arc::new(message) }
    }
}

impl Node {
    /// What can happen to it besides the arrival of messages, in a cluster of `count`.
    pub(super) fn actions(
        &self,
        count: usize,
        budget: &Budget,
        may_campaign: bool,
        actions: &mut Vec<Action>,
    ) {
        let Self { raft, store, fetch, .. } = self;
        let (at, pending) = (store.id.0 as usize - 1, store.disk.pending.len());
        let is_leader = raft.role() == RoleName::Leader;
        let mut add = |may: bool, action| {
            if may {
                actions.push(action);
            }
        };
        add(0 < pending, Action::Sync(at));
        // Nodes are equal until somebody campaigns: let it be the first.
        let may = 0 < budget.timeouts && !is_leader && may_campaign;
        add(may && raft.role() != RoleName::Learner, Action::Timeout(at));
        let waits = is_leader && raft.deadline_ms().is_some();
        add(waits && 0 < budget.retries, Action::Retry(at));
        add(is_leader && 0 < budget.proposals, Action::Propose(at));
        add(is_leader && 0 < budget.reads, Action::Read(at));
        add(0 < budget.crashes, Action::Crash(at, 0));
        add(0 < budget.crashes && 0 < pending, Action::Crash(at, pending));
        add(is_leader && !budget.changes.is_empty(), Action::Change(at));
        add(0 < budget.compactions, Action::Compact(at));
        add(fetch.is_some(), Action::Fetched(at));
        for other in (0..count).filter(|other| *other != at) {
            add(is_leader && 0 < budget.transfers, Action::Transfer(at, other));
        }
    }
}

/// For scenarios, which choose what happens.
impl State {
    /// Founders with these logs, given as the terms of their entries, in order; the first is the
    /// founders' own. The highest of all terms is everybody's.
    pub(crate) fn with_logs(logs: &[&[u64]], budget: Budget) -> Self {
        let mut state = Self::new(logs.len() as u64, 0, budget);
        let highest = logs.iter().filter_map(|log| log.last()).max();
        let term = Term(*highest.expect("there are logs"));
        for (node, log) in state.nodes.iter_mut().zip(logs) {
            let Node { raft, store, .. } = Arc::make_mut(node);
            let entry = |(at, term): (usize, &u64)| {
                Entry::command(Term(*term), Index(at as u64 + 1), Bytes::new())
            };
            let entries = log.iter().enumerate().skip(1).map(entry).collect();
            let hard_state = Some(HardState { term, ..store.disk.hard_state });
            let (ticket, truncate_from) = (Ticket(0), None);
            store.disk.submit(Persist { ticket, hard_state, truncate_from, entries });
            store.disk.sync_one();
            *raft = store.start(config(store.id, &state.budget), 0, 0);
        }
        state
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn raft(&self, at: usize) -> &Raft {
        &self.nodes[at].raft
    }

    pub(crate) fn store(&self, at: usize) -> &Store {
        &self.nodes[at].store
    }

    /// A node that is no member any more lets its log go, and nothing of it is on its way. To be
    /// started again.
    pub(crate) fn leave(&mut self, at: usize) {
        self.lose(|from, to, _| from == at || to == at);
        Arc::make_mut(&mut self.nodes[at]).store.leave();
    }

    /// What is on its way: from, to, what.
    pub(crate) fn letters(&self) -> Vec<(usize, usize, &Message)> {
        self.letters
            .iter()
            .map(|letter| (letter.from, letter.to, letter.message.as_ref()))
            .collect()
    }

    pub(crate) fn lose(&mut self, lost: impl Fn(usize, usize, &Message) -> bool) {
        self.letters.retain(|letter| !lost(letter.from, letter.to, &letter.message));
    }

    pub(crate) fn served(&self) -> &[(NodeId, ReadId, Index)] {
        &self.served
    }

    /// An input of the host that no action covers.
    pub(crate) fn with(&mut self, at: usize, input: impl FnOnce(&mut Raft)) -> Result<(), String> {
        input(&mut Arc::make_mut(&mut self.nodes[at]).raft);
        self.settle(at)?;
        self.forget_the_dead();
        Ok(())
    }
}
