//! The owner of the machines: applies what is durable, answers proposers and readers, and lets a
//! group be snapshotted when its log has grown.

use std::any::Any;
use std::collections::BTreeMap;
use std::time::Duration;

use consensus::{GroupId, Index, Term};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::driver::Proposed;
use crate::machine::AnyMachine;
use crate::snapshots::{Rebuilt, Snapshotter};

/// Reads or changes a machine on the apply task.
pub(crate) type Visit = Box<dyn FnOnce(&mut dyn Any) + Send>;

pub(crate) enum ApplyInput {
    Start {
        group: GroupId,
        term: Term,
        rebuilt: Rebuilt,
        done: oneshot::Sender<watch::Receiver<Index>>,
    },
    Committed(Vec<Proposed>),
    Visit {
        group: GroupId,
        visit: Visit,
    },
    Snapshotted {
        group: GroupId,
        result: Result<Index, Index>,
    },
    Remove {
        group: GroupId,
        done: oneshot::Sender<()>,
    },
}

/// A command that is durable and applied, its reply not yet typed.
pub(crate) struct AnyApplied {
    pub(crate) index: Index,
    pub(crate) reply: Box<dyn Any + Send>,
}

pub(crate) struct Apply {
    inbox: mpsc::Receiver<ApplyInput>,
    snapshotter: Snapshotter,
    snapshot_bytes: u64,
    snapshot_interval: Duration,
    groups: BTreeMap<GroupId, Running>,
}

/// A group and how far it is.
struct Running {
    machine: Box<dyn AnyMachine>,
    applied: Index,
    term: Term,
    published: watch::Sender<Index>,
    /// Bytes of log since the last snapshot.
    log_bytes: u64,
    snapshotted: Index,
    snapshotting: bool,
}

impl Apply {
    pub(crate) fn new(
        config: &Config,
        inbox: mpsc::Receiver<ApplyInput>,
        snapshotter: Snapshotter,
    ) -> Self {
        Self {
            inbox,
            snapshotter,
            snapshot_bytes: config.snapshot_bytes,
            snapshot_interval: config.snapshot_interval,
            groups: BTreeMap::new(),
        }
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let first = Instant::now() + self.snapshot_interval;
        let mut interval = tokio::time::interval_at(first, self.snapshot_interval);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = interval.tick() => self.snapshot_changed(),
                input = self.inbox.recv() => match input {
                    Some(input) => self.handle(input),
                    None => return,
                },
            }
        }
    }

    fn handle(&mut self, input: ApplyInput) {
        match input {
            ApplyInput::Start { group, term, rebuilt, done } => {
                let running = Running::new(rebuilt, term);
                // The starter may have left; the group runs all the same.
                let _ = done.send(running.published.subscribe());
                self.groups.insert(group, running);
            }
            ApplyInput::Committed(proposed) => self.apply(proposed),
            ApplyInput::Visit { group, visit } => {
                // An unknown group drops the visit, and with it the reply: `Stopped`.
                if let Some(running) = self.groups.get_mut(&group) {
                    visit(running.machine.as_any());
                }
            }
            ApplyInput::Snapshotted { group, result } => self.handle_snapshotted(group, result),
            ApplyInput::Remove { group, done } => {
                self.groups.remove(&group);
                let _ = done.send(());
            }
        }
    }

    fn apply(&mut self, proposed: Vec<Proposed>) {
        let mut touched: Option<GroupId> = None;
        for Proposed { group, entry, reply, span, .. } in proposed {
            if touched.is_some_and(|last| last != group) {
                self.publish(touched);
            }
            touched = Some(group);
            let Some(running) = self.groups.get_mut(&group) else {
                // Removed meanwhile: whether it was applied no longer means anything.
                continue;
            };
            assert_eq!(entry.index, running.applied.next(), "group {group}: entries in order");
            let outcome = running.machine.apply(&entry);
            running.applied = entry.index;
            running.log_bytes += entry.payload.len() as u64;
            if let Some(mut span) = span {
                span.event("applied", []);
            }
            // The proposer may have left.
            let _ = reply.send(Ok(AnyApplied { index: entry.index, reply: outcome }));
        }
        self.publish(touched);
    }

    /// Wakes who waits for a group's news, and snapshots it if its log has grown enough.
    fn publish(&mut self, group: Option<GroupId>) {
        let Some((id, running)) = group.and_then(|id| Some((id, self.groups.get_mut(&id)?))) else {
            return;
        };
        running.published.send_replace(running.applied);
        if running.log_bytes >= self.snapshot_bytes {
            running.snapshot(id, &self.snapshotter);
        }
    }

    fn snapshot_changed(&mut self) {
        for (id, running) in &mut self.groups {
            if running.snapshotted < running.applied {
                running.snapshot(*id, &self.snapshotter);
            }
        }
    }

    fn handle_snapshotted(&mut self, group: GroupId, result: Result<Index, Index>) {
        let Some(running) = self.groups.get_mut(&group) else {
            // Removed while its snapshot was written: the file must not outlive the group.
            self.snapshotter.discard(group);
            return;
        };
        running.snapshotting = false;
        if let Ok(index) = result {
            running.snapshotted = index;
        }
    }
}

impl Running {
    fn new(rebuilt: Rebuilt, term: Term) -> Self {
        let published = watch::Sender::new(rebuilt.applied);
        Self {
            machine: rebuilt.machine,
            applied: rebuilt.applied,
            term,
            published,
            log_bytes: rebuilt.log_bytes,
            snapshotted: rebuilt.snapshotted,
            snapshotting: false,
        }
    }

    fn snapshot(&mut self, group: GroupId, snapshotter: &Snapshotter) {
        if self.snapshotting {
            return;
        }
        let taken = snapshotter.take(group, (self.applied, self.term), self.machine.as_ref());
        self.snapshotting = taken;
        if taken {
            self.log_bytes = 0;
        }
    }
}
