//! §7: the log is cut behind snapshots, and a member whose next entry was cut gets the snapshot.
//!
//! The leader only offers it. The follower's host fetches the bytes, piece by piece and again
//! where it broke off, so that nothing here waits for them or counts them.

use super::Raft;
use crate::effect::{Effect, Ticket};
use crate::ids::{Index, NodeId};
use crate::message::{SnapshotMeta, SnapshotOffer};
use crate::mutants::{self, Mutant};

impl Raft {
    /// What a snapshot of the state as of `index`, which is applied, has to say besides the state.
    /// `None` when the log has been cut behind it.
    #[must_use]
    pub fn snapshot_meta(&self, index: Index) -> Option<SnapshotMeta> {
        let term = self.log.term(index)?;
        Some(SnapshotMeta { index, term, membership: self.memberships.at(index).clone() })
    }

    /// The last entry that the newest snapshot covers.
    #[must_use]
    pub fn snapshot_index(&self) -> Index {
        self.snapshot.as_ref().map_or(Index::ZERO, |snapshot| snapshot.index)
    }

    /// A snapshot of this node is durable; entries up to `through`, which it covers, may go. The
    /// host keeps some more, so that a member that lags a little does not need the snapshot.
    pub fn handle_snapshotted(&mut self, snapshot: SnapshotMeta, through: Index) {
        let newest = self.snapshot.as_ref().map_or(Index::ZERO, |snapshot| snapshot.index);
        if self.poisoned || snapshot.index <= newest {
            return;
        }
        let through = through.min(snapshot.index).min(self.settled());
        self.snapshot = Some(snapshot);
        self.log.compact(through);
        self.memberships.compact(through);
    }

    /// The host goes on installing the snapshot with which this group starts: its process ended
    /// before that was done. As if it had just been fetched: nothing is confirmed and no vote leaves
    /// before the ticket is durable. To be called before anything else, on a log that has nothing
    /// behind the snapshot.
    pub fn resume_install(&mut self) -> Ticket {
        let index = self.snapshot_index();
        debug_assert_eq!(index, self.log.last(), "the log begins behind the snapshot");
        self.log.forget_durable();
        self.persist_reset(index)
    }

    pub(super) fn handle_offer(&mut self, from: NodeId, offer: SnapshotOffer) {
        if !self.follow(from) {
            return;
        }
        let snapshot = offer.snapshot;
        if self.covers(&snapshot) {
            self.acknowledge(from, self.commit(), true);
        } else {
            self.effects.push(Effect::Fetch { from, snapshot });
        }
    }

    /// The bytes of a snapshot are here, whole and checked. Whether they are needed shows now.
    pub fn handle_fetched(&mut self, snapshot: SnapshotMeta) {
        if self.poisoned || self.is_leader() {
            return;
        }
        if !self.covers(&snapshot) || mutants::is(Mutant::OldSnapshotInstalled) {
            self.install(snapshot);
        }
        if let Some(leader) = self.leader {
            self.acknowledge(leader, self.commit(), true);
        }
    }

    /// This log has all that the snapshot has. It may only learn from it what is committed.
    fn covers(&mut self, snapshot: &SnapshotMeta) -> bool {
        if self.log.matches(snapshot.index, snapshot.term) {
            self.learn_commit(snapshot.index);
        }
        snapshot.index <= self.commit()
    }

    /// §7: the snapshot replaces the log, for no entry of it is known to go with the snapshot.
    fn install(&mut self, snapshot: SnapshotMeta) {
        // What was promised before must not be lost with the entries.
        self.flush_persist();
        let (index, term) = (snapshot.index, snapshot.term);
        match mutants::is(Mutant::SuffixKept) && index < self.log.last() {
            true => self.log.compact(index),
            false => self.log.reset(index, term),
        }
        self.memberships.reset(index, snapshot.membership.clone());
        self.hard_state.commit = index;
        self.snapshot = Some(snapshot.clone());
        let ticket = self.persist_reset(index);
        self.effects.push(Effect::Install { ticket, snapshot });
        self.tell_membership();
    }
}
