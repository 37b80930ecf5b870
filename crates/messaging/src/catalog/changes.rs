//! What changed lately, so that a node does not have to compare everything with everything.

use std::collections::BTreeSet;

use consensus::{GroupId, NodeId};
use imbl::Vector;

use crate::ids::Name;

/// Changes that are remembered. Whoever is further behind looks at everything.
pub const MAX_CHANGES: usize = 4_096;

/// Something that changed, came or went.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touched {
    /// A broker.
    Broker(NodeId),
    /// A topic or one of its subscriptions.
    Topic(Name),
    /// A queue.
    Queue(Name),
    /// The groups in which streams live.
    Streams,
    /// Where a group lives, or which of its copies are to go.
    Group(GroupId),
}

/// The latest changes, the newest last. Not part of the replicated state: a node that takes over
/// a snapshot begins without any.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes(Vector<Touched>);

impl Changes {
    pub(super) fn push(&mut self, touched: Touched) {
        self.0.push_back(touched);
        if MAX_CHANGES < self.0.len() {
            self.0.pop_front();
        }
    }

    /// The last ones, each thing once. `None` if so many are not remembered.
    pub(super) fn last(&self, count: u64) -> Option<Vec<Touched>> {
        let skipped = self.0.len().checked_sub(usize::try_from(count).ok()?)?;
        let distinct: BTreeSet<_> = self.0.iter().skip(skipped).collect();
        Some(distinct.into_iter().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_changes_are_remembered_and_each_thing_is_named_once() {
        let mut changes = Changes::default();
        for group in 0..MAX_CHANGES as u64 + 10 {
            changes.push(Touched::Group(GroupId(group / 2)));
        }
        assert_eq!(changes.last(0), Some(Vec::new()));
        assert_eq!(changes.last(4).map(|touched| touched.len()), Some(2));
        assert!(changes.last(MAX_CHANGES as u64).is_some());
        assert_eq!(changes.last(MAX_CHANGES as u64 + 1), None);
    }
}
