//! The owner of the machines: applies what is committed, answers proposers and readers, and lets a
//! group be snapshotted when its log has grown.

mod running;

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use consensus::{Entry, GroupId, Index, Membership, SnapshotMeta, Term, Ticket};
use storage::{ReadError, Wal};
use telemetry::metrics::Histogram;
use telemetry::trace::ActiveSpan;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::driver::ReplySender;
use crate::machine::AnyMachine;
use crate::needs::Needs;
use crate::snapshots::Snapshotter;
use running::Running;

/// Bytes of entries applied before another group has its turn.
const TURN_BYTES: usize = 1 << 20;

/// How often it is looked for groups that keep old segments of the log from going.
const PIN_PERIOD: Duration = Duration::from_secs(1);
/// Snapshots begun for that at a time: each of them is two more syncs beside the log's.
const PIN_MAX: usize = 10;

/// Reads or changes a machine on the apply task.
pub(crate) type Visit = Box<dyn FnOnce(&mut dyn Any) + Send>;

pub(crate) enum ApplyInput {
    Start {
        group: GroupId,
        machine: Restored,
        done: oneshot::Sender<watch::Receiver<Index>>,
    },
    /// Everything up to `through` is committed. With it come those who wait for entries, of this
    /// commit or of a later one.
    Commit {
        group: GroupId,
        through: Index,
        waiters: Vec<Waiter>,
    },
    /// To be served when everything up to `from` is applied.
    Visit {
        group: GroupId,
        from: Index,
        visits: Vec<Visit>,
    },
    Install {
        group: GroupId,
        file: FetchedFile,
    },
    Snapshotted {
        group: GroupId,
        result: Result<(Index, u64), Index>,
    },
    /// A fetched snapshot is on disk.
    Saved {
        group: GroupId,
        ticket: Ticket,
        snapshot: SnapshotMeta,
    },
    /// A fetched snapshot is installed, and everything that its machine reads is here.
    Whole {
        group: GroupId,
        ticket: Ticket,
    },
    /// The group takes part no more; what it has on disk stays.
    Ended {
        group: GroupId,
    },
    Remove {
        group: GroupId,
        done: oneshot::Sender<()>,
    },
}

impl ApplyInput {
    /// Whom it is about.
    pub(crate) fn group(&self) -> GroupId {
        match self {
            Self::Start { group, .. }
            | Self::Commit { group, .. }
            | Self::Visit { group, .. }
            | Self::Install { group, .. }
            | Self::Snapshotted { group, .. }
            | Self::Saved { group, .. }
            | Self::Whole { group, .. }
            | Self::Ended { group }
            | Self::Remove { group, .. } => *group,
        }
    }
}

/// A fetched snapshot on its way to the disk.
pub(crate) struct FetchedFile {
    pub(crate) ticket: Ticket,
    pub(crate) snapshot: SnapshotMeta,
    pub(crate) bytes: Bytes,
}

/// A machine as its snapshot gives it.
pub(crate) struct Restored {
    pub(crate) machine: Box<dyn AnyMachine>,
    pub(crate) applied: Index,
    pub(crate) term: Term,
    pub(crate) membership: Arc<Membership>,
    /// Its snapshot is still being installed: entries that the machine reads are missing.
    pub(crate) installing: Option<Ticket>,
}

/// A command that is durable and applied, its reply not yet typed.
pub(crate) struct AnyApplied {
    pub(crate) index: Index,
    pub(crate) reply: Box<dyn Any + Send>,
}

/// Whoever waits for an entry: this index, but only with this term.
pub(crate) struct Waiter {
    index: Index,
    term: Term,
    since: Instant,
    reply: ReplySender,
    span: Option<Box<ActiveSpan>>,
}

impl Waiter {
    pub(crate) fn new(
        (index, term): (Index, Term),
        since: Instant,
        reply: ReplySender,
        mut span: Option<Box<ActiveSpan>>,
    ) -> Self {
        if let Some(span) = &mut span {
            span.set("quartet.term", term.0.to_string());
            span.set("quartet.index", index.0.to_string());
            span.event("placed", []);
        }
        Self { index, term, since, reply, span }
    }
}

pub(crate) struct Apply {
    wal: Wal,
    inbox: mpsc::Receiver<ApplyInput>,
    snapshotter: Snapshotter,
    snapshot_bytes: u64,
    snapshot_entries: u64,
    snapshot_interval: Duration,
    /// More of them are rewritten.
    hot_segments: u64,
    groups: BTreeMap<GroupId, Running>,
    /// Groups with more to apply than one turn.
    behind: VecDeque<GroupId>,
    /// Groups whose snapshot waits for those of others.
    due: VecDeque<GroupId>,
    /// Groups that have ended while a snapshot of theirs was being written, and whether it is to
    /// be deleted.
    ended: BTreeMap<GroupId, bool>,
    /// How long commands take, for those who wait here.
    seconds: Histogram,
}

impl Apply {
    pub(crate) fn new(
        config: &Config,
        wal: Wal,
        inbox: mpsc::Receiver<ApplyInput>,
        snapshotter: Snapshotter,
        seconds: Histogram,
    ) -> Self {
        Self {
            wal,
            inbox,
            snapshotter,
            snapshot_bytes: config.snapshot_bytes,
            snapshot_entries: config.snapshot_entries,
            snapshot_interval: config.snapshot_interval,
            hot_segments: config.wal.hot_segments as u64,
            groups: BTreeMap::new(),
            behind: VecDeque::new(),
            due: VecDeque::new(),
            ended: BTreeMap::new(),
            seconds,
        }
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let first = Instant::now() + self.snapshot_interval;
        let mut interval = tokio::time::interval_at(first, self.snapshot_interval);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = tokio::time::interval_at(Instant::now() + PIN_PERIOD, PIN_PERIOD);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = interval.tick() => self.snapshot_changed(),
                _ = look.tick() => self.snapshot_pinning(),
                input = self.inbox.recv() => match input {
                    Some(input) => self.handle(input).await,
                    None => return,
                },
                () = tokio::task::yield_now(), if !self.behind.is_empty() => {}
            }
            // Also while there is input all the time.
            if let Some(group) = self.behind.pop_front() {
                self.advance(group).await;
            }
        }
    }

    async fn handle(&mut self, input: ApplyInput) {
        match input {
            ApplyInput::Start { group, machine, done } => {
                let is_snapshotting = self.ended.remove(&group).is_some();
                let running = Running::new(machine, is_snapshotting);
                // The starter may have left; the group runs all the same.
                let _ = done.send(running.published());
                self.groups.insert(group, running);
            }
            ApplyInput::Commit { group, through, waiters } => {
                // An unknown group drops them: nobody knows what became of their commands.
                if let Some(running) = self.groups.get_mut(&group) {
                    running.wait(waiters);
                    running.commit(through);
                    self.advance(group).await;
                }
            }
            ApplyInput::Visit { group, from, visits } => {
                // An unknown group drops the visits, and with them the replies: `Stopped`.
                if let Some(running) = self.groups.get_mut(&group) {
                    running.visit(from, visits);
                }
            }
            ApplyInput::Install { group, file } => self.install(group, file),
            ApplyInput::Snapshotted { group, result } => self.handle_snapshotted(group, result),
            ApplyInput::Saved { group, ticket, snapshot } => {
                self.handle_saved(group, ticket, &snapshot);
            }
            ApplyInput::Whole { group, ticket } => {
                if let Some(running) = self.groups.get_mut(&group) {
                    running.handle_whole(ticket);
                }
            }
            ApplyInput::Ended { group } => self.end(group),
            ApplyInput::Remove { group, done } => {
                self.end(group);
                if let Some(is_removed) = self.ended.get_mut(&group) {
                    *is_removed = true;
                }
                let _ = done.send(());
            }
        }
    }

    fn end(&mut self, group: GroupId) {
        let running = self.groups.remove(&group);
        if running.is_some_and(|running| running.is_snapshotting()) {
            self.ended.insert(group, false);
        }
    }

    /// A group that cannot go on here: the others must not wait for it.
    fn give_up(&mut self, group: GroupId) {
        self.end(group);
        self.snapshotter.tell_broken(group);
    }

    /// Applies what is committed, but not more than one turn.
    async fn advance(&mut self, group: GroupId) {
        let Some(running) = self.groups.get_mut(&group) else { return };
        let Some(next) = running.next() else { return };
        let entries = match self.wal.cached(group, next, TURN_BYTES) {
            Some(entries) => Ok(entries),
            None => read_back(&self.wal, group, next).await,
        };
        let entries = match entries {
            Ok(entries) => entries,
            Err(ReadError::Io { .. }) => Vec::new(),
            Err(ReadError::Corrupt { .. } | ReadError::UnknownGroup { .. }) => {
                return self.give_up(group);
            }
        };
        let Some(running) = self.groups.get_mut(&group) else { return };
        if entries.first().is_none_or(|entry| entry.index != next) {
            tracing::error!(%group, %next, "a committed entry cannot be read; the group stands still");
            return;
        }
        running.apply(entries, &self.seconds);
        if running.next().is_some() && !self.behind.contains(&group) {
            self.behind.push_back(group);
        }
        if running.is_due(self.snapshot_bytes, self.snapshot_entries) {
            self.snapshot(group);
        }
    }

    fn install(&mut self, group: GroupId, file: FetchedFile) {
        let Some(running) = self.groups.get_mut(&group) else { return };
        let trusted = running.trusted();
        if let Err(error) = running.restore(&file.snapshot, &file.bytes) {
            // The leader runs another program. Going on would give another state.
            tracing::error!(%group, %error, "the leader's snapshot cannot be taken over");
            return self.give_up(group);
        }
        let reads = (running.retained(), file.snapshot.index);
        let needs = Needs::of(&self.wal, group, reads, trusted);
        running.install(file.ticket, trusted, needs);
        running.keep(file, group, &self.snapshotter);
    }

    fn handle_saved(&mut self, group: GroupId, ticket: Ticket, snapshot: &SnapshotMeta) {
        match self.groups.get_mut(&group) {
            Some(running) => {
                running.handle_saved(snapshot.index, group, &self.snapshotter);
                if let Some(needs) = running.needs(ticket) {
                    self.snapshotter.tell_installed(group, ticket, snapshot, needs);
                }
            }
            None => self.handle_late(group),
        }
        self.handle_written(group);
    }

    /// Groups in which little happens let the log go, too, when it is about to have too many
    /// segments: else it would move their entries to others.
    fn snapshot_pinning(&mut self) {
        if self.wal.stats().hot_segments + 1 < self.hot_segments {
            return;
        }
        let pinning = self.wal.pinning(1).into_iter();
        let changed = |group: &GroupId| self.groups.get(group).is_some_and(Running::has_changed);
        let changed: Vec<GroupId> = pinning.filter(changed).take(PIN_MAX).collect();
        changed.into_iter().for_each(|group| self.snapshot(group));
    }

    fn snapshot_changed(&mut self) {
        let changed = self.groups.iter().filter(|(_, running)| running.has_changed());
        let changed: Vec<GroupId> = changed.map(|(group, _)| *group).collect();
        changed.into_iter().for_each(|group| self.snapshot(group));
    }

    /// Begins a snapshot, or lets the group wait for its turn. While one of its own is written it
    /// need not: that one's end looks again.
    fn snapshot(&mut self, group: GroupId) {
        let Some(running) = self.groups.get_mut(&group) else { return };
        if running.is_snapshotting() || running.snapshot(group, &self.snapshotter) {
            return;
        }
        if !self.due.contains(&group) {
            self.due.push_back(group);
        }
    }

    fn handle_snapshotted(&mut self, group: GroupId, result: Result<(Index, u64), Index>) {
        match self.groups.get_mut(&group) {
            Some(running) => running.handle_snapshotted(result, group, &self.snapshotter),
            None => self.handle_late(group),
        }
        self.handle_written(group);
    }

    /// A file is written, so there is room for others. Without entries to come, those who wait and
    /// a group that grew meanwhile would have no other occasion.
    fn handle_written(&mut self, group: GroupId) {
        for _ in 0..self.due.len() {
            let Some(next) = self.due.pop_front() else { break };
            if self.groups.get(&next).is_some_and(Running::has_grown) {
                self.snapshot(next);
            }
        }
        let (bytes, entries) = (self.snapshot_bytes, self.snapshot_entries);
        if self.groups.get(&group).is_some_and(|running| running.is_due(bytes, entries)) {
            self.snapshot(group);
        }
    }

    /// A group has ended while its snapshot was written. If it was removed, the file must not
    /// outlive it; else it may be all that is left.
    fn handle_late(&mut self, group: GroupId) {
        if self.ended.remove(&group) == Some(true) {
            self.snapshotter.discard(group);
        }
    }
}

async fn read_back(wal: &Wal, group: GroupId, from: Index) -> Result<Vec<Entry>, ReadError> {
    let wal = wal.clone();
    let read = tokio::task::spawn_blocking(move || wal.read(group, from, TURN_BYTES)).await;
    // If there is no outcome, the process is stopping.
    read.unwrap_or_else(|_stopping| Ok(Vec::new())).inspect_err(|error| {
        tracing::error!(%group, %error, "committed entries cannot be read");
    })
}
