//! `GET /v1/replication`, worked out from a view.

use api::replica::{PrimaryStatus, ReplicaStatus, ReplicationStatus, Role};
use replication::Index;

use crate::config;
use crate::replica::ReplicaHandle;
use crate::view::{Mark, Side, View};

impl ReplicaHandle {
    /// The names of the configured replicas, as the primary numbers them.
    pub(crate) fn names(&self) -> Vec<String> {
        let Self { shared } = self;
        let others = shared.config.replication.others(&shared.node);
        others.into_iter().map(|member| member.name).collect()
    }

    /// Role, position and lag.
    pub(crate) fn status(&self) -> ReplicationStatus {
        let view = self.view();
        let now_ms = self.now_ms();
        let applied = view.engine.applied().head;
        let digest = self.shared.digests.at(applied.index()).map(|(_, root)| root);
        ReplicationStatus {
            group: self.shared.config.replication.group.clone(),
            node: self.shared.node.clone(),
            role: role(view.role),
            epoch: view.epoch.0,
            last: position(view.head.position),
            first_index: view.first.0,
            durable_index: view.visible.index.0,
            commit_index: view.commit.0,
            applied_index: applied.index().0,
            digest: digest.unwrap_or_else(|| view.engine.root()).to_string(),
            fault: fault(&view),
            primary: primary(&view, now_ms),
            replicas: replicas(&view, &self.names(), now_ms),
            resyncs: view.resyncs,
        }
    }
}

fn fault(view: &View) -> Option<String> {
    if let Some(fault) = &view.fault {
        return Some(fault.to_string());
    }
    match view.side {
        Side::Primary { fenced_by: Some(by), .. } => {
            Some(format!("fenced: a newer primary with epoch {by} has taken over"))
        }
        Side::Primary { .. } | Side::Replica { .. } => None,
    }
}

fn primary(view: &View, now_ms: u64) -> Option<PrimaryStatus> {
    let Side::Replica { primary, connected, primary_last, .. } = &view.side else { return None };
    let lag = |last: Index| last.0.saturating_sub(view.visible.index.0);
    Some(PrimaryStatus {
        node: primary.as_deref().map(str::to_owned),
        connected: *connected,
        lag_ms: view.lag_ms(now_ms),
        // Of a primary that is gone, what it has by now is not known.
        lag_entries: primary_last.filter(|_| *connected).map(lag),
    })
}

/// Each configured replica, as this primary sees it. On a replica: none.
pub(crate) fn replicas(view: &View, names: &[String], now_ms: u64) -> Vec<ReplicaStatus> {
    let Side::Primary { replicas, marks, .. } = &view.side else { return Vec::new() };
    let status = |(member, progress): &(replication::MemberId, replication::Progress)| {
        let confirmed = progress.confirmed;
        let durable = confirmed.map(|confirmed| confirmed.durable);
        ReplicaStatus {
            node: names.get(member.0 as usize).cloned().unwrap_or_default(),
            connected: progress.connected,
            // Only what is on this epoch's history is reported at all.
            epoch: confirmed.map(|_| view.epoch.0),
            received_index: confirmed.map(|confirmed| confirmed.received.0),
            durable_index: durable.map(|index| index.0),
            applied_index: progress.applied.map(|index| index.0),
            lag_entries: durable.map(|durable| view.head.index().0.saturating_sub(durable.0)),
            lag_bytes: durable.and_then(|durable| lag_bytes(marks, durable)),
            lag_ms: durable.and_then(|durable| lag_ms(view, marks, durable, now_ms)),
        }
    };
    replicas.iter().map(status).collect()
}

/// The age of the oldest entry after `durable`.
fn lag_ms(view: &View, marks: &[Mark], durable: Index, now_ms: u64) -> Option<u64> {
    if view.head.index() <= durable {
        return Some(0);
    }
    let first_missing = marks.partition_point(|mark| mark.index <= durable);
    if first_missing == 0 && 0 < durable.0 && !marks.is_empty() {
        // Older than what is remembered: at least this much.
        return Some(now_ms.saturating_sub(marks[0].at_ms));
    }
    marks.get(first_missing).map(|mark| now_ms.saturating_sub(mark.at_ms))
}

fn lag_bytes(marks: &[Mark], durable: Index) -> Option<u64> {
    let Some(last) = marks.last() else { return Some(0) };
    if last.index <= durable {
        return Some(0);
    }
    let confirmed = marks.partition_point(|mark| mark.index <= durable);
    let confirmed = marks.get(confirmed.checked_sub(1)?)?;
    Some(last.bytes - confirmed.bytes)
}

/// On the wire.
pub(crate) const fn role(role: config::Role) -> Role {
    match role {
        config::Role::Primary => Role::Primary,
        config::Role::Replica => Role::Replica,
    }
}

/// On the wire.
pub(crate) const fn position(position: replication::Position) -> api::replica::Position {
    api::replica::Position { epoch: position.epoch.0, index: position.index.0 }
}

/// From the wire.
pub(crate) const fn from_wire(position: api::replica::Position) -> replication::Position {
    replication::Position {
        epoch: replication::Epoch(position.epoch),
        index: Index(position.index),
    }
}
