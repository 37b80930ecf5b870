//! One group on the apply task: its machine, how far it is, and who waits.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use consensus::{Entry, EntryKind, GroupId, Index, Membership, SnapshotMeta, Term, Ticket};
use telemetry::metrics::Histogram;
use tokio::sync::watch;

use super::{AnyApplied, FetchedFile, Restored, Visit, Waiter};
use crate::error::ProposeError;
use crate::machine::{AnyMachine, RestoreError};
use crate::mutants::{self, Mutant};
use crate::needs::Needs;
use crate::snapshots::{Envelope, Snapshotter};

pub(super) struct Running {
    machine: Box<dyn AnyMachine>,
    applied: Index,
    /// Of the applied entry, and the membership as of it: a snapshot has to say both.
    term: Term,
    membership: Arc<Membership>,
    committed: Index,
    published: watch::Sender<Index>,
    /// In the order of their indexes.
    waiters: VecDeque<Waiter>,
    visits: BTreeMap<Index, Vec<Visit>>,
    /// Bytes of log since the snapshot that was begun last.
    log_bytes: u64,
    /// What the last snapshot took.
    snapshot_bytes: u64,
    snapshotted: Index,
    /// The last entry of the snapshot that was begun last, or fetched.
    covered: Index,
    is_snapshotting: bool,
    /// A fetched snapshot that waits until the one being written is.
    to_keep: Option<FetchedFile>,
    /// The fetched snapshot that the machine comes from, until it is installed.
    installing: Option<Installing>,
}

/// A fetched snapshot whose log does not go on behind it yet.
struct Installing {
    ticket: Ticket,
    /// Up to here the log was committed before.
    trusted: Index,
    needs: Needs,
    /// The machine reads entries that are not here: nobody may look at it.
    is_lacking: bool,
}

impl Running {
    /// `is_snapshotting` if the file of a former life is still being written.
    pub(super) fn new(restored: Restored, is_snapshotting: bool) -> Self {
        let Restored { machine, applied, term, membership, installing } = restored;
        let published = if installing.is_some() { Index::ZERO } else { applied };
        // What is there of the log is what the snapshot left.
        let (trusted, is_lacking) = (applied, true);
        let installing = installing.map(|ticket| Installing {
            ticket,
            trusted,
            needs: Needs::default(),
            is_lacking,
        });
        Self {
            machine,
            applied,
            term,
            membership,
            committed: applied,
            published: watch::Sender::new(published),
            waiters: VecDeque::new(),
            visits: BTreeMap::new(),
            log_bytes: 0,
            snapshot_bytes: 0,
            snapshotted: applied,
            covered: applied,
            is_snapshotting,
            to_keep: None,
            installing,
        }
    }

    pub(super) fn published(&self) -> watch::Receiver<Index> {
        self.published.subscribe()
    }

    /// Whether the log has grown enough for a snapshot: by so much, and by what the last snapshot
    /// took. So a large state is not written again and again for little that has changed.
    pub(super) fn is_due(&self, bytes: u64, entries: u64) -> bool {
        let log_entries = self.applied.0 - self.covered.0;
        (bytes <= self.log_bytes || entries <= log_entries) && self.snapshot_bytes <= self.log_bytes
    }

    /// Whether it has taken entries since the snapshot that was begun last.
    pub(super) fn has_grown(&self) -> bool {
        self.covered < self.applied
    }

    pub(super) fn has_changed(&self) -> bool {
        self.snapshotted < self.applied
    }

    pub(super) fn is_snapshotting(&self) -> bool {
        self.is_snapshotting
    }

    /// The next entry to apply, if it is committed.
    pub(super) fn next(&self) -> Option<Index> {
        (self.applied < self.committed).then(|| self.applied.next())
    }

    pub(super) fn commit(&mut self, through: Index) {
        self.committed = self.committed.max(through);
    }

    pub(super) fn wait(&mut self, waiters: Vec<Waiter>) {
        for waiter in waiters {
            if waiter.index <= self.applied {
                // Applied before its place was known here; the reply is gone.
                let _ = waiter.reply.send(Err(ProposeError::Indeterminate));
                continue;
            }
            let after = self.waiters.partition_point(|other| other.index <= waiter.index);
            self.waiters.insert(after, waiter);
        }
    }

    pub(super) fn visit(&mut self, from: Index, visits: Vec<Visit>) {
        // What is read of the part that is not replicated needs no entries.
        if from <= self.applied && (from == Index::ZERO || !self.is_lacking()) {
            visits.into_iter().for_each(|visit| visit(self.machine.as_any()));
        } else {
            self.visits.entry(from).or_default().extend(visits);
        }
    }

    /// Applies entries as far as they are committed, and tells whom it concerns.
    pub(super) fn apply(&mut self, entries: Vec<Entry>, seconds: &Histogram) {
        let mut answers = Vec::new();
        for entry in entries {
            if self.committed < entry.index {
                break;
            }
            assert_eq!(entry.index, self.applied.next(), "entries are applied in order");
            answers.extend(self.apply_one(&entry));
        }
        self.published.send_replace(self.applied);
        for (waiter, applied) in answers {
            let trace = waiter.span.as_ref().map(|span| span.context());
            seconds.observe_for(waiter.since.elapsed().as_secs_f64(), trace);
            // The proposer may have left.
            let _ = waiter.reply.send(Ok(applied));
        }
        self.serve_visits();
    }

    /// The answer for whoever waits for this entry.
    fn apply_one(&mut self, entry: &Entry) -> Option<(Waiter, AnyApplied)> {
        self.applied = entry.index;
        self.term = entry.term;
        self.log_bytes += entry.cost() as u64;
        let waiter = self.take_waiter(entry);
        match entry.kind {
            EntryKind::Command => {}
            EntryKind::Blank => return None,
            EntryKind::Membership => {
                if let Some(membership) = Membership::decode(&entry.payload) {
                    self.membership = Arc::new(membership);
                }
                return None;
            }
        }
        let Some(mut waiter) = waiter else {
            self.machine.replay(entry);
            return None;
        };
        let reply = self.machine.apply(entry);
        if let Some(span) = &mut waiter.span {
            span.event("applied", []);
        }
        Some((waiter, AnyApplied { index: entry.index, reply }))
    }

    /// Whoever waits for just this entry. For all others up to here another entry stands where
    /// theirs were to stand: those were never committed. There may be some of both at one index, for
    /// who lost the lead may pass on to the next leader while older commands of its own still wait.
    fn take_waiter(&mut self, entry: &Entry) -> Option<Waiter> {
        let mut own = None;
        while let Some(waiter) = self.waiters.pop_front_if(|waiter| waiter.index <= entry.index) {
            if (waiter.index, waiter.term) == (entry.index, entry.term) {
                own = Some(waiter);
            } else {
                let _ = waiter.reply.send(Err(ProposeError::NotLeader { leader: None }));
            }
        }
        own
    }

    fn serve_visits(&mut self) {
        if self.is_lacking() {
            return;
        }
        while let Some(first) = self.visits.first_entry() {
            if self.applied < *first.key() {
                return;
            }
            first.remove().into_iter().for_each(|visit| visit(self.machine.as_any()));
        }
    }

    /// Takes over the state of the leader's snapshot.
    pub(super) fn restore(
        &mut self,
        snapshot: &SnapshotMeta,
        bytes: &Bytes,
    ) -> Result<(), RestoreError> {
        let envelope = Envelope::decode(bytes)?;
        self.machine.restore(&envelope.machine)?;
        self.applied = snapshot.index;
        self.committed = self.committed.max(snapshot.index);
        self.term = snapshot.term;
        self.membership = snapshot.membership.clone();
        self.log_bytes = 0;
        self.covered = snapshot.index;
        // Whether their commands are in it, nobody knows.
        while let Some(waiter) = self.waiters.pop_front_if(|waiter| waiter.index <= snapshot.index)
        {
            let _ = waiter.reply.send(Err(ProposeError::Indeterminate));
        }
        Ok(())
    }

    /// Up to here the log on this node is what is committed, whatever is behind.
    pub(super) fn trusted(&self) -> Index {
        self.installing.as_ref().map_or(self.applied, |installing| installing.trusted)
    }

    pub(super) fn retained(&self) -> Vec<RangeInclusive<Index>> {
        self.machine.retained()
    }

    /// The machine has become what a fetched snapshot says. It is shown when everything is here that
    /// it reads.
    pub(super) fn install(&mut self, ticket: Ticket, trusted: Index, needs: Needs) {
        let is_lacking = !needs.missing.is_empty() && !mutants::is(Mutant::TicketBeforeFilled);
        self.installing = Some(Installing { ticket, trusted, needs, is_lacking });
        self.show();
    }

    /// What a fetched snapshot needs, if it is the newest.
    pub(super) fn needs(&self, ticket: Ticket) -> Option<Needs> {
        let installing = self.installing.as_ref().filter(|newest| newest.ticket == ticket);
        installing.map(|installing| installing.needs.clone())
    }

    /// A fetched snapshot is installed.
    pub(super) fn handle_whole(&mut self, ticket: Ticket) {
        if self.installing.take_if(|installing| installing.ticket == ticket).is_some() {
            self.show();
        }
    }

    fn is_lacking(&self) -> bool {
        self.installing.as_ref().is_some_and(|installing| installing.is_lacking)
    }

    fn show(&mut self) {
        if !self.is_lacking() {
            self.published.send_replace(self.applied);
            self.serve_visits();
        }
    }

    /// Writes a fetched snapshot to disk, after the one that is being written.
    pub(super) fn keep(&mut self, file: FetchedFile, group: GroupId, snapshotter: &Snapshotter) {
        if self.is_snapshotting {
            self.to_keep = Some(file);
        } else {
            self.is_snapshotting = true;
            snapshotter.keep(group, file);
        }
    }

    pub(super) fn handle_saved(&mut self, index: Index, group: GroupId, snapshotter: &Snapshotter) {
        self.snapshotted = self.snapshotted.max(index);
        self.end_snapshot(group, snapshotter);
    }

    /// A file is written; if a newer snapshot was fetched meanwhile, it is the next one.
    fn end_snapshot(&mut self, group: GroupId, snapshotter: &Snapshotter) {
        self.is_snapshotting = false;
        if let Some(file) = self.to_keep.take() {
            self.keep(file, group, snapshotter);
        }
    }

    /// Begins a snapshot, unless one is being written or there is no room for it. Says whether it
    /// began.
    pub(super) fn snapshot(&mut self, group: GroupId, snapshotter: &Snapshotter) -> bool {
        if self.is_snapshotting {
            return false;
        }
        let snapshot = SnapshotMeta {
            index: self.applied,
            term: self.term,
            membership: self.membership.clone(),
        };
        self.is_snapshotting = snapshotter.take(group, snapshot, self.machine.as_ref());
        if self.is_snapshotting {
            self.log_bytes = 0;
            self.covered = self.applied;
        }
        self.is_snapshotting
    }

    pub(super) fn handle_snapshotted(
        &mut self,
        result: Result<(Index, u64), Index>,
        group: GroupId,
        snapshotter: &Snapshotter,
    ) {
        if let Ok((index, bytes)) = result {
            self.snapshot_bytes = bytes;
            self.snapshotted = self.snapshotted.max(index);
        }
        self.end_snapshot(group, snapshotter);
    }
}

#[cfg(test)]
mod tests {
    use telemetry::metrics::Registry;
    use tokio::sync::oneshot;

    use super::*;
    use crate::machine::{Encode, StateMachine};

    /// Counts what it applies.
    #[derive(Default)]
    struct Counter(usize);

    impl StateMachine for Counter {
        type Reply = usize;

        fn apply(&mut self, _entry: &Entry) -> usize {
            self.0 += 1;
            self.0
        }

        fn snapshot(&self) -> Encode {
            Box::new(|_| Ok(()))
        }

        fn restore(&mut self, _snapshot: &[u8]) -> Result<(), RestoreError> {
            Ok(())
        }

        fn retained(&self) -> Vec<RangeInclusive<Index>> {
            Vec::new()
        }
    }

    fn counting(applied: u64) -> Running {
        let machine = Box::new(Counter::default());
        let membership = Arc::default();
        let (applied, term, installing) = (Index(applied), Term(1), None);
        let restored = Restored { machine, applied, term, membership, installing };
        Running::new(restored, false)
    }

    fn entry(index: u64, term: u64, kind: EntryKind) -> Entry {
        Entry { index: Index(index), term: Term(term), kind, payload: Bytes::new() }
    }

    #[test]
    fn a_lost_leaders_own_commands_hide_none_that_it_has_passed_on_since() {
        let registry = Registry::default();
        let seconds = registry.histogram("apply_seconds", "", &[1.0]);
        let mut running = counting(4);
        let mut waits = |index: u64, term: u64| {
            let (reply, answer) = oneshot::channel();
            let since = tokio::time::Instant::now();
            running.wait(vec![Waiter::new((Index(index), Term(term)), since, reply, None)]);
            answer
        };
        // Placed while it led in term 2; the next leader's blank took the first place.
        let mut lost: Vec<_> = [5, 6, 7].map(|index| waits(index, 2)).into();
        let mut passed_on = waits(6, 3);
        running.commit(Index(6));
        let entries = vec![entry(5, 3, EntryKind::Blank), entry(6, 3, EntryKind::Command)];
        running.apply(entries, &seconds);
        let answer = passed_on.try_recv().expect("it is answered");
        assert_eq!(answer.map(|applied| applied.index), Ok(Index(6)), "told as applied");
        for gone in &mut lost[..2] {
            let told = gone.try_recv().expect("it is answered");
            let refused = ProposeError::NotLeader { leader: None };
            assert_eq!(told.map(|applied| applied.index), Err(refused));
        }
        assert!(lost[2].try_recv().is_err(), "its place is still open");
    }
}
