//! Publishes the applied state for watchers and for reads that need not be the newest.
//!
//! One clone per wake-up, however many commands were applied meanwhile and however many watch.

use std::sync::Arc;

use raft_node::Group;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::state_machine::Machine;
use crate::store::Snapshot;

pub(crate) async fn run(
    group: Group<Machine>,
    publish: watch::Sender<Snapshot>,
    stop: CancellationToken,
) {
    let mut applied = group.applied();
    // Whatever was applied before the subscription counts as news.
    applied.mark_changed();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = applied.changed() => if changed.is_err() { return },
        }
        let Ok(store) = group.query(|machine| machine.store.clone()).await else { return };
        publish.send_replace(Arc::new(store));
    }
}
