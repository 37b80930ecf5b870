//! Clusters in which the test decides what happens, step by step. Nodes are 1, 2, 3 …; every step
//! is checked by the oracle.

pub(crate) mod bugs;
mod paper;
pub(crate) mod process;

use std::collections::BTreeSet;

use consensus::{Change, Index, Message, NodeId, Raft, RoleName, Term};

use crate::explore::state::{Action, Budget, State};

pub(crate) struct Cluster {
    state: State,
    /// Nobody hears them and they hear nobody.
    cut: BTreeSet<usize>,
    /// Their disks do not finish.
    stuck: BTreeSet<usize>,
}

fn plenty() -> Budget {
    Budget {
        timeouts: 100,
        retries: 100,
        proposals: 100,
        reads: 100,
        crashes: 100,
        repeats: 100,
        compactions: 100,
        transfers: 100,
        one_by_one: false,
        changes: Vec::new(),
    }
}

impl Cluster {
    pub(crate) fn of(voters: u64) -> Self {
        Self::with(State::new(voters, 0, plenty()))
    }

    /// Some more nodes that are no members yet.
    pub(crate) fn with_others(voters: u64, others: u64) -> Self {
        Self::with(State::new(voters, others, plenty()))
    }

    /// With appends of one entry each.
    pub(crate) fn one_by_one(voters: u64) -> Self {
        Self::with(State::new(voters, 0, Budget { one_by_one: true, ..plenty() }))
    }

    pub(crate) fn with_logs(logs: &[&[u64]]) -> Self {
        Self::with(State::with_logs(logs, plenty()))
    }

    fn with(state: State) -> Self {
        Self { state, cut: BTreeSet::new(), stuck: BTreeSet::new() }
    }

    #[track_caller]
    fn act(&mut self, action: Action) -> bool {
        match self.state.after(action) {
            Ok(Some(state)) => {
                self.state = state;
                let cut = &self.cut;
                self.state.lose(|from, to, _| cut.contains(&(from + 1)) || cut.contains(&(to + 1)));
                true
            }
            Ok(None) => false,
            Err(violation) => panic!("{action:?}: {violation}"),
        }
    }

    /// Messages arrive and disks finish until nothing is left.
    #[track_caller]
    pub(crate) fn settle(&mut self) {
        self.settle_but(|_, _, _| false);
    }

    /// The same, but these messages stay on their way.
    #[track_caller]
    pub(crate) fn settle_but(&mut self, keep: impl Fn(usize, usize, &Message) -> bool) {
        for turn in 0..10_000 {
            let due =
                |(from, to, message): &(usize, usize, &Message)| !keep(from + 1, to + 1, message);
            // Taking turns: no message waits forever.
            let letters = self.state.letters();
            let due: Vec<usize> = (0..letters.len()).filter(|at| due(&letters[*at])).collect();
            let letter = (!due.is_empty()).then(|| due[turn % due.len()]);
            let disk = self.disks().find(|node| !self.stuck.contains(&(node + 1)));
            match (letter, disk) {
                (Some(letter), _) => self.act(Action::Deliver(letter)),
                (None, Some(node)) => self.act(Action::Sync(node)),
                (None, None) => return,
            };
        }
        panic!("it never settles");
    }

    /// One message arrives.
    #[track_caller]
    pub(crate) fn deliver(&mut self, wanted: impl Fn(usize, usize, &Message) -> bool) {
        let is_it =
            |(from, to, message): &(usize, usize, &Message)| wanted(from + 1, to + 1, message);
        let letter = self.state.letters().iter().position(is_it);
        self.act(Action::Deliver(letter.expect("there is such a message")));
    }

    fn disks(&self) -> impl Iterator<Item = usize> {
        (0..self.len()).filter(|node| !self.state.store(*node).disk.pending.is_empty())
    }

    fn len(&self) -> usize {
        self.state.len()
    }

    #[track_caller]
    pub(crate) fn timeout(&mut self, node: usize) {
        self.act(Action::Timeout(node - 1));
    }

    /// It campaigns and wins.
    #[track_caller]
    pub(crate) fn elect(&mut self, node: usize) {
        // Others give their leader up as well: it is gone for them, too.
        for other in 1..=self.len() {
            if self.cut.contains(&other) {
                continue;
            }
            self.input(other, |raft| {
                raft.step_down();
                if let Some(leader) = raft.leader() {
                    raft.handle_node_silent(leader);
                }
            });
        }
        self.campaign(node, |_, _, _| false);
        assert!(self.leads(node), "{node} leads");
    }

    /// It campaigns until it leads, for it may have to learn the term first; these messages stay on
    /// their way.
    #[track_caller]
    pub(crate) fn campaign(&mut self, node: usize, keep: impl Fn(usize, usize, &Message) -> bool) {
        for _ in 0..3 {
            if !self.leads(node) {
                self.timeout(node);
                self.settle_but(&keep);
            }
        }
    }

    #[track_caller]
    pub(crate) fn input(&mut self, node: usize, input: impl FnOnce(&mut Raft)) {
        self.state.with(node - 1, input).expect("the invariants hold");
        let cut = &self.cut;
        self.state.lose(|from, to, _| cut.contains(&(from + 1)) || cut.contains(&(to + 1)));
    }

    #[track_caller]
    pub(crate) fn propose(&mut self, node: usize) -> bool {
        self.act(Action::Propose(node - 1))
    }

    #[track_caller]
    pub(crate) fn retry(&mut self, node: usize) {
        // Who was heard since the last time is left alone once.
        self.act(Action::Retry(node - 1));
        self.act(Action::Retry(node - 1));
    }

    #[track_caller]
    pub(crate) fn read(&mut self, node: usize) {
        self.act(Action::Read(node - 1));
    }

    /// As of which index its last read was served.
    pub(crate) fn served(&self, node: usize) -> Option<Index> {
        let here = |served: &&(NodeId, _, Index)| served.0 == NodeId(node as u64);
        self.state.served().iter().rev().find(here).map(|(_, _, index)| *index)
    }

    /// The process ends and starts again.
    #[track_caller]
    pub(crate) fn crash(&mut self, node: usize) {
        self.act(Action::Crash(node - 1, 0));
    }

    /// It is no member any more: it lets its log go and starts again.
    #[track_caller]
    pub(crate) fn leave(&mut self, node: usize) {
        self.state.leave(node - 1);
        self.crash(node);
    }

    #[track_caller]
    pub(crate) fn compact(&mut self, node: usize) -> bool {
        self.act(Action::Compact(node - 1))
    }

    #[track_caller]
    pub(crate) fn fetch(&mut self, node: usize) -> bool {
        self.act(Action::Fetched(node - 1))
    }

    #[track_caller]
    pub(crate) fn change(&mut self, node: usize, change: Change) -> bool {
        self.state.budget.changes = vec![change];
        self.act(Action::Change(node - 1))
    }

    /// Several changes as one.
    #[track_caller]
    pub(crate) fn change_all(&mut self, node: usize, changes: &[Change]) {
        self.input(node, |raft| assert!(raft.change(changes).is_ok(), "it leads and may"));
    }

    #[track_caller]
    pub(crate) fn transfer(&mut self, from: usize, to: usize) -> bool {
        self.act(Action::Transfer(from - 1, to - 1))
    }

    pub(crate) fn cut(&mut self, nodes: &[usize]) {
        self.cut = nodes.iter().copied().collect();
        let cut = &self.cut;
        self.state.lose(|from, to, _| cut.contains(&(from + 1)) || cut.contains(&(to + 1)));
    }

    pub(crate) fn stick(&mut self, nodes: &[usize]) {
        self.stuck = nodes.iter().copied().collect();
    }

    pub(crate) fn lose(&mut self, lost: impl Fn(usize, usize, &Message) -> bool) {
        self.state.lose(|from, to, message| lost(from + 1, to + 1, message));
    }

    pub(crate) fn sent(&self, wanted: impl Fn(usize, usize, &Message) -> bool) -> bool {
        self.state.letters().iter().any(|(from, to, message)| wanted(from + 1, to + 1, message))
    }

    pub(crate) fn leads(&self, node: usize) -> bool {
        self.state.raft(node - 1).role() == RoleName::Leader
    }

    pub(crate) fn role(&self, node: usize) -> RoleName {
        self.state.raft(node - 1).role()
    }

    pub(crate) fn term(&self, node: usize) -> Term {
        self.state.raft(node - 1).hard_state().term
    }

    pub(crate) fn commit(&self, node: usize) -> u64 {
        self.state.raft(node - 1).hard_state().commit.0
    }

    pub(crate) fn last(&self, node: usize) -> u64 {
        self.state.raft(node - 1).status().last.0
    }

    /// The terms of its entries, from the first that is left.
    pub(crate) fn log(&self, node: usize) -> Vec<u64> {
        let raft = self.state.raft(node - 1);
        let first = raft.status().base.0 + 1;
        (first..=self.last(node))
            .filter_map(|at| raft.term_at(Index(at)))
            .map(|term| term.0)
            .collect()
    }
}
