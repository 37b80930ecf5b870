//! Snapshots on their way in and out, and entries read back from the disk for slow members.

use std::ops::RangeInclusive;

use bytes::Bytes;
use consensus::{GroupId, Index, NodeId, SnapshotMeta, Ticket};
use storage::Write;
use tokio::sync::oneshot;

use super::input::{Control, Snapshotted};
use super::{Driver, Input};
use crate::apply::{ApplyInput, FetchedFile};
use crate::error::RemoveError;
use crate::members;

/// A snapshot of the leader, until it is known whether it is needed.
pub(super) struct Fetched {
    snapshot: SnapshotMeta,
    bytes: Bytes,
}

impl Driver {
    /// A snapshot of this node is on disk, so the log may be cut: alone up to it, else up to the
    /// one before, so that members that lag a little get entries and not the snapshot.
    pub(super) fn handle_snapshotted(&mut self, snapshotted: Snapshotted) {
        let Snapshotted { group, snapshot, keep } = snapshotted;
        let Some(raft) = self.multi.touch(group) else { return };
        let previous = raft.snapshot_index();
        if snapshot.index <= previous {
            // A fetched one has overtaken it, and the log does not reach that far yet.
            return;
        }
        let is_alone = raft.status().membership.members().len() == 1;
        let through = if is_alone { snapshot.index } else { previous };
        raft.handle_snapshotted(snapshot, through);
        if Index::ZERO < through {
            let bytes = 64 + 20 * keep.len();
            self.disk.collect(Write::Compact { group, through, keep: below(keep, through) }, bytes);
        }
    }

    /// Reads entries back for a member that is behind what is in memory.
    pub(super) fn load(
        &mut self,
        group: GroupId,
        entries: RangeInclusive<Index>,
        max_bytes: usize,
    ) {
        let (wal, inbox) = (self.disk.wal().clone(), self.inputs.clone());
        let from = *entries.start();
        self.tasks.spawn_blocking(move || {
            let read = wal.read(group, from, max_bytes).unwrap_or_else(|error| {
                tracing::error!(%group, %error, "entries for a member cannot be read");
                Vec::new()
            });
            let fits = read.into_iter().filter(|entry| entries.contains(&entry.index)).collect();
            send_back(&inbox, Input::Loaded { group, from, entries: fits });
        });
    }

    /// Fetches a snapshot from the leader, once at a time for a group.
    pub(super) fn fetch(&mut self, group: GroupId, from: NodeId, snapshot: SnapshotMeta) {
        let running = self.fetching.get(&group).is_some_and(|fetch| !fetch.is_finished());
        if running {
            return;
        }
        let (transport, inbox) = (self.transport.clone(), self.inputs.clone());
        let fetch = self.tasks.spawn(async move {
            match transport.fetch(from, group, snapshot.index).await {
                Ok(file) => {
                    let bytes = file.bytes;
                    send_back_soon(&inbox, Input::Fetched { group, snapshot, bytes }).await;
                }
                // It is offered again, or a newer one.
                Err(error) => tracing::warn!(%group, %from, %error, "snapshot not fetched"),
            }
        });
        self.fetching.insert(group, fetch);
    }

    pub(super) fn handle_fetched(&mut self, group: GroupId, snapshot: SnapshotMeta, bytes: Bytes) {
        let Some(raft) = self.multi.touch(group) else { return };
        self.fetched.insert(group, Fetched { snapshot: snapshot.clone(), bytes });
        raft.handle_fetched(snapshot);
        self.flush();
        // If it was not needed, it is not kept.
        self.fetched.remove(&group);
    }

    pub(super) fn install(&mut self, group: GroupId, ticket: Ticket, snapshot: SnapshotMeta) {
        let fetched = self.fetched.remove(&group).expect("only what was fetched is installed");
        debug_assert_eq!(fetched.snapshot, snapshot);
        self.disk.hold(group, ticket);
        let file = FetchedFile { ticket, snapshot, bytes: fetched.bytes };
        self.hand_to_apply(ApplyInput::Install { group, file });
    }

    pub(super) fn handle_remove(
        &mut self,
        group: GroupId,
        done: oneshot::Sender<Result<(), RemoveError>>,
    ) {
        self.multi.remove(group);
        self.leadership.remove(&group);
        self.waiters.remove(&group);
        self.applied.remove(&group);
        self.reserved.remove(&group);
        self.addresses.remove(&group);
        self.connect();
        self.disk.remove(group, done);
    }

    pub(super) fn handle_control(&mut self, group: GroupId, control: Control) {
        // Dropping the answer says that the group is not here.
        let Some(raft) = self.multi.touch(group) else { return };
        match control {
            Control::Status(done) => drop(done.send(raft.status())),
            Control::Change(changes, done) => drop(done.send(raft.change(&changes))),
            Control::Members(wish, done) => {
                let (request, asked, rules) = &*wish;
                drop(done.send(members::begin(raft, request, *asked, *rules)));
            }
            Control::Transfer(to, done) => drop(done.send(raft.transfer(to))),
            Control::Resign => raft.resign(),
        }
    }
}

/// The part of the ranges up to an index.
fn below(keep: Vec<RangeInclusive<Index>>, through: Index) -> Vec<RangeInclusive<Index>> {
    keep.into_iter()
        .filter(|range| *range.start() <= through)
        .map(|range| *range.start()..=(*range.end()).min(through))
        .collect()
}

fn send_back(inbox: &tokio::sync::mpsc::WeakSender<Input>, input: Input) {
    if let Some(inbox) = inbox.upgrade() {
        // The driver may have ended.
        let _ = inbox.blocking_send(input);
    }
}

async fn send_back_soon(inbox: &tokio::sync::mpsc::WeakSender<Input>, input: Input) {
    if let Some(inbox) = inbox.upgrade() {
        let _ = inbox.send(input).await;
    }
}
