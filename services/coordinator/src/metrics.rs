//! Metrics, under the names that etcd dashboards know.

use raft_node::Leadership;
use telemetry::metrics::{Counter, Registry};
use tokio::sync::watch;

use crate::state_machine::Newest;
use crate::store::{Op, Txn};

#[derive(Clone)]
pub struct Metrics {
    pub(crate) puts: Counter,
    pub(crate) deletes: Counter,
    pub(crate) ranges: Counter,
    pub(crate) txns: Counter,
    pub(crate) leases_granted: Counter,
    pub(crate) leases_revoked: Counter,
    pub(crate) leases_renewed: Counter,
    pub(crate) leases_expired: Counter,
    pub(crate) proposals_failed: Counter,
    pub(crate) places_waiting: telemetry::metrics::Gauge,
    pub(crate) watch_streams: telemetry::metrics::Gauge,
    pub(crate) watchers: telemetry::metrics::Gauge,
    pub(crate) is_learner: telemetry::metrics::Gauge,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            puts: registry.counter("etcd_mvcc_put", "Keys written."),
            deletes: registry.counter("etcd_mvcc_delete", "Deletes asked for."),
            ranges: registry.counter("etcd_mvcc_range", "Ranges read."),
            txns: registry.counter("etcd_mvcc_txn", "Transactions with comparisons."),
            leases_granted: registry.counter("etcd_debugging_lease_granted", "Leases asked for."),
            leases_revoked: registry.counter("etcd_debugging_lease_revoked", "Leases given back."),
            leases_renewed: registry.counter("etcd_debugging_lease_renewed", "Keepalives."),
            leases_expired: registry
                .counter("etcd_debugging_server_lease_expired", "Leases that ran out."),
            proposals_failed: registry
                .counter("etcd_server_proposals_failed", "Commands that were not carried out."),
            places_waiting: registry.gauge(
                "coordinator_places_waiting",
                "Callers that wait here for a lock or for leadership.",
            ),
            watch_streams: registry
                .gauge("etcd_debugging_mvcc_watch_stream_total", "Open watch streams."),
            watchers: registry.gauge("etcd_debugging_mvcc_watcher_total", "Watches in them."),
            is_learner: registry.gauge("etcd_server_is_learner", "Whether this node is a learner."),
        }
    }

    /// Figures that are read when somebody asks for metrics.
    pub(crate) fn observe(
        registry: &Registry,
        newest: Newest,
        leadership: watch::Receiver<Leadership>,
        quota_bytes: u64,
    ) {
        let gauge = |name, help| registry.gauge(name, help);
        let revision = gauge("etcd_debugging_mvcc_current_revision", "The store's revision.");
        let compacted = gauge("etcd_debugging_mvcc_compact_revision", "The compacted revision.");
        let keys = gauge("etcd_debugging_mvcc_keys_total", "Keys that exist.");
        let bytes = gauge("etcd_mvcc_db_total_size_in_bytes", "Keys, values and history.");
        let in_use = gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "The same.");
        let leases = gauge("coordinator_leases", "Leases that exist.");
        let requests = gauge(
            "coordinator_requests_remembered",
            "Requests with an Idempotency-Key whose answer is kept.",
        );
        let request_bytes = gauge("coordinator_requests_remembered_bytes", "What these take.");
        gauge("etcd_server_quota_backend_bytes", "What the store may take.").set_count(quota_bytes);
        let has_leader = gauge("etcd_server_has_leader", "Whether a leader is known.");
        let is_leader = gauge("etcd_server_is_leader", "Whether this node leads.");
        let term = gauge("coordinator_term", "The current term.");
        registry.before_encoding(move || {
            let now = *leadership.borrow();
            has_leader.set_count(u64::from(now.leader.is_some()));
            is_leader.set_count(u64::from(now.is_here));
            term.set_count(now.term.0);
            let store = newest.load();
            revision.set_count(store.revision().0);
            compacted.set_count(store.mvcc.compacted().0);
            keys.set_count(store.mvcc.live_keys());
            bytes.set_count(store.used_bytes());
            in_use.set_count(store.used_bytes());
            leases.set_count(store.leases.len() as u64);
            requests.set_count(store.requests.len() as u64);
            request_bytes.set_count(store.requests.bytes());
        });
    }

    pub(crate) fn count_txn(&self, txn: &Txn) {
        if !txn.compares.is_empty() {
            self.txns.inc();
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match op {
                Op::Range(_) => self.ranges.inc(),
                Op::Put(_) => self.puts.inc(),
                Op::Delete(_) => self.deletes.inc(),
                Op::Txn(txn) => self.count_txn(txn),
            }
        }
    }
}
