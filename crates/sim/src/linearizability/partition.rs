//! Which operations have to be looked at together.

use std::collections::BTreeMap;

use super::Model;
use crate::history::{Operation, Outcome};

/// Splits the operations that may have taken effect into groups that share no key.
pub(super) fn split<'a, M: Model>(
    model: &M,
    operations: &'a [Operation<M::Op, M::Ret>],
) -> Vec<Vec<&'a Operation<M::Op, M::Ret>>> {
    let effective: Vec<_> =
        operations.iter().filter(|operation| operation.outcome_is_possible()).collect();
    let mut union = Union::default();
    let mut owners: BTreeMap<M::Key, usize> = BTreeMap::new();
    let mut everywhere = Vec::new();
    for (id, operation) in effective.iter().enumerate() {
        union.parents.push(id);
        let keys = model.keys(&operation.op);
        if keys.is_empty() {
            everywhere.push(id);
        }
        for key in keys {
            let owner = *owners.entry(key).or_insert(id);
            union.join(owner, id);
        }
    }
    if let Some(first) = everywhere.first() {
        (0..effective.len()).for_each(|id| union.join(*first, id));
    }
    let mut groups: BTreeMap<usize, Vec<_>> = BTreeMap::new();
    for (id, operation) in effective.into_iter().enumerate() {
        groups.entry(union.root(id)).or_default().push(operation);
    }
    groups.into_values().collect()
}

impl<O, R> Operation<O, R> {
    fn outcome_is_possible(&self) -> bool {
        !matches!(self.outcome, Outcome::Failed)
    }
}

/// Disjoint sets.
#[derive(Default)]
struct Union {
    parents: Vec<usize>,
}

impl Union {
    fn root(&mut self, mut id: usize) -> usize {
        while self.parents[id] != id {
            self.parents[id] = self.parents[self.parents[id]];
            id = self.parents[id];
        }
        id
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        self.parents[one.max(other)] = one.min(other);
    }
}
