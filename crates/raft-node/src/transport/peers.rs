//! Whom this node talks to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use consensus::NodeId;
use serde_json::Value;
use storage::snapshot::SnapshotStore;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::TransportConfig;
use super::frame::Incoming;
use super::metrics::{Metrics, PeerMetrics};
use super::outbox::Outbox;

/// What all parts of a transport share.
pub(super) struct Shared {
    pub(super) config: TransportConfig,
    pub(super) inbox: mpsc::Sender<Incoming>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) metrics: Metrics,
    pub(super) peers: ArcSwap<BTreeMap<NodeId, Arc<Peer>>>,
    /// Streams that peers have opened, by sender.
    pub(super) inbound: Mutex<BTreeMap<NodeId, Inbound>>,
    /// Whose streams were refused, and why: said once.
    pub(super) mismatches: Mutex<BTreeMap<NodeId, String>>,
    pub(super) snapshots: Arc<SnapshotStore>,
    /// One for each snapshot that is being sent.
    pub(super) snapshot_permits: Arc<Semaphore>,
    /// What this node says about itself.
    pub(super) identity: ArcSwap<Value>,
    /// Where this node is reached.
    pub(super) own_url: ArcSwap<String>,
}

/// Refused callers that are remembered. Ids are theirs to choose.
const MISMATCHES_MAX: usize = 64;

/// One peer as its sender sees it.
pub(super) struct Peer {
    pub(super) node: NodeId,
    pub(super) outbox: Outbox,
    pub(super) url: watch::Sender<String>,
    /// It was heard of: whoever waits for the next attempt to connect makes it now.
    pub(super) retry: Notify,
    /// Ends with its membership.
    pub(super) stop: CancellationToken,
    pub(super) metrics: PeerMetrics,
}

/// A stream that a peer has opened.
pub(super) struct Inbound {
    /// Which: a newer one takes its place.
    pub(super) number: u64,
    pub(super) superseded: CancellationToken,
}

impl Shared {
    pub(super) fn peer(&self, node: NodeId) -> Option<Arc<Peer>> {
        self.peers.load().get(&node).cloned()
    }

    /// Whether what a node has sent may still be on its way to the inbox.
    pub(super) fn is_heard(&self, node: NodeId) -> bool {
        self.inbound.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&node)
    }

    /// A peer opens a stream: an older one of the same peer is dead or about to be.
    pub(super) fn begin_inbound(&self, node: NodeId, number: u64) -> CancellationToken {
        let superseded = CancellationToken::new();
        let inbound = Inbound { number, superseded: superseded.clone() };
        let mut all = self.inbound.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(older) = all.insert(node, inbound) {
            older.superseded.cancel();
        }
        drop(all);
        self.retry(node);
        superseded
    }

    pub(super) fn end_inbound(&self, node: NodeId, number: u64) {
        let mut all = self.inbound.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(&node).is_some_and(|inbound| inbound.number == number) {
            all.remove(&node);
        }
        drop(all);
        self.retry(node);
    }

    /// A stream was refused. The same again is not worth another line.
    pub(super) fn report_mismatch(&self, from: NodeId, detail: &str) {
        let mut known = self.mismatches.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(&from).is_some_and(|known| known == detail) {
            return;
        }
        if known.len() < MISMATCHES_MAX {
            known.insert(from, detail.to_owned());
            tracing::warn!(peer = %from, detail, "refused a peer's stream");
        }
    }

    /// Something happened at that node: a waiting attempt to connect to it is worth making now.
    fn retry(&self, node: NodeId) {
        if let Some(peer) = self.peer(node) {
            peer.retry.notify_waiters();
        }
    }
}
