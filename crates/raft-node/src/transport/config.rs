//! Settings of the transport. Every limit and every wait is named here.

use std::time::Duration;

use consensus::NodeId;

/// How a node talks to its peers.
#[derive(Clone, Debug)]
pub(crate) struct TransportConfig {
    /// Drawn when the cluster was founded. Nodes of different clusters do not talk.
    pub(crate) cluster: u64,
    /// This node.
    pub(crate) node: NodeId,
    /// A random number that is new in every life of the process.
    pub(crate) epoch: u64,
    /// What may wait for one peer, in bytes. More is dropped.
    pub(crate) outbox_bytes: usize,
    /// About how long a frame is at most, in bytes, unless a single message is longer. A heartbeat
    /// waits behind no more than what is being written.
    pub(crate) frame_bytes: usize,
    /// How long connecting, and each step of opening a stream, may take.
    pub(crate) connect_timeout: Duration,
    /// A side that has nothing to say says so this often.
    pub(crate) keepalive: Duration,
    /// A side that was not heard for this long is cut off.
    pub(crate) silence: Duration,
    /// The longest wait before the first repeated attempt to connect; it doubles each time.
    pub(crate) backoff_first: Duration,
    /// The longest wait before any attempt.
    pub(crate) backoff_max: Duration,
    /// The same after a refusal that only a person can change: another cluster, another version.
    pub(crate) backoff_mismatch: Duration,
    /// Snapshots that are served at a time. More are told to come back.
    pub(crate) max_snapshot_streams: usize,
    /// The longest snapshot that is fetched, in bytes: it is held in memory.
    pub(crate) max_snapshot_bytes: u64,
}

impl TransportConfig {
    /// The defaults.
    pub(crate) fn new(cluster: u64, node: NodeId, epoch: u64) -> Self {
        Self {
            cluster,
            node,
            epoch,
            outbox_bytes: 64 << 20,
            frame_bytes: 1 << 20,
            connect_timeout: Duration::from_secs(2),
            keepalive: Duration::from_secs(1),
            silence: Duration::from_secs(5),
            backoff_first: Duration::from_millis(10),
            backoff_max: Duration::from_secs(1),
            backoff_mismatch: Duration::from_secs(10),
            max_snapshot_streams: 8,
            max_snapshot_bytes: 4 << 30,
        }
    }
}
