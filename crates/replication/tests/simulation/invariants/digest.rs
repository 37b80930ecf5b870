//! Equal index, equal digest, always.

use std::collections::BTreeMap;

use replication::Index;
use replication::digest::Sum;

use crate::cluster::Cluster;

#[derive(Default)]
pub(crate) struct EqualDigests {
    roots: BTreeMap<Index, Sum>,
}

impl EqualDigests {
    pub(crate) fn check(&mut self, cluster: &Cluster) -> Result<(), String> {
        for (node, state) in cluster.nodes.iter().enumerate() {
            let at = state.engine.applied.index();
            let root = state.engine.root();
            let first = *self.roots.entry(at).or_insert(root);
            if first != root {
                return Err(format!("node {node} has another state at index {at}"));
            }
        }
        Ok(())
    }
}
