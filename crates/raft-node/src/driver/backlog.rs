//! What the apply task had no room for, in order.

use std::collections::{BTreeMap, VecDeque};

use consensus::GroupId;

use crate::apply::ApplyInput;

/// Commits of a group become one, so there is no more of them than there are groups.
#[derive(Default)]
pub(super) struct Backlog {
    inputs: VecDeque<ApplyInput>,
    /// How many have left: the number of the first that waits.
    gone: usize,
    /// The number of the commit that a later one of its group joins.
    commits: BTreeMap<GroupId, usize>,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    pub(super) fn push(&mut self, input: ApplyInput) {
        let number = self.gone + self.inputs.len();
        match input {
            ApplyInput::Commit { group, through, mut waiters } => {
                let at = self.commits.get(&group).map(|number| number - self.gone);
                if let Some(ApplyInput::Commit { through: known, waiters: others, .. }) =
                    at.and_then(|at| self.inputs.get_mut(at))
                {
                    *known = through;
                    others.append(&mut waiters);
                    return;
                }
                self.commits.insert(group, number);
                self.inputs.push_back(ApplyInput::Commit { group, through, waiters });
            }
            // A read that waits sees what is committed later, too.
            ApplyInput::Visit { .. } => self.inputs.push_back(input),
            // What is committed behind a snapshot must not come before it.
            other => {
                self.commits.remove(&other.group());
                self.inputs.push_back(other);
            }
        }
    }

    pub(super) fn pop(&mut self) -> Option<ApplyInput> {
        let input = self.inputs.pop_front()?;
        if self.commits.get(&input.group()) == Some(&self.gone) {
            self.commits.remove(&input.group());
        }
        self.gone += 1;
        Some(input)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use consensus::{Index, SnapshotMeta, Ticket};

    use super::*;
    use crate::apply::FetchedFile;

    fn commit(group: u64, through: u64) -> ApplyInput {
        let (group, through) = (GroupId(group), Index(through));
        ApplyInput::Commit { group, through, waiters: Vec::new() }
    }

    fn visit(group: u64) -> ApplyInput {
        ApplyInput::Visit { group: GroupId(group), from: Index(1), visits: Vec::new() }
    }

    fn install(group: u64) -> ApplyInput {
        let snapshot = SnapshotMeta {
            index: Index(9),
            term: consensus::Term(1),
            membership: std::sync::Arc::default(),
        };
        let file = FetchedFile { ticket: Ticket(1), snapshot, bytes: Bytes::new() };
        ApplyInput::Install { group: GroupId(group), file }
    }

    fn popped(backlog: &mut Backlog) -> Option<(u64, &'static str, u64)> {
        Some(match backlog.pop()? {
            ApplyInput::Commit { group, through, .. } => (group.0, "commit", through.0),
            ApplyInput::Visit { group, .. } => (group.0, "visit", 0),
            other => (other.group().0, "other", 0),
        })
    }

    fn all(backlog: &mut Backlog) -> Vec<(u64, &'static str, u64)> {
        std::iter::from_fn(|| popped(backlog)).collect()
    }

    #[test]
    fn commits_of_a_group_become_one_whatever_stands_between_them() {
        let mut backlog = Backlog::default();
        for through in 1..=100 {
            (1..=3).for_each(|group| backlog.push(commit(group, through)));
        }
        backlog.push(visit(1));
        backlog.push(commit(1, 101));
        let expected =
            [(1, "commit", 101), (2, "commit", 100), (3, "commit", 100), (1, "visit", 0)];
        assert_eq!(all(&mut backlog), expected);
    }

    #[test]
    fn no_commit_overtakes_a_snapshot() {
        let mut backlog = Backlog::default();
        [commit(1, 5), install(1), commit(2, 1), commit(1, 10), commit(1, 11), commit(2, 2)]
            .into_iter()
            .for_each(|input| backlog.push(input));
        let expected = [(1, "commit", 5), (1, "other", 0), (2, "commit", 2), (1, "commit", 11)];
        assert_eq!(all(&mut backlog), expected);
    }

    #[test]
    fn what_has_left_is_joined_by_nothing() {
        let mut backlog = Backlog::default();
        backlog.push(commit(1, 1));
        backlog.push(commit(2, 1));
        assert_eq!(popped(&mut backlog), Some((1, "commit", 1)));
        backlog.push(commit(1, 2));
        backlog.push(commit(2, 2));
        assert_eq!(all(&mut backlog), [(2, "commit", 2), (1, "commit", 2)]);
        assert!(backlog.is_empty());
    }
}
