//! What the transport counts, per peer. The label is the node's id: a cluster has few.

use consensus::NodeId;
use telemetry::metrics::{Counter, Family, Gauge, Registry};

const LABELS: &[&str] = &["peer"];

#[derive(Clone)]
pub(super) struct Metrics {
    connected: Family<Gauge>,
    connects: Family<Counter>,
    sent_bytes: Family<Counter>,
    sent_frames: Family<Counter>,
    sent_messages: Family<Counter>,
    received_bytes: Family<Counter>,
    received_frames: Family<Counter>,
    received_messages: Family<Counter>,
    dropped_messages: Family<Counter>,
    unknown_messages: Family<Counter>,
    snapshot_sent_bytes: Family<Counter>,
    snapshot_received_bytes: Family<Counter>,
}

/// The handles of one peer.
#[derive(Clone, Debug)]
pub(super) struct PeerMetrics {
    pub(super) connected: Gauge,
    pub(super) connects: Counter,
    pub(super) sent_bytes: Counter,
    pub(super) sent_frames: Counter,
    pub(super) sent_messages: Counter,
    pub(super) received_bytes: Counter,
    pub(super) received_frames: Counter,
    pub(super) received_messages: Counter,
    pub(super) dropped_messages: Counter,
    pub(super) unknown_messages: Counter,
    pub(super) snapshot_sent_bytes: Counter,
    pub(super) snapshot_received_bytes: Counter,
}

impl Metrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let counters = |name: &str, help: &str| registry.counters(name, help, LABELS);
        Self {
            connected: registry.gauges(
                "raft_peer_connected",
                "Whether the stream to the peer is open.",
                LABELS,
            ),
            connects: counters("raft_peer_connects", "Streams opened to the peer."),
            sent_bytes: counters("raft_peer_sent_bytes", "Bytes of frames written to the peer."),
            sent_frames: counters("raft_peer_sent_frames", "Frames written to the peer."),
            sent_messages: counters("raft_peer_sent_messages", "Messages written to the peer."),
            received_bytes: counters("raft_peer_received_bytes", "Bytes read from the peer."),
            received_frames: counters("raft_peer_received_frames", "Frames read from the peer."),
            received_messages: counters(
                "raft_peer_received_messages",
                "Messages read from the peer.",
            ),
            dropped_messages: counters(
                "raft_peer_dropped_messages",
                "Messages that did not fit into the peer's outbox.",
            ),
            unknown_messages: counters(
                "raft_peer_unknown_messages",
                "Messages of a newer release that were skipped.",
            ),
            snapshot_sent_bytes: counters(
                "raft_peer_snapshot_sent_bytes",
                "Bytes of snapshots the peer has fetched.",
            ),
            snapshot_received_bytes: counters(
                "raft_peer_snapshot_received_bytes",
                "Bytes of snapshots fetched from the peer.",
            ),
        }
    }

    pub(super) fn peer(&self, node: NodeId) -> PeerMetrics {
        let id = node.to_string();
        let label = [id.as_str()];
        PeerMetrics {
            connected: self.connected.with(&label),
            connects: self.connects.with(&label),
            sent_bytes: self.sent_bytes.with(&label),
            sent_frames: self.sent_frames.with(&label),
            sent_messages: self.sent_messages.with(&label),
            received_bytes: self.received_bytes.with(&label),
            received_frames: self.received_frames.with(&label),
            received_messages: self.received_messages.with(&label),
            dropped_messages: self.dropped_messages.with(&label),
            unknown_messages: self.unknown_messages.with(&label),
            snapshot_sent_bytes: self.snapshot_sent_bytes.with(&label),
            snapshot_received_bytes: self.snapshot_received_bytes.with(&label),
        }
    }

    /// Forgets a peer that has left.
    pub(super) fn remove(&self, node: NodeId) {
        let id = node.to_string();
        let label = [id.as_str()];
        self.connected.remove(&label);
        for family in [
            &self.connects,
            &self.sent_bytes,
            &self.sent_frames,
            &self.sent_messages,
            &self.received_bytes,
            &self.received_frames,
            &self.received_messages,
            &self.dropped_messages,
            &self.unknown_messages,
            &self.snapshot_sent_bytes,
            &self.snapshot_received_bytes,
        ] {
            family.remove(&label);
        }
    }
}
