//! DOCS
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::sync::Arc;

use super::fate::{Fate, Left};
use super::hash::{Map, hash_of};
use super::plain::Visited;
use super::state::{Action, Budget, History, Letter, Node, State};

/// The number under which a part of a state is kept.
type Id = u32;

/// The largest cluster.
const NODES: usize = 3;

/// Writes that wait for the disk of a node. The core does not get there; a bug may, and would have a
/// search count them.
const MAX_PENDING: usize = 12;

/// A state, in numbers of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Compact {
    nodes: [Id; NODES],
    /// By receiver: what was ever sent to it and may still matter.
    inboxes: [Id; NODES],
    history: Id,
    budget: Id,
}

/// What a state is besides its nodes and its history: budget and inboxes.
type Rest = (Id, [Id; NODES]);

/// Parts of states, each once.
struct Kept<T> {
    ids: Map<u128, Id>,
    all: Vec<T>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { ids: Map::default(), all: Vec::new() }
    }
}

impl<T> Kept<T> {
    fn id(&mut self, hash: u128, part: impl FnOnce() -> T) -> Id {
        *self.ids.entry(hash).or_insert_with(|| {
            self.all.push(part());
            Id::try_from(self.all.len() - 1).expect("memory ends before")
        })
    }

    fn get(&self, id: Id) -> &T {
        &self.all[id as usize]
    }
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Event {
    Arrival(Id),
    Own(Action),
}

/// What an event does to the node that it happens to.
#[derive(Clone, Debug)]
enum Outcome {
    Nothing,
    /// It only says something.
    Echo(Rc<[Id]>),
    Changed {
        node: Id,
        sent: Rc<[Id]>,
        history: Id,
        /// `None` if it uses nothing up.
        budget: Option<Id>,
    },
    /// What others have decides as well, so it is not remembered.
    Shared,
}

#[derive(Default)]
struct Explorer {
    count: usize,
    nodes: Kept<Arc<Node>>,
    letters: Kept<Letter>,
    inboxes: Kept<Rc<[Id]>>,
    histories: Kept<Arc<History>>,
    budgets: Kept<Budget>,
    /// By node, event, history and budget.
    outcomes: Map<(Id, Event, Id, Id), Outcome>,
    /// An inbox with one more letter.
    larger: Map<(Id, Id), Id>,
    /// What is left of an inbox, by its owner and whether there may be campaigns.
    alive: Map<(Id, Id, Left), Id>,
    /// By nodes and history.
    seen: Map<([Id; NODES], Id), Vec<Rest>>,
    /// By node.
    progress: Vec<i64>,
    /// Something was not followed: more waits for a disk than [`MAX_PENDING`].
    is_bounded: bool,
}

/// What an exploration found.
pub(crate) struct Explored {
    pub(crate) states: usize,
    pub(crate) transitions: u64,
    /// The most that happened on the way to a state.
    pub(crate) depth: usize,
    /// Nothing was left out.
    pub(crate) is_complete: bool,
    pub(crate) violation: Option<String>,
}

/// In which order states are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Those first in which least has happened: what is reached by two ways is known by both before
    /// it is looked at. For clusters that can be exhausted.
    Early,
    /// The newest first, so that a bounded search gets far.
    Deep,
}

/// A state, and how it was first reached.
struct Reached {
    state: Compact,
    from: Option<(Id, Event, usize)>,
    depth: usize,
}

pub(crate) fn explore(first: &State, max_states: usize, order: Order) -> Explored {
    search(first, max_states, order).0
}

/// What the nodes are in all states, and what they are judged by.
pub(super) fn visit(first: &State, order: Order) -> Visited {
    let (explored, explorer) = search(first, usize::MAX, order);
    assert!(explored.is_complete, "{:?}", explored.violation);
    explorer.visited()
}

fn search(first: &State, max_states: usize, order: Order) -> (Explored, Explorer) {
    let mut explorer = Explorer { count: first.nodes.len(), ..Explorer::default() };
    let mut waiting = BinaryHeap::new();
    let mut reached = vec![Reached { state: explorer.compact(first), from: None, depth: 0 }];
    let mut explored =
        Explored { states: 0, transitions: 0, depth: 0, is_complete: true, violation: None };
    explorer.insert(&reached[0].state.clone());
    waiting.push((0, 0));
    while let Some((_, id)) = waiting.pop() {
        let Reached { state, depth, .. } = reached[id as usize];
        if !explorer.is_kept(&state) {
            continue;
        }
        if max_states <= explored.states {
            explored.is_complete = false;
            break;
        }
        explored.states += 1;
        explored.depth = explored.depth.max(depth);
        let mut next = match explorer.successors(&state) {
            Ok(next) => next,
            Err(violation) => {
                explored.violation = Some(explorer.tell(&reached, id, violation));
                explored.is_complete = false;
                break;
            }
        };
        explored.transitions += next.len() as u64;
        let shift = depth % next.len().max(1);
        next.rotate_left(shift);
        for (event, at, state) in next {
            if !explorer.insert(&state) {
                continue;
            }
            let new = Id::try_from(reached.len()).expect("memory ends before");
            let priority = match order {
                Order::Early => -explorer.progress(&state),
                Order::Deep => i64::from(new),
            };
            waiting.push((priority, new));
            reached.push(Reached { state, from: Some((id, event, at)), depth: depth + 1 });
        }
    }
    explored.is_complete &= !explorer.is_bounded;
    (explored, explorer)
}

type Violation = (Event, usize, String);

impl Explorer {
    fn compact(&mut self, state: &State) -> Compact {
        assert!(state.letters.is_empty(), "nothing is on its way yet");
        let mut nodes = [0; NODES];
        for (at, node) in state.nodes.iter().enumerate() {
            nodes[at] = self.node(node);
        }
        let inbox = self.inbox(Vec::new());
        Compact {
            nodes,
            inboxes: [inbox; NODES],
            history: self.history(&state.history),
            budget: self.budget(&state.budget),
        }
    }

    fn node(&mut self, node: &Arc<Node>) -> Id {
        let id = self.nodes.id(node.hash, || node.clone());
        if self.progress.len() < self.nodes.all.len() {
            let status = node.raft.status();
            let progress = 8 * status.term.0
                + status.commit.0
                + status.durable.0
                + status.last.0
                + node.store.disk.hard_state.term.0;
            self.progress.push(progress as i64);
        }
        id
    }

    fn inbox(&mut self, letters: Vec<Id>) -> Id {
        self.inboxes.id(hash_of(&letters), || letters.into())
    }

    fn history(&mut self, history: &History) -> Id {
        self.histories.id(hash_of(history), || Arc::new(history.clone()))
    }

    fn budget(&mut self, budget: &Budget) -> Id {
        self.budgets.id(hash_of(budget), || budget.clone())
    }

    fn visited(&self) -> Visited {
        let visited = |(nodes, history): &([Id; NODES], Id)| {
            let nodes = nodes[..self.count].iter().map(|node| self.nodes.get(*node).hash);
            (nodes.collect(), hash_of(self.histories.get(*history).as_ref()))
        };
        self.seen.keys().map(visited).collect()
    }

    /// How much has happened.
    fn progress(&self, state: &Compact) -> i64 {
        let nodes = state.nodes[..self.count].iter();
        nodes.map(|node| self.progress[*node as usize]).sum()
    }

    /// Nobody was found that can do all that it can do.
    fn is_kept(&self, state: &Compact) -> bool {
        let known = self.seen.get(&(state.nodes, state.history));
        known.is_some_and(|known| known.contains(&(state.budget, state.inboxes)))
    }

    /// False if the state can do nothing that another one cannot.
    fn insert(&mut self, state: &Compact) -> bool {
        let Self { seen, inboxes, budgets, .. } = self;
        let within = |less: &Rest, more: &Rest| {
            let budgets = less.0 == more.0 || budgets.get(less.0).is_within(budgets.get(more.0));
            budgets
                && less.1.iter().zip(&more.1).all(|(less, more)| {
                    less == more || is_subset(inboxes.get(*less), inboxes.get(*more))
                })
        };
        let known = seen.entry((state.nodes, state.history)).or_default();
        let new = (state.budget, state.inboxes);
        if known.iter().any(|known| within(&new, known)) {
            return false;
        }
        known.retain(|known| !within(known, &new));
        known.push(new);
        true
    }

    fn successors(&mut self, state: &Compact) -> Result<Vec<(Event, usize, Compact)>, Violation> {
        let mut found = Vec::new();
        for at in 0..self.count {
            let inbox = self.inboxes.get(state.inboxes[at]).clone();
            for letter in inbox.iter() {
                self.follow(state, at, Event::Arrival(*letter), &mut found)?;
            }
        }
        let mut own = Vec::new();
        let is_first = self.histories.get(state.history).is_first;
        for at in 0..self.count {
            let (node, budget) = (self.nodes.get(state.nodes[at]), self.budgets.get(state.budget));
            node.actions(self.count, budget, !is_first || at == 0, &mut own);
        }
        for action in own {
            self.follow(state, action.at(), Event::Own(action), &mut found)?;
        }
        Ok(found)
    }

    fn follow(
        &mut self,
        state: &Compact,
        at: usize,
        event: Event,
        found: &mut Vec<(Event, usize, Compact)>,
    ) -> Result<(), Violation> {
        let outcome = match self.outcome(state, at, event)? {
            Outcome::Shared => self.run(state, at, event)?,
            known => known,
        };
        if let Outcome::Changed { node, sent, history, budget } = outcome {
            let budget = budget.unwrap_or(state.budget);
            let mut next = Compact { history, budget, ..*state };
            next.nodes[at] = node;
            self.settle(&mut next, at, &sent)?;
            found.push((event, at, next));
        }
        Ok(())
    }

    /// Delivers what was sent, forgets the dead, and lets everybody say at once what needs no
    /// change of anybody.
    fn settle(&mut self, state: &mut Compact, at: usize, sent: &[Id]) -> Result<(), Violation> {
        for node in 0..self.count {
            self.forget_the_dead(state, node);
        }
        let mut todo: Vec<Id> = self.inboxes.get(state.inboxes[at]).to_vec();
        for letter in sent {
            self.post(state, *letter, &mut todo);
        }
        while let Some(letter) = todo.pop() {
            let to = self.letters.get(letter).to;
            if let Outcome::Echo(sent) = self.outcome(state, to, Event::Arrival(letter))? {
                for letter in sent.iter() {
                    self.post(state, *letter, &mut todo);
                }
            }
        }
        Ok(())
    }

    fn left(&self, state: &Compact) -> Left {
        Left::of(self.budgets.get(state.budget))
    }

    fn forget_the_dead(&mut self, state: &mut Compact, at: usize) {
        let left = self.left(state);
        let key = (state.inboxes[at], state.nodes[at], left);
        if let Some(alive) = self.alive.get(&key) {
            state.inboxes[at] = *alive;
            return;
        }
        let letters = self.inboxes.get(state.inboxes[at]).clone();
        let mut alive: Vec<Id> =
            letters.iter().filter_map(|letter| self.remains(state, left, *letter)).collect();
        alive.sort_unstable();
        alive.dedup();
        let alive = self.inbox(alive);
        self.alive.insert(key, alive);
        state.inboxes[at] = alive;
    }

    /// What has to be kept of a letter.
    fn remains(&mut self, state: &Compact, left: Left, id: Id) -> Option<Id> {
        let letter = self.letters.get(id);
        let receiver = self.nodes.get(state.nodes[letter.to]);
        match letter.fate(receiver, left) {
            Fate::Alive => Some(id),
            Fate::Dead => None,
            Fate::Like(message) => {
                let letter = Letter::new(letter.from, letter.to, message);
                Some(self.letters.id(letter.hash, || letter))
            }
        }
    }

    fn post(&mut self, state: &mut Compact, letter: Id, todo: &mut Vec<Id>) {
        let Some(letter) = self.remains(state, self.left(state), letter) else { return };
        let to = self.letters.get(letter).to;
        let inbox = state.inboxes[to];
        let larger = match self.larger.get(&(inbox, letter)) {
            Some(larger) => *larger,
            None => {
                let mut letters = self.inboxes.get(inbox).to_vec();
                if let Err(place) = letters.binary_search(&letter) {
                    letters.insert(place, letter);
                }
                let larger = self.inbox(letters);
                self.larger.insert((inbox, letter), larger);
                larger
            }
        };
        if larger != inbox {
            state.inboxes[to] = larger;
            todo.push(letter);
        }
    }

    fn outcome(&mut self, state: &Compact, at: usize, event: Event) -> Result<Outcome, Violation> {
        let budget = match event {
            Event::Arrival(_) | Event::Own(Action::Sync(_)) => 0,
            Event::Own(_) => state.budget,
        };
        let key = (state.nodes[at], event, state.history, budget);
        if let Some(outcome) = self.outcomes.get(&key) {
            return Ok(outcome.clone());
        }
        let outcome = self.run(state, at, event)?;
        let known = match (event, &outcome) {
            (Event::Own(Action::Fetched(_)), _) => Outcome::Shared,
            (_, Outcome::Changed { history, .. }) if self.is_commit(state.history, *history) => {
                Outcome::Shared
            }
            _ => outcome,
        };
        self.outcomes.insert(key, known.clone());
        Ok(known)
    }

    fn is_commit(&self, before: Id, after: Id) -> bool {
        let committed = |history| self.histories.get(history).oracle.committed();
        committed(before) < committed(after)
    }

    fn whole(&self, state: &Compact) -> State {
        let nodes = state.nodes[..self.count].iter().map(|node| self.nodes.get(*node).clone());
        let history = History::clone(self.histories.get(state.history));
        State::of(nodes.collect(), self.budgets.get(state.budget).clone(), history)
    }

    fn run(&mut self, state: &Compact, at: usize, event: Event) -> Result<Outcome, Violation> {
        let mut whole = self.whole(state);
        let Node { raft, store, .. } = whole.nodes[at].as_ref();
        whole.history.oracle.recall(store.id, raft);
        let action = match event {
            Event::Arrival(letter) => {
                whole.letters.push(self.letters.get(letter).clone());
                Action::Deliver(0)
            }
            Event::Own(action) => action,
        };
        if !whole.step(action).map_err(|text| (event, at, text))? {
            return Ok(Outcome::Nothing);
        }
        if MAX_PENDING < whole.nodes[at].store.disk.pending.len() {
            self.is_bounded = true;
            return Ok(Outcome::Nothing);
        }
        let node = self.node(&whole.nodes[at]);
        let history = self.history(&whole.history);
        let sent = whole.letters.into_iter();
        let sent = sent.map(|letter| self.letters.id(letter.hash, || letter)).collect();
        let is_arrival = matches!(event, Event::Arrival(_));
        if is_arrival && (node, history) == (state.nodes[at], state.history) {
            return Ok(Outcome::Echo(sent));
        }
        let budget = match event {
            Event::Arrival(_) | Event::Own(Action::Sync(_)) => None,
            Event::Own(_) => Some(self.budget(&whole.budget)),
        };
        Ok(Outcome::Changed { node, sent, history, budget })
    }

    fn tell(&self, reached: &[Reached], id: Id, violation: Violation) -> String {
        let (event, at, text) = violation;
        let mut steps = vec![self.describe(event, at)];
        let mut from = reached[id as usize].from;
        while let Some((id, event, at)) = from {
            steps.push(self.describe(event, at));
            from = reached[id as usize].from;
        }
        steps.reverse();
        format!("{text}\nafter\n  {}", steps.join("\n  "))
    }

    fn describe(&self, event: Event, at: usize) -> String {
        match event {
            Event::Arrival(letter) => {
                let Letter { from, message, .. } = self.letters.get(letter);
                format!("{} -> {}: {message:?}", from + 1, at + 1)
            }
            Event::Own(action) => format!("{action:?}"),
        }
    }
}

fn is_subset(less: &[Id], more: &[Id]) -> bool {
    let mut more = more.iter();
    less.len() <= more.len() && less.iter().all(|letter| more.any(|other| other == letter))
}
