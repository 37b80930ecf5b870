//! What the groups of a node count. Groups can be many, so no label names one.

use telemetry::metrics::{Counter, Family, Gauge, Histogram, Registry, SECONDS};

/// One per process.
#[derive(Clone)]
pub(crate) struct Metrics {
    /// The highest term of any group.
    pub(crate) term: Gauge,
    pub(crate) groups: Gauge,
    pub(crate) groups_led: Gauge,
    pub(crate) leader_changes: Counter,
    pub(crate) stalls: Counter,
    /// From the hand-over of a command until its reply is here, for those that were applied.
    pub(crate) proposal_seconds: Histogram,
    /// From the hand-over of a batch to the log until it is durable here.
    pub(crate) persist_seconds: Histogram,
    /// From the sending of entries until the peer has said that it has them on disk.
    pub(crate) append_seconds: Family<Histogram>,
    /// Entries of all groups led here that the peer is not known to have on disk.
    pub(crate) lag_entries: Family<Gauge>,
}

const PEER: &[&str] = &["peer"];

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let gauge = |name: &str, help: &str| registry.gauge(name, help);
        Self {
            term: gauge("raft_term", "The highest term of any group."),
            groups: gauge("raft_groups", "Groups that run here."),
            groups_led: gauge("raft_groups_led", "Groups that this node leads."),
            leader_changes: registry
                .counter("raft_leader_changes", "How often a group got another leader."),
            stalls: registry.counter(
                "raft_stalls",
                "How often this node did not get to its timers in time: too little CPU, or a pause.",
            ),
            proposal_seconds: registry.histogram(
                "raft_proposal_seconds",
                "Time until a command was durable on a majority and applied here.",
                SECONDS,
            ),
            persist_seconds: registry.histogram(
                "raft_persist_seconds",
                "Time until a batch of writes was durable in the log of this node.",
                SECONDS,
            ),
            append_seconds: registry.histograms(
                "raft_append_seconds",
                "Time until a peer had entries on disk and had said so; one at a time is measured.",
                PEER,
                SECONDS,
            ),
            lag_entries: registry.gauges(
                "raft_peer_lag_entries",
                "Entries of groups led here that the peer is not known to have on disk.",
                PEER,
            ),
        }
    }
}
