//! (epoch, index) names one entry, over all logs and for ever.

use std::collections::BTreeMap;

use replication::{Hash, Position};

use crate::cluster::Cluster;
use crate::node::Core;

#[derive(Default)]
pub(crate) struct OneHistory {
    /// Kept for the whole run: two logs need not hold the two entries at the same time.
    hashes: BTreeMap<Position, Hash>,
}

impl OneHistory {
    pub(crate) fn check(&mut self, cluster: &Cluster) -> Result<(), String> {
        for (node, state) in cluster.nodes.iter().enumerate() {
            // Nobody hears of an epoch before it is open, so a crash may still undo it.
            if matches!(&state.core, Some(Core::Primary(primary)) if !primary.is_open()) {
                continue;
            }
            // What a step adds is at the end.
            for entry in state.log.iter().rev().take(16) {
                let first = *self.hashes.entry(entry.position).or_insert(entry.hash);
                if first != entry.hash {
                    return Err(format!("node {node} has another entry {}", entry.position));
                }
            }
        }
        Ok(())
    }
}
