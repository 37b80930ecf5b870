//! How the nodes of a cluster talk to each other.
//!
//! Every node keeps one stream open to every other one: an HTTP POST whose body never ends and
//! carries checksummed frames, of all groups. So a pair of nodes has two streams, one each way, and
//! one may die without the other. Snapshots travel apart from them, by GET, so that they hold up
//! nothing.
//!
//! ```text
//! driver ── Transport::send ─▶ outbox ─▶ connection ═ POST ═▶ PeerService ─▶ inbox ─▶ driver
//!           never waits        bounded, drops                  stops reading, bounded
//! ```
//!
//! **Invariant:** the driver never waits for a peer. Queues push back in one direction only: a full
//! inbox stops the reading, the peer's outbox fills, and the peer drops. No circle, no deadlock.
//! **Invariant:** within one stream frames arrive in the order of their sending. Streams end, and
//! what was on its way is then lost or not: the core survives both.
//! **Invariant:** whoever is told that a forward is unsent can rely on it: it never left this node.

mod backoff;
mod call;
mod config;
mod connect;
mod entries;
mod fetch;
mod frame;
mod inbound;
mod metrics;
mod outbox;
mod peers;
mod respond;
mod service;
mod silence;
mod snapshots;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use consensus::NodeId;
use serde_json::Value;
use storage::snapshot::SnapshotStore;
use telemetry::metrics::Registry;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use call::{CallError, Caller};
pub(crate) use config::TransportConfig;
pub(crate) use entries::{Applied as AppliedBy, EntriesError, RANGES_MAX, Source};
pub(crate) use frame::{Forward, ForwardOutcome, ForwardReply, Incoming, Mark, PeerFrame};
pub use respond::{BodyError, PeerBody};
pub(crate) use respond::{json, problem};
pub use service::PeerService;

use metrics::Metrics;
use outbox::Outbox;
use peers::{Peer, Shared};

/// What the process lends to its transport.
#[derive(Clone)]
pub(crate) struct Host {
    /// Served to peers.
    pub(crate) snapshots: Arc<SnapshotStore>,
    /// Where the transport's figures go. One transport per registry.
    pub(crate) metrics: Registry,
    /// Runs the connections.
    pub(crate) tasks: TaskTracker,
    /// Ends them.
    pub(crate) stop: CancellationToken,
}

/// Forwards that were not sent, and never will be.
pub(crate) struct Unsent {
    pub(crate) forwards: Vec<u64>,
    /// The peer is not connected; else there is no room for them.
    pub(crate) is_unconnected: bool,
}

/// The driver's handle. Clones share the connections.
#[derive(Clone)]
pub(crate) struct Transport {
    shared: Arc<Shared>,
    /// Guards changes of the peers, not their use.
    changing: Arc<Mutex<()>>,
}

impl Transport {
    /// No peers yet. What peers say, and what becomes of them, goes to `inbox`, whose room bounds
    /// the memory that unread frames take: some tens of them, each about as long as
    /// [`TransportConfig::frame_bytes`] or as its one long message.
    pub(crate) fn new(config: TransportConfig, inbox: mpsc::Sender<Incoming>, host: &Host) -> Self {
        let permits = config.max_snapshot_streams;
        let shared = Shared {
            config,
            inbox,
            tasks: host.tasks.clone(),
            stop: host.stop.clone(),
            metrics: Metrics::new(&host.metrics),
            peers: Default::default(),
            inbound: Mutex::default(),
            mismatches: Mutex::default(),
            snapshots: host.snapshots.clone(),
            snapshot_permits: Arc::new(Semaphore::new(permits)),
            identity: ArcSwap::from_pointee(Value::Null),
            own_url: ArcSwap::default(),
        };
        Self { shared: Arc::new(shared), changing: Arc::default() }
    }

    /// Sends to one peer, now or never: it does not wait, and what does not fit is dropped, except
    /// that the newest heartbeat always gets its place. Returns the ids of forwards that will not
    /// be sent, because there is no connection or no room: their callers have to hear of it.
    #[must_use = "callers wait for the forwards that were not sent"]
    pub(crate) fn send(&self, to: NodeId, frame: PeerFrame) -> Unsent {
        let peers = self.shared.peers.load();
        let Some(peer) = peers.get(&to) else {
            let forwards = frame.forwards.iter().map(|forward| forward.id).collect();
            return Unsent { forwards, is_unconnected: true };
        };
        let refused = peer.outbox.put(frame);
        if 0 < refused.dropped {
            peer.metrics.dropped_messages.add(refused.dropped);
        }
        if 0 < refused.too_long {
            tracing::error!(peer = %to, "a message is longer than a frame can be: not sent");
        }
        Unsent { forwards: refused.unsent, is_unconnected: refused.is_unconnected }
    }

    /// Whom to talk to, by base URL, such as `http://10.0.0.1:2380`. Connects to who is new,
    /// leaves who is gone, and goes over to changed addresses.
    pub(crate) fn set_peers(&self, urls: BTreeMap<NodeId, String>) {
        let changing = self.changing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let old = self.shared.peers.load_full();
        let mut new = BTreeMap::new();
        let mut added = Vec::new();
        for (node, url) in urls {
            if node == self.shared.config.node {
                continue;
            }
            let peer = match old.get(&node) {
                Some(peer) => {
                    peer.url.send_if_modified(|old| {
                        let is_changed = *old != url;
                        *old = url;
                        is_changed
                    });
                    peer.clone()
                }
                None => {
                    let peer = Arc::new(self.peer(node, url));
                    added.push(peer.clone());
                    peer
                }
            };
            new.insert(node, peer);
        }
        let gone = old.values().filter(|peer| !new.contains_key(&peer.node));
        let gone: Vec<Arc<Peer>> = gone.cloned().collect();
        self.shared.peers.store(Arc::new(new));
        for peer in gone {
            peer.stop.cancel();
            self.shared.metrics.remove(peer.node);
        }
        for peer in added {
            self.shared.tasks.spawn(connect::run(self.shared.clone(), peer));
        }
        drop(changing);
    }

    /// What peers reach, to be mounted on the peer listener.
    pub(crate) fn service(&self) -> PeerService {
        PeerService { shared: self.shared.clone(), members: None, entries: None }
    }

    /// Where this node says that it is reached, to whom it opens a stream. Empty: it does not say.
    pub(crate) fn set_own_url(&self, url: String) {
        self.shared.own_url.store(Arc::new(url));
    }

    /// What `GET /peer/v1/identity` answers from now on.
    pub(crate) fn set_identity(&self, identity: Value) {
        self.shared.identity.store(Arc::new(identity));
    }

    fn peer(&self, node: NodeId, url: String) -> Peer {
        Peer {
            node,
            outbox: Outbox::new(self.shared.config.outbox_bytes),
            url: watch::Sender::new(url),
            retry: Notify::new(),
            stop: CancellationToken::new(),
            metrics: self.shared.metrics.peer(node),
        }
    }
}

#[cfg(test)]
mod tests;
