//! The search for an order, over one partition.

use std::collections::HashSet;

use super::Model;
use super::counterexample::{Counterexample, Dead};
use super::list::{Event, HEAD, List, returned};
use crate::history::Operation;

/// How many of the states that led nowhere a counterexample shows.
const SHOWN_DEAD_ENDS: usize = 8;

pub(super) enum Found<M: Model> {
    Order,
    None(Box<Counterexample<M>>),
    NotYet,
}

/// What identifies a configuration: how many returns are explained, which operations beyond them
/// are already placed, and the state they lead to. The set of placed operations follows from the
/// first two, without a bit per operation.
type Configuration<S> = (usize, Box<[usize]>, S);

struct Search<'a, M: Model> {
    model: &'a M,
    operations: &'a [&'a Operation<M::Op, M::Ret>],
    /// Those that change nothing.
    reads: Vec<bool>,
    list: List,
    /// Operations that returned, by the time they did.
    returns: Vec<usize>,
    /// Operations that know the number of their state, by it.
    numbered: Vec<usize>,
    placed: Vec<bool>,
    progress: Progress,
    /// Placed operations whose return is not yet among the explained ones, sorted.
    ahead: Vec<usize>,
    state: M::State,
    stack: Vec<Placed<M::State>>,
    seen: HashSet<Configuration<M::State>>,
    furthest: usize,
    best: Vec<usize>,
    dead: Vec<Dead<M::State>>,
}

/// How far it has come.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// Every return before this one is explained.
    explained: usize,
    /// Every numbered operation before this one is placed.
    numbered: usize,
}

/// What it takes to undo one step.
struct Placed<S> {
    operation: usize,
    state: S,
    progress: Progress,
    /// Nothing else had to be tried in its stead.
    is_only: bool,
}

/// What came of looking for the next operation.
enum Step {
    /// It is placed: a new configuration.
    Placed,
    /// Not this one; the next to be tried is here in the list.
    Next(usize),
    /// Nothing that may come next leads on.
    DeadEnd,
}

/// Looks for an order of `operations`. Every operation that is tried takes one from `left`.
pub(super) fn search<'a, M: Model>(
    model: &'a M,
    operations: &'a [&'a Operation<M::Op, M::Ret>],
    left: &mut u64,
) -> Found<M> {
    let mut search = Search::new(model, operations);
    // In a configuration that was just reached there is no place in the list yet.
    let mut cursor = None;
    while search.progress.explained < search.returns.len() {
        if *left == 0 {
            return Found::NotYet;
        }
        let step = match cursor {
            None => search.place_read(left),
            Some(node) => search.place_at(node, left),
        };
        cursor = match step {
            Step::Placed => None,
            Step::Next(node) => Some(node),
            Step::DeadEnd => match search.undo() {
                Some(call) => Some(search.list.next(call)),
                None => return Found::None(Box::new(search.counterexample())),
            },
        };
    }
    Found::Order
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, operations: &'a [&'a Operation<M::Op, M::Ret>]) -> Self {
        let ids = || 0..operations.len();
        let mut returns: Vec<usize> =
            ids().filter(|id| operations[*id].answer().is_some()).collect();
        returns.sort_by_key(|id| returned(operations[*id]));
        let mut numbered: Vec<usize> = ids().filter(|id| operations[*id].at.is_some()).collect();
        numbered.sort_by_key(|id| operations[*id].at);
        let is_read = |operation: &&Operation<M::Op, M::Ret>| {
            operation.answer().is_some_and(|answer| model.is_read(&operation.op, answer))
        };
        Self {
            model,
            operations,
            reads: operations.iter().map(is_read).collect(),
            list: List::new(operations),
            returns,
            numbered,
            placed: vec![false; operations.len()],
            progress: Progress::default(),
            ahead: Vec::new(),
            state: model.initial(),
            stack: Vec::new(),
            seen: HashSet::new(),
            furthest: 0,
            best: Vec::new(),
            dead: Vec::new(),
        }
    }

    /// Places an operation that changes nothing and may come now. An order with it further back
    /// stays one when it is moved here, so there is nothing to try in its stead.
    fn place_read(&mut self, left: &mut u64) -> Step {
        let first = self.list.next(HEAD);
        let mut node = first;
        while let Some(Event::Call(operation)) = self.list.event(node) {
            if self.reads[operation] && self.is_its_turn(operation) {
                *left = left.saturating_sub(1);
                if let Some(state) = self.after(operation) {
                    let is_new = self.place(operation, state, true);
                    return if is_new { Step::Placed } else { Step::DeadEnd };
                }
            }
            node = self.list.next(node);
        }
        Step::Next(first)
    }

    /// Tries what stands here in the list as the next operation.
    fn place_at(&mut self, node: usize, left: &mut u64) -> Step {
        // A return whose operation is not placed yet, or the end.
        let Some(Event::Call(operation)) = self.list.event(node) else {
            self.remember_dead_end();
            return Step::DeadEnd;
        };
        *left -= 1;
        if self.is_its_turn(operation)
            && let Some(state) = self.after(operation)
            && self.place(operation, state, false)
        {
            return Step::Placed;
        }
        Step::Next(self.list.next(node))
    }

    /// Whether no operation with a lower number still has to come.
    fn is_its_turn(&self, operation: usize) -> bool {
        let number = self.operations[operation].at;
        let lowest = self.numbered.get(self.progress.numbered);
        number.is_none() || number == lowest.and_then(|id| self.operations[*id].at)
    }

    /// The state after an operation, if it may come next.
    fn after(&self, operation: usize) -> Option<M::State> {
        let operation = self.operations[operation];
        let state = self.model.step(&self.state, &operation.op, operation.answer())?;
        let is_optional = operation.answer().is_none() && operation.at.is_none();
        // It need not have happened, and would change nothing: later is at least as good.
        (!is_optional || state != self.state).then_some(state)
    }

    /// False if this configuration led nowhere before.
    fn place(&mut self, operation: usize, state: M::State, is_only: bool) -> bool {
        let progress = self.progress;
        self.mark(operation);
        let configuration = (self.progress.explained, self.ahead.as_slice().into(), state.clone());
        if !self.seen.insert(configuration) {
            self.unmark(operation, progress);
            return false;
        }
        self.list.lift(operation);
        let state = std::mem::replace(&mut self.state, state);
        self.stack.push(Placed { operation, state, progress, is_only });
        if self.furthest < self.progress.explained {
            self.furthest = self.progress.explained;
            self.best = self.stack.iter().map(|placed| placed.operation).collect();
            self.dead.clear();
        }
        true
    }

    fn mark(&mut self, operation: usize) {
        self.placed[operation] = true;
        let at = self.ahead.partition_point(|other| *other < operation);
        self.ahead.insert(at, operation);
        let Progress { explained, numbered } = &mut self.progress;
        while let Some(next) = self.returns.get(*explained).copied()
            && self.placed[next]
        {
            self.ahead.retain(|other| *other != next);
            *explained += 1;
        }
        while self.numbered.get(*numbered).is_some_and(|next| self.placed[*next]) {
            *numbered += 1;
        }
    }

    fn unmark(&mut self, operation: usize, before: Progress) {
        self.ahead.extend(&self.returns[before.explained..self.progress.explained]);
        self.ahead.retain(|other| *other != operation);
        self.ahead.sort_unstable();
        self.progress = before;
        self.placed[operation] = false;
    }

    /// Takes back what was placed last in the stead of something else, and says where its call
    /// stands in the list.
    fn undo(&mut self) -> Option<usize> {
        loop {
            let Placed { operation, state, progress, is_only } = self.stack.pop()?;
            self.state = state;
            self.unmark(operation, progress);
            self.list.unlift(operation);
            if !is_only {
                return Some(self.list.call_of(operation));
            }
        }
    }

    fn remember_dead_end(&mut self) {
        if self.progress.explained == self.furthest && self.dead.len() < SHOWN_DEAD_ENDS {
            let order = self.stack.iter().map(|placed| placed.operation).collect();
            let dead = Dead { order, state: self.state.clone() };
            if self.dead.iter().all(|other| other.state != dead.state) {
                self.dead.push(dead);
            }
        }
    }

    fn counterexample(self) -> Counterexample<M> {
        let culprit = self.returns[self.furthest];
        let end = returned(self.operations[culprit]);
        let prefix = (0..self.operations.len())
            .filter(|id| self.operations[*id].call <= end)
            .map(|id| (id, self.operations[id].clone()))
            .collect();
        Counterexample::new(prefix, culprit, self.best, self.dead)
    }
}
