//! What has to hold before this node is ready.

use chassis::health::Health;

use crate::replica::ReplicaHandle;
use crate::view::Side;

/// Registers the checks.
pub(crate) fn checks(health: &Health, replica: &ReplicaHandle) {
    let disk = replica.clone();
    health.probe("disk", move || match disk.shared.log.wal().stats().disk_full {
        true => Err("the disk is full: writes are refused, reads go on".to_owned()),
        false => disk.shared.room.check(),
    });
    let replica = replica.clone();
    health.probe("replication", move || replicating(&replica));
}

/// A primary has begun its epoch; a replica is caught up, which is more than having heard of its
/// primary.
fn replicating(replica: &ReplicaHandle) -> Result<(), String> {
    let view = replica.view();
    if let Some(fault) = &view.fault {
        return Err(fault.to_string());
    }
    match &view.side {
        Side::Primary { fenced_by: Some(by), .. } => {
            Err(format!("fenced: a newer primary with epoch {by} has taken over"))
        }
        Side::Primary { open: false, .. } => Err("the epoch is just beginning".to_owned()),
        Side::Primary { .. } => Ok(()),
        Side::Replica { connected: false, primary: None, .. } => {
            Err("no member has answered as the primary yet".to_owned())
        }
        Side::Replica { .. } => {
            let max = replica.shared.config.replication.ready_max_lag_ms;
            match view.lag_ms(replica.now_ms()) {
                None => Err("it is not known how far this node is behind its primary".to_owned()),
                Some(lag) if max < lag => {
                    Err(format!("{lag} ms behind the primary, the limit is {max}"))
                }
                Some(_) => Ok(()),
            }
        }
    }
}
