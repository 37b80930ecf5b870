//! The handle: what handlers call. Reads go to the published view, writes to the owner task.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chassis::clock::Clock;
use replication::ack::count;
use replication::{AckLevel, Index};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout_at;

use crate::apply::Digests;
use crate::config::Config;
use crate::driver::Input;
use crate::forward::Forward;
use crate::log::Log;
use crate::view::View;
use crate::write::{Acked, Outcome, Refusal, Write, WriteError, Written};

/// A running node of the store. Clones share it.
#[derive(Clone)]
pub(crate) struct ReplicaHandle {
    pub(crate) shared: Arc<Shared>,
}

/// What all clones share.
pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    pub(crate) node: String,
    pub(crate) clock: Clock,
    pub(crate) inbox: mpsc::Sender<Input>,
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) log: Log,
    pub(crate) digests: Digests,
    pub(crate) forward: Forward,
    pub(crate) metrics: crate::metrics::Metrics,
    pub(crate) room: crate::room::Room,
}

impl ReplicaHandle {
    /// The newest picture of this node.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.shared.view.borrow())
    }

    /// Milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> u64 {
        self.shared.clock.unix_ms()
    }

    /// When a request gives up if the caller set no deadline.
    pub(crate) fn until(&self, deadline: Option<Instant>) -> Instant {
        /// So that our answer is there before the caller's patience ends.
        const MARGIN: Duration = Duration::from_millis(20);
        let ours = self.shared.clock.now() + self.shared.config.replication.wait_timeout();
        deadline.map_or(ours, |deadline| deadline.checked_sub(MARGIN).unwrap_or(deadline))
    }

    /// Carries out a write here, where the primary is, and waits for what its level asks.
    pub(crate) async fn write(&self, write: Write, until: Instant) -> Result<Written, WriteError> {
        let ack = write.ack;
        let (reply, accepted) = oneshot::channel();
        self.shared.inbox.try_send(Input::Write { write, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => WriteError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => WriteError::Stopped,
        })?;
        let unknown = WriteError::Indeterminate { position: None, applied: false, acked: 0 };
        let Ok(Ok(accepted)) = timeout_at(until.into(), accepted).await else {
            return Err(unknown);
        };
        let accepted = accepted?;
        let position = accepted.position;
        let acked_by = match timeout_at(until.into(), accepted.acked).await {
            Ok(Ok(Acked::By(count))) => count,
            Ok(Ok(Acked::Refused(Refusal::QueueFull))) => return Err(WriteError::Overloaded),
            Ok(Ok(Acked::Refused(Refusal::DiskFull))) => return Err(WriteError::DiskFull),
            Ok(Ok(Acked::Lost) | Err(_)) | Err(_) => {
                let (applied, acked) = self.confirmed(ack, position.index);
                let position = Some(position);
                return Err(WriteError::Indeterminate { position, applied, acked });
            }
        };
        match accepted.outcome {
            Outcome::Written { replayed } => Ok(Written { position, acked_by, replayed }),
            Outcome::Failed { key, version } => Err(WriteError::Precondition { key, version }),
        }
    }

    /// Whether an entry is on this node's disk, and how many members have it.
    fn confirmed(&self, ack: AckLevel, index: Index) -> (bool, u32) {
        let view = self.view();
        let own = view.visible.index;
        (index <= own, count(ack, index, own, &view.confirmed()))
    }
}
