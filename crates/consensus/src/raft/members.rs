//! §6: the membership in force is the newest one in the log, committed or not.

use std::sync::Arc;

use super::{Raft, Role};
use crate::effect::Effect;
use crate::entry::{Entry, EntryKind};
use crate::ids::{Index, NodeId};
use crate::membership::{Change, ChangeError, Membership};
use crate::message::{Message, TimeoutNow};
use crate::mutants::{self, Mutant};

/// Every membership that may still matter: the one at the log's base, and those behind it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Memberships(Vec<(Index, Arc<Membership>)>);

impl Memberships {
    pub(super) fn new(mut known: Vec<(Index, Arc<Membership>)>) -> Self {
        if known.is_empty() {
            known.push((Index::ZERO, Arc::default()));
        }
        Self(known)
    }

    fn newest(&self) -> &(Index, Arc<Membership>) {
        self.0.last().expect("there is always one")
    }

    pub(super) fn current(&self) -> &Arc<Membership> {
        if mutants::is(Mutant::MembershipLate) {
            return &self.0[self.0.len().saturating_sub(2)].1;
        }
        &self.newest().1
    }

    /// The entry that put the current one in force.
    pub(super) fn current_index(&self) -> Index {
        self.newest().0
    }

    /// The one in force at an index, and all that came after it.
    fn since(&self, index: Index) -> impl Iterator<Item = &Arc<Membership>> {
        let after = self.0.partition_point(|(since, _)| *since <= index);
        self.0[after.max(1) - 1..].iter().map(|(_, membership)| membership)
    }

    /// The one in force at an index.
    pub(super) fn at(&self, index: Index) -> &Arc<Membership> {
        let after = self.0.partition_point(|(since, _)| *since <= index);
        &self.0[after.max(1) - 1].1
    }

    /// The same, and since which entry.
    pub(super) fn settled(&self, index: Index) -> (Index, Arc<Membership>) {
        let after = self.0.partition_point(|(since, _)| *since <= index);
        self.0[after.max(1) - 1].clone()
    }

    fn push(&mut self, index: Index, membership: Arc<Membership>) {
        self.0.push((index, membership));
    }

    /// True if that changed who is in force.
    fn truncate(&mut self, from: Index) -> bool {
        let keep = self.0.partition_point(|(since, _)| *since < from).max(1);
        let changed = keep < self.0.len();
        self.0.truncate(keep);
        changed
    }

    pub(super) fn compact(&mut self, through: Index) {
        let needed = self.0.partition_point(|(since, _)| *since <= through).max(1) - 1;
        self.0.drain(..needed);
    }

    pub(super) fn reset(&mut self, index: Index, membership: Arc<Membership>) {
        self.0 = vec![(index, membership)];
    }
}

/// A membership change that was not taken: nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeRefused {
    /// Only the leader takes changes.
    #[error("this node does not lead; ask the leader")]
    NotLeader {
        /// If known.
        leader: Option<NodeId>,
    },
    /// The leader is new, or handing over.
    #[error("the leader is not ready for changes yet; repeat shortly")]
    NotReady,
    /// A learner that lags would cost the group its majority.
    #[error("node {node} has {matched} of {needed} entries; promote it when it has caught up")]
    Behind {
        /// Who.
        node: NodeId,
        /// What it has.
        matched: Index,
        /// What it needs.
        needed: Index,
    },
    /// It makes no sense.
    #[error("{0}")]
    Invalid(#[from] ChangeError),
}

impl Raft {
    /// Changes the membership, all changes as one. It is in force at once, and through when the
    /// last [`Effect::Membership`] is not joint and committed. Returns the entry.
    ///
    /// # Errors
    ///
    /// When this node does not lead, another change is under way, or it would do harm.
    pub fn change(&mut self, changes: &[Change]) -> Result<Index, ChangeRefused> {
        self.change_since(changes, self.commit())
    }

    /// Like [`change`](Self::change), for a wish that was uttered when `asked` was the commit index
    /// and may be repeated: whoever has what was committed then is promoted. While writes go on,
    /// nobody but the leader ever has what is committed now.
    ///
    /// # Errors
    ///
    /// As [`change`](Self::change).
    pub fn change_since(
        &mut self,
        changes: &[Change],
        asked: Index,
    ) -> Result<Index, ChangeRefused> {
        let leader = self.leader;
        let Role::Leader(role) = &self.role else {
            return Err(ChangeRefused::NotLeader { leader });
        };
        // Thesis 4.1 and raft-dev 2015: not before an entry of this term is committed.
        if role.transfer.is_some() || self.commit() < role.term_start {
            return Err(ChangeRefused::NotReady);
        }
        let is_through = self.memberships.current_index() <= self.commit();
        if !is_through && !mutants::is(Mutant::SecondChange) {
            return Err(ChangeError::InFlight.into());
        }
        let next = self.membership().change(changes)?;
        let needed = asked.min(self.commit());
        for change in changes {
            let Change::Promote { node } = *change else { continue };
            let matched = role.progress(node).filter(|progress| progress.reachable);
            let matched = matched.map_or(Index::ZERO, |progress| progress.matched);
            if matched < needed {
                return Err(ChangeRefused::Behind { node, matched, needed });
            }
        }
        self.append_own(EntryKind::Membership, next.encode());
        Ok(self.log.last())
    }

    /// Dissertation, 4.2.2: who is removed may have the only log that can win, until its removal is
    /// committed. It campaigns for the others then, and its own vote does not count.
    pub(super) fn may_campaign(&self) -> bool {
        if !self.has_forgotten_no_more_than(self.log.last_term(), self.log.last()) {
            return false;
        }
        if mutants::is(Mutant::RemovedKeepQuiet) {
            return self.membership().is_voter(self.node());
        }
        self.memberships.since(self.commit()).any(|membership| membership.is_voter(self.node()))
    }

    /// An entry that is about to become the last one. False if it cannot be read.
    pub(super) fn take_membership(&mut self, entry: &Entry) -> bool {
        let Some(membership) = Membership::decode(&entry.payload) else {
            self.poison("a membership in the log cannot be read");
            return false;
        };
        self.memberships.push(entry.index, Arc::new(membership));
        self.tell_membership();
        true
    }

    pub(super) fn truncate_memberships(&mut self, from: Index) {
        if !mutants::is(Mutant::MembershipKept) && self.memberships.truncate(from) {
            self.tell_membership();
        }
    }

    pub(super) fn tell_membership(&mut self) {
        let (index, membership) =
            (self.memberships.current_index(), self.memberships.current().clone());
        self.follow_membership(&membership);
        self.effects.push(Effect::Membership { index, membership });
    }

    /// The commit index of a leader has moved, maybe past the membership in force.
    pub(super) fn handle_membership_committed(&mut self) {
        if self.commit() < self.memberships.current_index() || !self.is_leader() {
            return;
        }
        if self.membership().is_joint() {
            let next = self.membership().leave_joint();
            self.append_own(EntryKind::Membership, next.encode());
        } else if !self.membership().is_voter(self.node()) {
            self.retire();
        }
    }

    /// §6: a leader that is no member any more ends when that is committed. It tells the others
    /// the commit, and the best of them that it may begin at once.
    fn retire(&mut self) {
        self.flush_persist();
        self.flush_appends();
        let Role::Leader(leader) = &self.role else { return };
        let successor = leader
            .peers
            .iter()
            .filter(|(node, progress)| self.membership().is_voter(*node) && progress.reachable)
            .max_by_key(|(node, progress)| (progress.matched, *node));
        if let Some(&(to, _)) = successor {
            let last_index = self.commit();
            let last_term = self.log.term(last_index).expect("the commit index is in the log");
            let now = TimeoutNow { term: self.term(), last_index, last_term };
            self.send(to, Message::TimeoutNow(now));
        }
        self.step_down();
    }
}
