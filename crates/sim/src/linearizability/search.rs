//! The search for an order, over one partition.

use std::collections::HashSet;

use super::Model;
use super::counterexample::{Counterexample, Dead};
use crate::history::{Operation, Outcome};

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
    list: List,
    /// Operations that returned, by the time they did.
    returns: Vec<usize>,
    placed: Vec<bool>,
    /// Every return before this one is explained.
    explained: usize,
    /// Placed operations whose return is not yet among the explained ones, sorted.
    ahead: Vec<usize>,
    state: M::State,
    stack: Vec<Placed<M::State>>,
    seen: HashSet<Configuration<M::State>>,
    furthest: usize,
    best: Vec<usize>,
    dead: Vec<Dead<M::State>>,
}

/// What it takes to undo one step.
struct Placed<S> {
    operation: usize,
    state: S,
    explained: usize,
}

/// Looks for an order of `operations`. Every step takes one from `left`.
pub(super) fn search<'a, M: Model>(
    model: &'a M,
    operations: &'a [&'a Operation<M::Op, M::Ret>],
    left: &mut u64,
) -> Found<M> {
    let mut search = Search::new(model, operations);
    let mut cursor = search.list.next(HEAD);
    while search.explained < search.returns.len() {
        if *left == 0 {
            return Found::NotYet;
        }
        match search.list.event(cursor) {
            Some(Event::Call(operation)) => {
                *left -= 1;
                cursor = if search.place(operation) {
                    search.list.next(HEAD)
                } else {
                    search.list.next(cursor)
                };
            }
            // A return whose operation is not placed yet, or the end: nothing that may come next
            // leads on from here.
            Some(Event::Return) | None => {
                search.remember_dead_end();
                match search.undo() {
                    Some(call) => cursor = search.list.next(call),
                    None => return Found::None(Box::new(search.counterexample())),
                }
            }
        }
    }
    Found::Order
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, operations: &'a [&'a Operation<M::Op, M::Ret>]) -> Self {
        let mut returns: Vec<usize> = (0..operations.len())
            .filter(|id| matches!(operations[*id].outcome, Outcome::Done(_)))
            .collect();
        returns.sort_by_key(|id| returned(operations[*id]));
        Self {
            model,
            operations,
            list: List::new(operations),
            returns,
            placed: vec![false; operations.len()],
            explained: 0,
            ahead: Vec::new(),
            state: model.initial(),
            stack: Vec::new(),
            seen: HashSet::new(),
            furthest: 0,
            best: Vec::new(),
            dead: Vec::new(),
        }
    }

    /// Tries an operation as the next one.
    fn place(&mut self, operation: usize) -> bool {
        let Operation { op, outcome, .. } = self.operations[operation];
        let answer = match outcome {
            Outcome::Done(answer) => Some(answer),
            Outcome::Failed | Outcome::Unknown => None,
        };
        let Some(state) = self.model.step(&self.state, op, answer) else { return false };
        if answer.is_none() && state == self.state {
            // It need not have happened, and would change nothing: later is at least as good.
            return false;
        }
        let explained = self.explained;
        self.mark(operation);
        if !self.seen.insert((self.explained, self.ahead.as_slice().into(), state.clone())) {
            self.unmark(operation, explained);
            return false;
        }
        self.list.lift(operation);
        let state = std::mem::replace(&mut self.state, state);
        self.stack.push(Placed { operation, state, explained });
        if self.furthest < self.explained {
            self.furthest = self.explained;
            self.best = self.stack.iter().map(|placed| placed.operation).collect();
            self.dead.clear();
        }
        true
    }

    fn mark(&mut self, operation: usize) {
        self.placed[operation] = true;
        let at = self.ahead.partition_point(|other| *other < operation);
        self.ahead.insert(at, operation);
        while let Some(next) = self.returns.get(self.explained).copied()
            && self.placed[next]
        {
            self.ahead.retain(|other| *other != next);
            self.explained += 1;
        }
    }

    fn unmark(&mut self, operation: usize, explained: usize) {
        self.ahead.extend(&self.returns[explained..self.explained]);
        self.ahead.retain(|other| *other != operation);
        self.ahead.sort_unstable();
        self.explained = explained;
        self.placed[operation] = false;
    }

    /// Takes the last placed operation back and says where its call stands in the list.
    fn undo(&mut self) -> Option<usize> {
        let Placed { operation, state, explained } = self.stack.pop()?;
        self.state = state;
        self.unmark(operation, explained);
        self.list.unlift(operation);
        Some(self.list.call_of(operation))
    }

    fn remember_dead_end(&mut self) {
        if self.explained == self.furthest && self.dead.len() < SHOWN_DEAD_ENDS {
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

/// When an operation is known to be over.
fn returned<O, R>(operation: &Operation<O, R>) -> u64 {
    match operation.outcome {
        Outcome::Done(_) => operation.returned.unwrap_or(u64::MAX),
        Outcome::Failed | Outcome::Unknown => u64::MAX,
    }
}

#[derive(Clone, Copy)]
enum Event {
    Call(usize),
    Return,
}

/// The node before the first event.
const HEAD: usize = 0;
/// The node after the last event.
const END: usize = usize::MAX;

/// The calls and returns that are not explained yet, by time, in a list that forgets nothing: a
/// lifted node keeps its neighbours and goes back where it was.
struct List {
    events: Vec<Option<Event>>,
    next: Vec<usize>,
    previous: Vec<usize>,
    calls: Vec<usize>,
    returns: Vec<Option<usize>>,
}

impl List {
    fn new<O, R>(operations: &[&Operation<O, R>]) -> Self {
        // Calls sort before returns of the same time: those operations overlap.
        let mut order: Vec<(u64, bool, usize)> = Vec::new();
        for (id, operation) in operations.iter().enumerate() {
            order.push((operation.call, false, id));
            if matches!(operation.outcome, Outcome::Done(_)) {
                order.push((returned(operation).max(operation.call), true, id));
            }
        }
        order.sort_unstable();
        let mut list = Self {
            events: vec![None],
            next: vec![END],
            previous: vec![HEAD],
            calls: vec![0; operations.len()],
            returns: vec![None; operations.len()],
        };
        for (_, is_return, operation) in order {
            let node = list.events.len();
            list.events.push(Some(if is_return { Event::Return } else { Event::Call(operation) }));
            list.next[node - 1] = node;
            list.next.push(END);
            list.previous.push(node - 1);
            if is_return {
                list.returns[operation] = Some(node);
            } else {
                list.calls[operation] = node;
            }
        }
        list
    }

    fn next(&self, node: usize) -> usize {
        self.next[node]
    }

    fn event(&self, node: usize) -> Option<Event> {
        self.events.get(node).copied().flatten()
    }

    fn call_of(&self, operation: usize) -> usize {
        self.calls[operation]
    }

    fn lift(&mut self, operation: usize) {
        self.remove(self.calls[operation]);
        if let Some(node) = self.returns[operation] {
            self.remove(node);
        }
    }

    /// In the opposite order of [`List::lift`], which is what makes the neighbours right.
    fn unlift(&mut self, operation: usize) {
        if let Some(node) = self.returns[operation] {
            self.restore(node);
        }
        self.restore(self.calls[operation]);
    }

    fn remove(&mut self, node: usize) {
        let (previous, next) = (self.previous[node], self.next[node]);
        self.next[previous] = next;
        if next != END {
            self.previous[next] = previous;
        }
    }

    fn restore(&mut self, node: usize) {
        let (previous, next) = (self.previous[node], self.next[node]);
        self.next[previous] = node;
        if next != END {
            self.previous[next] = node;
        }
    }
}
