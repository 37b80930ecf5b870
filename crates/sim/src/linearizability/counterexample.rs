//! Why there is no order, for people.

use std::fmt::{self, Debug, Display};

use super::Model;
use crate::history::{Operation, Outcome};

/// How many of the operations before the one that cannot be explained are printed.
const SHOWN_BEFORE: usize = 12;

/// An order that explains every return before the culprit's, but not that one.
#[derive(Clone, Debug)]
pub(super) struct Dead<S> {
    pub(super) order: Vec<usize>,
    pub(super) state: S,
}

/// An operation with its number in its partition.
pub(super) type Numbered<M> = (usize, Operation<<M as Model>::Op, <M as Model>::Ret>);

/// The shortest prefix of a history that no order explains, given what the operations that were
/// still open at its end answered later, and what the numbers of states say of those called later.
#[derive(Clone, Debug)]
pub struct Counterexample<M: Model> {
    /// The operations of one partition that were called before the culprit returned, with their
    /// number in it.
    prefix: Vec<Numbered<M>>,
    culprit: usize,
    best: Vec<usize>,
    dead: Vec<Dead<M::State>>,
}

impl<M: Model> Counterexample<M> {
    pub(super) fn new(
        prefix: Vec<Numbered<M>>,
        culprit: usize,
        best: Vec<usize>,
        dead: Vec<Dead<M::State>>,
    ) -> Self {
        Self { prefix, culprit, best, dead }
    }

    /// The operations of the shortest prefix that has no order.
    pub fn prefix(&self) -> impl Iterator<Item = &Operation<M::Op, M::Ret>> {
        self.prefix.iter().map(|(_, operation)| operation)
    }

    /// The operation with whose return the prefix stops having an order.
    ///
    /// # Panics
    ///
    /// Never: the culprit is part of the prefix.
    #[must_use]
    pub fn culprit(&self) -> &Operation<M::Op, M::Ret> {
        self.operation(self.culprit).expect("the culprit was called before it returned")
    }

    fn operation(&self, id: usize) -> Option<&Operation<M::Op, M::Ret>> {
        let at = self.prefix.binary_search_by_key(&id, |(other, _)| *other).ok()?;
        Some(&self.prefix[at].1)
    }

    /// Operations that nobody could yet place when the culprit returned.
    fn open(&self) -> impl Iterator<Item = &Numbered<M>> {
        self.prefix.iter().filter(|(id, _)| *id != self.culprit && !self.best.contains(id))
    }
}

impl<M: Model> Display for Counterexample<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let culprit = Line(self.culprit, self.culprit());
        writeln!(f, "not linearizable: nothing explains")?;
        writeln!(f, "    {culprit}")?;
        let skipped = self.best.len().saturating_sub(SHOWN_BEFORE);
        writeln!(f, "after this order of what came before ({skipped} more not shown)")?;
        for id in self.best.iter().skip(skipped) {
            if let Some(operation) = self.operation(*id) {
                writeln!(f, "    {}", Line(*id, operation))?;
            }
        }
        if self.open().next().is_some() {
            writeln!(f, "with these still open")?;
            for (id, operation) in self.open() {
                writeln!(f, "    {}", Line(*id, operation))?;
            }
        }
        writeln!(f, "The state could then only be")?;
        for dead in &self.dead {
            let last = dead.order.iter().rev().take(6).rev();
            let last: Vec<String> = last.map(|id| format!("#{id}")).collect();
            writeln!(f, "    {:?}    (… {})", dead.state, last.join(" "))?;
        }
        Ok(())
    }
}

/// `#17  process 3  [1200, 1950]  Get("a") -> Value(Some("1"))`
struct Line<'a, O, R>(usize, &'a Operation<O, R>);

impl<O: Debug, R: Debug> Display for Line<'_, O, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(id, Operation { process, call, returned, op, outcome, at }) = self;
        write!(f, "#{id}  process {process}  [{call}, ")?;
        match (returned, outcome) {
            (Some(at), Outcome::Done(answer)) => write!(f, "{at}]  {op:?} -> {answer:?}")?,
            _ => write!(f, "…]  {op:?} -> unknown")?,
        }
        at.map_or(Ok(()), |at| write!(f, "  in state {at}"))
    }
}
