//! Snapshots on their way in and out, and entries read back from the disk for slow members.

use std::ops::RangeInclusive;

use bytes::Bytes;
use consensus::{ChangeRefused, GroupId, Index, NodeId, SnapshotMeta, Ticket};
use storage::{Entry, ReadError, Write};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Duration;

use super::input::{Control, Snapshotted};
use super::{Driver, Input};
use crate::apply::{ApplyInput, FetchedFile};
use crate::error::RemoveError;
use crate::members;
use crate::needs::kept_by;

/// Entries that could not be read are read again after this time.
const LOAD_RETRY: Duration = Duration::from_millis(500);

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
        let is_alone = raft.membership().members().len() == 1;
        let through = if is_alone { snapshot.index } else { previous };
        raft.handle_snapshotted(snapshot, through);
        if Index::ZERO < through {
            let keep = kept_by(keep, through);
            let bytes = 64 + 20 * keep.len();
            self.disk.collect(Write::Compact { group, through, keep }, bytes);
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
        self.tasks.spawn(async move {
            let read = tokio::task::spawn_blocking(move || wal.read(group, from, max_bytes)).await;
            let read = match read {
                Ok(Ok(read)) => read,
                Ok(Err(error)) => {
                    tracing::error!(%group, %from, %error, "entries for a member cannot be read");
                    if matches!(error, ReadError::Corrupt { .. }) {
                        return send_back_soon(&inbox, Input::Broken { group }).await;
                    }
                    Vec::new()
                }
                Err(_stopping) => return,
            };
            let fits = |entry: &Entry| entries.contains(&entry.index);
            let entries: Vec<Entry> = read.into_iter().filter(fits).collect();
            if entries.is_empty() {
                // They are asked for again at once.
                tokio::time::sleep(LOAD_RETRY).await;
            }
            send_back_soon(&inbox, Input::Loaded { group, from, entries }).await;
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
        is_left: bool,
        done: oneshot::Sender<Result<(), RemoveError>>,
    ) {
        self.let_go(group);
        self.reserved.remove(&group);
        self.contacts.forget(group);
        if let Some(fetch) = self.fetching.remove(&group) {
            fetch.abort();
        }
        match is_left {
            true => self.disk.leave(group, done),
            false => self.disk.remove(group, done),
        }
    }

    pub(super) fn handle_control(&mut self, group: GroupId, control: Control) {
        // Dropping the answer says that the group is not here.
        let Some(raft) = self.multi.touch(group) else { return };
        match control {
            Control::Status(done) => drop(done.send(raft.status())),
            Control::Change(term, changes, done) => {
                // What was decided in another term is not this leader's to carry out.
                let outcome = match raft.term() == term {
                    true => raft.change(&changes),
                    false => Err(ChangeRefused::NotLeader { leader: raft.leader() }),
                };
                // The caller may have left.
                let _ = done.send(outcome);
            }
            Control::Members(wish, done) => {
                let (request, asked, rules) = &*wish;
                drop(done.send(members::begin(raft, request, *asked, *rules)));
            }
            Control::Transfer(to, done) => drop(done.send(raft.transfer(to))),
            Control::Resign => raft.resign(),
        }
    }
}

pub(super) async fn send_back_soon(inbox: &mpsc::WeakSender<Input>, input: Input) {
    if let Some(inbox) = inbox.upgrade() {
        // The driver may have ended.
        let _ = inbox.send(input).await;
    }
}
