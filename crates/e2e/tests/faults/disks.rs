//! Disks that are full.

use sim::seeds;

use crate::cluster::Cluster;
use crate::network::Kind;
use crate::run::Run;

/// A member without space falls behind, says so, and catches up when there is space. The others go
/// on.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_with_a_full_disk_holds_nobody_up_and_catches_up() {
    for seed in seeds(1) {
        let mut cluster = Cluster::prepared(Kind::Cuttable).await;
        if !cluster.give_disks() {
            return;
        }
        let run = Run::with("full-follower", seed, cluster).await;
        let full = (run.cluster.leader().await + 1) % 3;
        run.cluster.disk(full).fill();
        run.cluster.fill_log(full).await;
        run.progress(30).await;
        run.cluster.disk(full).clear();
        run.finish().await;
    }
}

/// With a leader that takes nothing, nothing is taken; the others have space.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_with_a_full_disk_makes_way_for_one_that_has_space() {
    for seed in seeds(1) {
        let mut cluster = Cluster::prepared(Kind::Cuttable).await;
        if !cluster.give_disks() {
            return;
        }
        let run = Run::with("full-leader", seed, cluster).await;
        let full = run.cluster.leader().await;
        run.cluster.disk(full).fill();
        run.cluster.fill_log(full).await;
        run.progress(30).await;
        run.cluster.disk(full).clear();
        run.finish().await;
    }
}
