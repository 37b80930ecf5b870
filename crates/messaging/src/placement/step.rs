//! The next change of a group's members.

use consensus::NodeId;

use super::GroupView;
use crate::catalog::{Move, Placement};

/// A leader that is newer than this does not hand over to the preferred one: leading has just
/// moved, mostly because something failed.
const CALM_MS: u64 = 30_000;

/// What a group's leader does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Lets this node have the log.
    AddLearner(NodeId),
    /// Changes who votes, both at once.
    Finish {
        /// A learner that has everything.
        promote: Option<NodeId>,
        /// A voter or learner.
        remove: Option<NodeId>,
    },
    /// Proposes that the move is over: `EndMove` with the placement's generation.
    End {
        /// Whether the members have changed.
        done: bool,
    },
    /// Lets another lead.
    Transfer(NodeId),
    /// Looks again later.
    Wait,
}

/// What the leader `here` of a group does next for its placement.
///
/// # Who calls
///
/// The leader of the group, with what it knows of it, in this order and in one term:
///
/// 1. it leads, and has applied an entry of its term;
/// 2. it looks at the group, and then asks the catalog behind a read barrier;
/// 3. a change of members is proposed in that term only, and one at a time;
/// 4. before [`Step::End`] is proposed to the catalog, a barrier of the group confirms that this
///    node still leads it.
///
/// So what a deposed leader believes comes to nothing: its changes are in no majority's log, and
/// a placement that it read is older than its successor's. A cancelled move in particular is
/// declared undone by a leader of which every later one knows the cancellation. Without 2 or 4
/// a successor could promote a node while the catalog tells it to remove its copy.
#[must_use]
pub fn step(placement: &Placement, here: NodeId, view: &GroupView) -> Step {
    if !view.settled {
        return Step::Wait;
    }
    match placement.move_ {
        Some(moving) if moving.cancelled => undo(moving, here, view),
        Some(moving) => go_on(moving, here, view),
        None => rest(placement, here, view),
    }
}

fn go_on(Move { add, remove, .. }: Move, here: NodeId, view: &GroupView) -> Step {
    let remove = remove.filter(|node| view.voters.contains(node));
    match add.filter(|node| !view.voters.contains(node)) {
        None if remove.is_none() => Step::End { done: true },
        None => finish(None, remove, here, view),
        Some(node) if !view.learners.contains(&node) => Step::AddLearner(node),
        Some(node) if view.has(node, view.asked) => finish(Some(node), remove, here, view),
        Some(_) => Step::Wait,
    }
}

/// Only as far as it can still be undone: whoever votes may have been needed for a commit.
fn undo(Move { add, remove, .. }: Move, here: NodeId, view: &GroupView) -> Step {
    let arrived = add.is_some_and(|node| view.voters.contains(&node));
    let departed = remove.is_some_and(|node| !view.voters.contains(&node));
    let learner = add.filter(|node| view.learners.contains(node));
    match learner {
        Some(node) => Step::Finish { promote: None, remove: Some(node) },
        None if departed || (arrived && remove.is_none()) => Step::End { done: true },
        None if arrived => finish(None, remove, here, view),
        None => Step::End { done: false },
    }
}

/// Changes voters only if a majority of those that remain is heard: the change itself would
/// otherwise be the end of the group.
fn finish(promote: Option<NodeId>, remove: Option<NodeId>, here: NodeId, view: &GroupView) -> Step {
    let stay = view.voters.iter().copied().filter(|node| Some(*node) != remove);
    let after: Vec<_> = stay.chain(promote).collect();
    let heard = after.iter().filter(|node| view.hears(here, **node)).count();
    if after.len() < 2 * heard { Step::Finish { promote, remove } } else { Step::Wait }
}

fn rest(placement: &Placement, here: NodeId, view: &GroupView) -> Step {
    let stray = view.learners.iter().find(|node| placement.replica(**node).is_none());
    if let Some(node) = stray {
        return Step::Finish { promote: None, remove: Some(*node) };
    }
    let preferred = placement.preferred;
    let may_lead = preferred != here && view.voters.contains(&preferred);
    if may_lead && CALM_MS <= view.term_age_ms && view.has(preferred, view.commit) {
        return Step::Transfer(preferred);
    }
    Step::Wait
}

#[cfg(test)]
mod tests {
    use consensus::Index;

    use super::*;
    use crate::catalog::{Kind, Replica};

    const A: NodeId = NodeId(1);
    const D: NodeId = NodeId(4);

    fn placement(replicas: &[u64], move_: Option<Move>) -> Placement {
        let nodes = replicas.iter().copied().map(NodeId);
        Placement {
            kind: Kind::Queue { name: "q".parse().unwrap() },
            wanted: 3,
            founders: nodes.clone().collect(),
            replicas: nodes.map(|node| Replica { node, since: 0, damaged: false }).collect(),
            preferred: A,
            move_,
            generation: 1,
            left: Vec::new(),
        }
    }

    fn view(voters: &[u64], learners: &[u64], heard: &[(u64, u64)]) -> GroupView {
        let nodes = |nodes: &[u64]| nodes.iter().copied().map(NodeId).collect();
        GroupView {
            voters: nodes(voters),
            learners: nodes(learners),
            settled: true,
            commit: Index(10),
            asked: Index(9),
            matched: heard.iter().map(|(node, has)| (NodeId(*node), (Index(*has), true))).collect(),
            term_age_ms: CALM_MS,
        }
    }

    fn moving(cancelled: bool) -> Option<Move> {
        Some(Move { add: Some(D), remove: Some(A), since_ms: 0, cancelled })
    }

    #[test]
    fn a_move_goes_from_learner_to_voter_to_end() {
        let placement = placement(&[1, 2, 3], moving(false));
        let look = |view: &GroupView| step(&placement, NodeId(2), view);
        assert_eq!(look(&view(&[1, 2, 3], &[], &[(1, 10), (3, 10)])), Step::AddLearner(D));
        assert_eq!(look(&view(&[1, 2, 3], &[4], &[(3, 10), (4, 8)])), Step::Wait);
        let finish = Step::Finish { promote: Some(D), remove: Some(A) };
        assert_eq!(look(&view(&[1, 2, 3], &[4], &[(3, 10), (4, 9)])), finish);
        assert_eq!(look(&view(&[2, 3, 4], &[], &[])), Step::End { done: true });
        let unsettled = GroupView { settled: false, ..view(&[2, 3, 4], &[], &[]) };
        assert_eq!(look(&unsettled), Step::Wait);
    }

    #[test]
    fn a_change_that_would_silence_the_group_waits() {
        let shrink = Some(Move { add: None, remove: Some(A), since_ms: 0, cancelled: false });
        let placement = placement(&[1, 2, 3], shrink);
        assert_eq!(step(&placement, NodeId(2), &view(&[1, 2, 3], &[], &[(1, 10)])), Step::Wait);
        let heard = view(&[1, 2, 3], &[], &[(3, 10)]);
        let finish = Step::Finish { promote: None, remove: Some(A) };
        assert_eq!(step(&placement, NodeId(2), &heard), finish);
    }

    #[test]
    fn a_cancelled_move_is_undone_while_nothing_depends_on_it() {
        let placement = placement(&[1, 2, 3], moving(true));
        let look = |view: &GroupView| step(&placement, NodeId(2), view);
        let undo = Step::Finish { promote: None, remove: Some(D) };
        assert_eq!(look(&view(&[1, 2, 3], &[4], &[])), undo);
        assert_eq!(look(&view(&[1, 2, 3], &[], &[])), Step::End { done: false });
        assert_eq!(look(&view(&[2, 3, 4], &[], &[])), Step::End { done: true });
    }

    #[test]
    fn the_preferred_one_leads_when_it_has_everything_and_all_is_calm() {
        let placement = placement(&[1, 2, 3], None);
        let look = |view: &GroupView| step(&placement, NodeId(2), view);
        assert_eq!(look(&view(&[1, 2, 3], &[], &[(1, 10)])), Step::Transfer(A));
        assert_eq!(look(&view(&[1, 2, 3], &[], &[(1, 9)])), Step::Wait);
        let young = GroupView { term_age_ms: 5, ..view(&[1, 2, 3], &[], &[(1, 10)]) };
        assert_eq!(look(&young), Step::Wait);
        assert_eq!(step(&placement, A, &view(&[1, 2, 3], &[], &[])), Step::Wait);
        let stray = Step::Finish { promote: None, remove: Some(D) };
        assert_eq!(look(&view(&[1, 2, 3], &[4], &[])), stray);
    }
}
