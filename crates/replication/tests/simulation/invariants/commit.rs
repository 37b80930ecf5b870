//! What one node knows to be committed, every node that knows as much agrees with. A running
//! node's commit index never goes back.

use std::collections::BTreeMap;

use replication::{Hash, Index};

use crate::cluster::Cluster;

#[derive(Default)]
pub(crate) struct Commit {
    committed: BTreeMap<Index, Hash>,
    /// By node, with how often it crashed: a restart may know less.
    last: BTreeMap<usize, (u32, Index)>,
}

impl Commit {
    pub(crate) fn check(&mut self, cluster: &Cluster) -> Result<(), String> {
        for (node, state) in cluster.nodes.iter().enumerate() {
            if let Some(fault) = &state.fault {
                return Err(format!("node {node} halted: {fault}"));
            }
            let Some(commit) = state.commit() else {
                self.last.remove(&node);
                continue;
            };
            let (before, known) =
                self.last.insert(node, (state.crashes, commit)).unwrap_or_default();
            if before == state.crashes && commit < known {
                return Err(format!(
                    "the commit index of node {node} fell from {known} to {commit}"
                ));
            }
            for index in (commit.0.saturating_sub(16)..=commit.0).map(Index) {
                let Some(head) = state.head_at(index) else { continue };
                let first = *self.committed.entry(index).or_insert(head.hash);
                if first != head.hash {
                    return Err(format!("node {node} takes another entry {index} for committed"));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn hash(&self, index: Index) -> Option<Hash> {
        self.committed.get(&index).copied()
    }
}
