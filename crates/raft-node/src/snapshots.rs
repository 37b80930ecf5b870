//! Snapshots: when the log has grown, the machine's state goes to a file, and what it covers may
//! leave the log. A member that lags behind what is left gets the file.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use consensus::{GroupId, Membership, SnapshotMeta, Ticket};
use storage::snapshot::{Snapshot, SnapshotStore};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Duration;
use tokio_util::task::TaskTracker;

use crate::alarm::Alarm;
use crate::apply::{ApplyInput, FetchedFile};
use crate::background;
use crate::driver::{Input, Install, Snapshotted};
use crate::machine::{AnyMachine, RestoreError};
use crate::needs::Needs;

/// Snapshots written at a time. Others wait for their next occasion.
const CONCURRENT_MAX: usize = 2;
/// A fetched snapshot that could not be written is written again after this time.
const RETRY: Duration = Duration::from_secs(1);

/// What a snapshot file holds: the membership as of its index, then the machine's own bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) membership: Arc<Membership>,
    pub(crate) machine: Bytes,
}

impl Envelope {
    /// What precedes the machine's bytes.
    pub(crate) fn write_head(membership: &Membership, to: &mut dyn Write) -> io::Result<()> {
        let membership = membership.encode();
        let len = u32::try_from(membership.len()).expect("a membership is small");
        to.write_all(&len.to_le_bytes())?;
        to.write_all(&membership)
    }

    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, RestoreError> {
        let mut rest = bytes.clone();
        let len = rest.try_get_u32_le().map_or(usize::MAX, |len| len as usize);
        let membership = (len <= rest.len())
            .then(|| Membership::decode(&rest.split_to(len)))
            .flatten()
            .ok_or_else(|| RestoreError { reason: "its membership is unreadable".to_owned() })?;
        Ok(Self { membership: Arc::new(membership), machine: rest })
    }
}

/// Writes snapshots off the apply task.
pub(crate) struct Snapshotter {
    store: Arc<SnapshotStore>,
    apply: mpsc::WeakSender<ApplyInput>,
    driver: mpsc::WeakSender<Input>,
    tasks: TaskTracker,
    permits: Arc<Semaphore>,
    alarm: Alarm,
}

impl Snapshotter {
    pub(crate) fn new(
        store: Arc<SnapshotStore>,
        apply: mpsc::WeakSender<ApplyInput>,
        driver: mpsc::WeakSender<Input>,
        tasks: TaskTracker,
        alarm: Alarm,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(CONCURRENT_MAX));
        Self { store, apply, driver, tasks, permits, alarm }
    }

    /// Begins a snapshot of a machine, unless enough are being written. Says whether it began.
    pub(crate) fn take(
        &self,
        group: GroupId,
        snapshot: SnapshotMeta,
        machine: &dyn AnyMachine,
    ) -> bool {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            return false;
        };
        let (encode, keep) = (machine.snapshot(), machine.retained());
        let (store, apply, driver) = (self.store.clone(), self.apply.clone(), self.driver.clone());
        // Without an end the group would never be snapshotted again, and its log only grow.
        let armed = self.alarm.arm("snapshot");
        let work = move || {
            let _armed = armed;
            let (index, term) = (snapshot.index, snapshot.term);
            let saved = store.save_with(group, (index, term), |file| {
                Envelope::write_head(&snapshot.membership, file)?;
                encode(file)
            });
            let result = match saved {
                Ok(len) => {
                    // The file first: the log may forget only what is durable elsewhere.
                    send(&driver, Input::Snapshotted(Snapshotted { group, snapshot, keep }));
                    Ok((index, len))
                }
                Err(error) => {
                    tracing::warn!(%group, %index, %error, "snapshot not written, the log stays");
                    Err(index)
                }
            };
            drop(permit);
            send(&apply, ApplyInput::Snapshotted { group, result });
        };
        background::spawn(&self.tasks, "snapshot", work)
            .inspect_err(|error| tracing::warn!(%group, %error, "no thread for a snapshot"))
            .is_ok()
    }

    /// Writes a fetched snapshot. The group waits for it, so it is tried until it succeeds.
    pub(crate) fn keep(&self, group: GroupId, file: FetchedFile) {
        let FetchedFile { ticket, snapshot, bytes } = file;
        let (store, apply, alarm) = (self.store.clone(), self.apply.clone(), self.alarm.clone());
        let (index, term) = (snapshot.index, snapshot.term);
        let file = Arc::new(Snapshot { index, term, bytes });
        self.tasks.spawn(async move {
            loop {
                let (to, body, armed) = (store.clone(), file.clone(), alarm.arm("snapshot"));
                let saved = tokio::task::spawn_blocking(move || {
                    let _armed = armed;
                    to.save(group, &body)
                });
                match saved.await {
                    Ok(Ok(())) => break,
                    Ok(Err(error)) => {
                        tracing::warn!(%group, %index, %error, "fetched snapshot not written yet");
                    }
                    Err(_stopping) => return,
                }
                if apply.strong_count() == 0 {
                    return;
                }
                tokio::time::sleep(RETRY).await;
            }
            if let Some(apply) = apply.upgrade() {
                let saved = ApplyInput::Saved { group, ticket, snapshot };
                // The apply task may have ended.
                let _ = apply.send(saved).await;
            }
        });
    }

    /// The driver may let the log go on behind a snapshot.
    pub(crate) fn tell_installed(
        &self,
        group: GroupId,
        ticket: Ticket,
        snapshot: &SnapshotMeta,
        needs: Needs,
    ) {
        let (driver, next, term) = (self.driver.clone(), snapshot.index.next(), snapshot.term);
        let install = Install { ticket, next, term, needs };
        self.tasks.spawn(async move {
            if let Some(driver) = driver.upgrade() {
                let _ = driver.send(Input::Installed { group, install }).await;
            }
        });
    }

    /// A group cannot go on here.
    pub(crate) fn tell_broken(&self, group: GroupId) {
        let driver = self.driver.clone();
        self.tasks.spawn(async move {
            if let Some(driver) = driver.upgrade() {
                let _ = driver.send(Input::Broken { group }).await;
            }
        });
    }

    /// Deletes the snapshot of a group that is gone.
    pub(crate) fn discard(&self, group: GroupId) {
        let store = self.store.clone();
        self.tasks.spawn_blocking(move || {
            if let Err(error) = store.remove(group) {
                tracing::warn!(%group, %error, "snapshot of a removed group not deleted");
            }
        });
    }
}

/// From a blocking thread; whoever it was for may have ended.
fn send<T>(to: &mpsc::WeakSender<T>, message: T) {
    if let Some(to) = to.upgrade() {
        let _ = to.blocking_send(message);
    }
}
