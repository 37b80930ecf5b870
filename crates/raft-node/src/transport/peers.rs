//! Whom this node talks to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use consensus::NodeId;
use tokio::sync::{Notify, mpsc, watch};
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
}

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

    /// Something happened at that node: a waiting attempt to connect to it is worth making now.
    fn retry(&self, node: NodeId) {
        if let Some(peer) = self.peer(node) {
            peer.retry.notify_waiters();
        }
    }
}
