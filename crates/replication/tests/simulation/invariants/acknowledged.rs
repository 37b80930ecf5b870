//! A write answered at quorum or better is committed, and still there after any minority of the
//! nodes was lost.

use crate::cluster::Cluster;
use crate::invariants::commit::Commit;

pub(crate) fn check(cluster: &Cluster, commit: &Commit) -> Result<(), String> {
    for head in cluster.acked.iter().rev().take(8) {
        if commit.hash(head.index()).is_some_and(|hash| hash != head.hash) {
            return Err(format!("{} was acknowledged, another entry committed", head.position));
        }
    }
    Ok(())
}

pub(crate) fn check_survived(cluster: &Cluster) -> Result<(), String> {
    let primary = &cluster.nodes[cluster.primary];
    for head in &cluster.acked {
        let there = primary.head_at(head.index());
        let compacted =
            head.index() <= primary.base && head.index() <= primary.engine.applied.index();
        let survived = there.map_or(compacted, |there| there == *head);
        if !survived {
            return Err(format!("{} was acknowledged and is gone", head.position));
        }
    }
    Ok(())
}
