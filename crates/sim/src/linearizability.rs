//! Is there one order of all operations that explains every answer and respects real time?
//!
//! The search is that of Wing and Gong with Lowe's memory of configurations already seen: calls and
//! returns form a linked list; an operation is *lifted* out of it when it is tried as the next one
//! and put back when that leads nowhere. Operations on keys that no operation connects are checked
//! apart from each other (linearizability is local), which is what makes it fast. Two things more
//! keep the search short:
//!
//! - what changes nothing is placed as soon as it fits, and nothing else is tried in its stead: if
//!   there is an order with it further back, there is one with it here;
//! - where the system numbers its states, operations that know their number are tried in this order
//!   only. That asks for more than linearizability: the numbers have to be true as well.
//!
//! **Invariant:** an operation that failed for sure is not in the search; one whose outcome is
//! unknown may come at any time after its call, or not at all.
//! **Invariant:** no order is found that contradicts the numbers of the states that operations made
//! or saw ([`Operation::at`]). Across partitions, [`check_numbers`] compares them.
//! **Invariant:** equal times count as overlapping, so that a coarse clock never accuses.
//! **Invariant:** a search that is too long says so; it is neither a proof nor a violation.

mod counterexample;
pub mod kv;
mod list;
pub mod lock;
mod partition;
mod search;

#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::hash::Hash;

pub use counterexample::Counterexample;

use crate::history::{History, Operation};

/// What a system should do, one operation at a time.
pub trait Model {
    /// What an operation may find and leave. Two that are equal behave the same from then on.
    type State: Clone + Debug + Eq + Hash;
    /// What is asked.
    type Op: Clone + Debug;
    /// What is answered.
    type Ret: Clone + Debug;
    /// Operations that share no key, directly or over others, do not influence each other.
    type Key: Clone + Ord;

    /// The state before the first operation.
    fn initial(&self) -> Self::State;

    /// The keys that an operation depends on or changes. None at all means all of them.
    fn keys(&self, op: &Self::Op) -> Vec<Self::Key>;

    /// The state after `op` answered `ret` in `state`, or `None` if it cannot have answered that.
    /// `ret` is `None` where nobody knows the answer.
    fn step(
        &self,
        state: &Self::State,
        op: &Self::Op,
        ret: Option<&Self::Ret>,
    ) -> Option<Self::State>;

    /// Whether an operation that answered this changes nothing, whatever the state is.
    fn is_read(&self, op: &Self::Op, ret: &Self::Ret) -> bool;
}

/// What a check found.
#[derive(Clone, Debug)]
pub enum Verdict<M: Model> {
    /// There is an order. `steps` says how long it took to find.
    Linearizable {
        /// Operations tried, over all partitions.
        steps: u64,
    },
    /// There is none.
    Violation(Box<Counterexample<M>>),
    /// The search was longer than allowed. Nothing is known.
    GaveUp {
        /// Operations tried, over all partitions.
        steps: u64,
    },
}

impl<M: Model> Verdict<M> {
    /// Panics unless the history is linearizable, with the counterexample as the text.
    ///
    /// # Panics
    ///
    /// On a violation, and when the search gave up.
    #[track_caller]
    pub fn demand(&self) {
        match self {
            Self::Linearizable { .. } => (),
            Self::Violation(counterexample) => panic!("{counterexample}"),
            Self::GaveUp { steps } => {
                panic!("gave up after {steps} steps: record fewer concurrent operations per key")
            }
        }
    }

    /// True if an order was found.
    #[must_use]
    pub fn is_linearizable(&self) -> bool {
        matches!(self, Self::Linearizable { .. })
    }

    /// True if there is no order.
    #[must_use]
    pub fn is_violation(&self) -> bool {
        matches!(self, Self::Violation(_))
    }
}

/// Checks a history; `budget` bounds the number of operations tried over all partitions.
#[must_use]
pub fn check<M: Model>(model: &M, history: &History<M::Op, M::Ret>, budget: u64) -> Verdict<M> {
    let mut left = budget;
    let mut gave_up = false;
    for part in partition::split(model, history.operations()) {
        let part: Vec<&Operation<M::Op, M::Ret>> = part;
        match search::search(model, &part, &mut left) {
            search::Found::Order => (),
            search::Found::None(counterexample) => return Verdict::Violation(counterexample),
            search::Found::NotYet => gave_up = true,
        }
    }
    let steps = budget - left;
    if gave_up { Verdict::GaveUp { steps } } else { Verdict::Linearizable { steps } }
}

/// Compares the numbers of states with real time, over all keys: what is called after something has
/// returned makes or sees no lower one.
///
/// # Errors
///
/// Two operations that contradict each other, the one that returned first and the one after it.
pub fn check_numbers<O: Clone, R: Clone>(
    history: &History<O, R>,
) -> Result<(), Contradiction<O, R>> {
    let numbered = || history.operations().iter().filter(|operation| operation.at.is_some());
    let mut by_call: Vec<_> = numbered().collect();
    by_call.sort_by_key(|operation| operation.call);
    let mut by_return: Vec<_> =
        numbered().filter(|operation| operation.answer().is_some()).collect();
    by_return.sort_by_key(|operation| operation.returned);
    let mut over = by_return.into_iter().peekable();
    let mut highest: Option<&Operation<O, R>> = None;
    for later in by_call {
        while let Some(earlier) = over.next_if(|earlier| earlier.returned < Some(later.call)) {
            highest = highest.filter(|highest| earlier.at <= highest.at).or(Some(earlier));
        }
        if let Some(earlier) = highest.filter(|earlier| later.at < earlier.at) {
            return Err((earlier.clone(), later.clone()));
        }
    }
    Ok(())
}

/// Two operations that cannot both be true, by the time at which they happened.
pub type Contradiction<O, R> = (Operation<O, R>, Operation<O, R>);
