//! The calls and returns of a partition in order of time, to be taken out and put back.

use crate::history::{Operation, Outcome};

/// When an operation is known to be over.
pub(super) fn returned<O, R>(operation: &Operation<O, R>) -> u64 {
    match operation.outcome {
        Outcome::Done(_) => operation.returned.unwrap_or(u64::MAX),
        Outcome::Failed | Outcome::Unknown => u64::MAX,
    }
}

#[derive(Clone, Copy)]
pub(super) enum Event {
    Call(usize),
    Return,
}

/// The node before the first event.
pub(super) const HEAD: usize = 0;
/// The node after the last event.
const END: usize = usize::MAX;

/// The calls and returns that are not explained yet, by time, in a list that forgets nothing: a
/// lifted node keeps its neighbours and goes back where it was.
pub(super) struct List {
    events: Vec<Option<Event>>,
    next: Vec<usize>,
    previous: Vec<usize>,
    calls: Vec<usize>,
    returns: Vec<Option<usize>>,
}

impl List {
    pub(super) fn new<O, R>(operations: &[&Operation<O, R>]) -> Self {
        // Calls sort before returns of the same time: those operations overlap.
        let mut order: Vec<(u64, bool, usize)> = Vec::new();
        for (id, operation) in operations.iter().enumerate() {
            order.push((operation.call, false, id));
            if operation.answer().is_some() {
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

    pub(super) fn next(&self, node: usize) -> usize {
        self.next[node]
    }

    pub(super) fn event(&self, node: usize) -> Option<Event> {
        self.events.get(node).copied().flatten()
    }

    pub(super) fn call_of(&self, operation: usize) -> usize {
        self.calls[operation]
    }

    pub(super) fn lift(&mut self, operation: usize) {
        self.remove(self.calls[operation]);
        if let Some(node) = self.returns[operation] {
            self.remove(node);
        }
    }

    /// In the opposite order of [`List::lift`], which is what makes the neighbours right.
    pub(super) fn unlift(&mut self, operation: usize) {
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
