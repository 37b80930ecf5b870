//! Without faults, every node comes to the primary's history and state.

use crate::cluster::Cluster;

pub(crate) fn check(cluster: &Cluster) -> Result<(), String> {
    let primary = &cluster.nodes[cluster.primary];
    for (node, state) in cluster.nodes.iter().enumerate() {
        let at = state.engine.applied;
        if state.head() != primary.head() || at != primary.head() {
            return Err(format!(
                "healed, but node {node} is at {} (applied {}), the primary at {}",
                state.head().position,
                at.position,
                primary.head().position
            ));
        }
    }
    Ok(())
}
