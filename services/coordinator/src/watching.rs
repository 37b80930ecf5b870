//! One watch outside a stream of the etcd face: it pulls events from published snapshots.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::coordinator::Coordinator;
use crate::metrics::Metrics;
use crate::runs::{Crowd, Read};
use crate::store::{
    Access, Event, HistoryCompacted, KeyRange, Revision, Rights, Snapshot, Store, WatchFilter,
};

/// Bytes of keys and values read at once.
const BATCH_BYTES: usize = 256 << 10;

/// What a watcher is told. `R`: many changes at once, if it takes them so.
#[derive(Debug)]
pub(crate) enum Seen<R> {
    /// `completes`: the last change of its revision that this watch sees.
    Change { event: Event, completes: bool },
    /// All changes of some revisions, encoded.
    Run(R),
    /// Everything up to here has been told.
    Bookmark(Revision),
    /// The watch fell behind a compaction and ends.
    Compacted(Revision),
    /// The watcher may not see this any more, and the watch ends.
    Denied,
}

/// How a watcher reads the history.
pub(crate) trait Reader {
    type Run;
    fn range(&self) -> &KeyRange;
    fn read(&self, from: Revision, store: &Store) -> Result<Read<Self::Run>, HistoryCompacted>;
}

/// Reads for itself, change by change.
impl Reader for WatchFilter {
    type Run = Infallible;

    fn range(&self) -> &KeyRange {
        &self.range
    }

    fn read(&self, from: Revision, store: &Store) -> Result<Read<Infallible>, HistoryCompacted> {
        store.mvcc.events(from, self, BATCH_BYTES).map(Read::Batch)
    }
}

/// Reads what others have read and encoded already.
impl<E: Fn(&[Event]) -> Bytes> Reader for Crowd<E> {
    type Run = Bytes;

    fn range(&self) -> &KeyRange {
        &self.form.filter.range
    }

    fn read(&self, from: Revision, store: &Store) -> Result<Read<Bytes>, HistoryCompacted> {
        self.runs.read(&self.form, from, store, &self.encode)
    }
}

pub(crate) struct Watching<R> {
    changes: watch::Receiver<Snapshot>,
    reader: R,
    /// The first revision that was not read.
    next: Revision,
    /// Read and not told: one batch at most.
    waiting: VecDeque<Event>,
    /// Where the watcher knows the store to be.
    told: Revision,
    bookmark_period: Duration,
    bookmark_at: Instant,
    metrics: Metrics,
    /// Who watches: it may outlive the token, but not the rights.
    coordinator: Coordinator,
    user: Option<String>,
    /// As of the last look.
    rights: Rights,
}

impl<R: Reader> Watching<R> {
    /// `store` is where the caller was seen to have the right to watch: what is published may be
    /// older, and know neither its token nor what it was granted.
    pub(crate) fn new(
        coordinator: &Coordinator,
        store: &Store,
        reader: R,
        from: Revision,
        bookmark_period: Duration,
    ) -> Self {
        coordinator.metrics().watchers.inc();
        let changes = coordinator.subscribe();
        Self {
            user: coordinator.user(store).ok().flatten().map(str::to_owned),
            rights: store.auth.rights(),
            coordinator: coordinator.clone(),
            changes,
            reader,
            next: from,
            waiting: VecDeque::new(),
            // The first bookmark comes at once: it says from where the watch counts.
            told: Revision(0),
            bookmark_period,
            bookmark_at: Instant::now(),
            metrics: coordinator.metrics().clone(),
        }
    }

    /// Tells what `store` holds first, as if it had just been put. Oldest changes come first, so
    /// that whoever resumes behind one of them misses nothing.
    pub(crate) fn beginning_with(mut self, store: &Store) -> Self {
        let mut records: Vec<_> = store.mvcc.scan(self.reader.range(), None).cloned().collect();
        records.sort_by_key(|record| record.mod_revision);
        self.waiting = records.into_iter().map(|record| Event { record, previous: None }).collect();
        self
    }

    /// `None` when the process stops.
    pub(crate) async fn next(&mut self) -> Option<Seen<R::Run>> {
        loop {
            if let Some(change) = self.next_waiting() {
                return Some(change);
            }
            let store = self.changes.borrow_and_update().clone();
            if !self.is_allowed(&store) {
                return Some(Seen::Denied);
            }
            if self.next <= store.revision() {
                match self.read(&store) {
                    Ok(None) => {}
                    Ok(Some(run)) => return Some(Seen::Run(run)),
                    Err(compacted) => return Some(Seen::Compacted(compacted.oldest)),
                }
                if self.next <= store.revision() {
                    // Far behind: others have their turn in between.
                    tokio::task::yield_now().await;
                }
                continue;
            }
            // A watch that waits for the future has not seen what lies before it.
            let seen = Revision(self.next.0 - 1);
            if self.told < seen && seen <= store.revision() && self.bookmark_at <= Instant::now() {
                self.tell(seen);
                return Some(Seen::Bookmark(seen));
            }
            let is_behind = self.told < seen;
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                () = tokio::time::sleep_until(self.bookmark_at), if is_behind && seen <= store.revision() => {}
            }
        }
    }

    fn next_waiting(&mut self) -> Option<Seen<R::Run>> {
        let event = self.waiting.pop_front()?;
        let revision = event.record.mod_revision;
        let following = self.waiting.front();
        let completes = following.is_none_or(|next| revision < next.record.mod_revision);
        if completes {
            self.tell(revision);
        }
        Some(Seen::Change { event, completes })
    }

    /// Reads on: a run to be told at once, or changes that wait.
    fn read(&mut self, store: &Store) -> Result<Option<R::Run>, HistoryCompacted> {
        match self.reader.read(self.next, store)? {
            Read::Run { run, last, next } => {
                self.next = next;
                self.tell(last);
                Ok(Some(run))
            }
            Read::Batch(batch) => {
                self.next = batch.next;
                self.waiting = batch.events.into();
                Ok(None)
            }
        }
    }

    fn is_allowed(&mut self, store: &Store) -> bool {
        let rights = store.auth.rights();
        if rights == self.rights || rights.precede(self.rights) {
            return true;
        }
        self.rights = rights;
        if self.user.is_none() {
            let user = self.coordinator.user(store).ok().flatten();
            self.user = user.map(str::to_owned);
        }
        let range = self.reader.range();
        match &self.user {
            Some(user) => store.auth.check_user(user, Access::Read, range).is_ok(),
            None => self.coordinator.may_read(store, range).is_ok(),
        }
    }

    fn tell(&mut self, revision: Revision) {
        self.told = revision;
        self.bookmark_at = Instant::now() + self.bookmark_period;
    }
}

impl<R> Drop for Watching<R> {
    fn drop(&mut self) {
        self.metrics.watchers.dec();
    }
}
