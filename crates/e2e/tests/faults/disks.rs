//! Disks that are full, and disks that hang.

use e2e::HangingDisk;
use sim::seeds;

use crate::cluster::Cluster;
use crate::member::Member;
use crate::network::Kind;
use crate::run::Run;

/// A member without space falls behind, says so, and catches up when there is space. The others go
/// on.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_with_a_full_disk_holds_nobody_up_and_catches_up() {
    a_full_disk("full-follower", |leader| (leader + 1) % 3).await;
}

/// With a leader that takes nothing, nothing is taken; the others have space.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_with_a_full_disk_makes_way_for_one_that_has_space() {
    a_full_disk("full-leader", |leader| leader).await;
}

/// Writes have to go on while one disk is full: `whose`, of the leader's place.
async fn a_full_disk(scenario: &'static str, whose: fn(usize) -> usize) {
    for seed in seeds(1) {
        let mut cluster = Cluster::prepared(Kind::Cuttable).await;
        if !cluster.give_disks() {
            return;
        }
        let run = Run::with(scenario, seed, cluster).await;
        let full = whose(run.cluster.leader().await);
        run.cluster.disk(full).fill();
        run.cluster.fill_log(full).await;
        run.progress(30).await;
        run.cluster.disk(full).clear();
        run.finish().await;
    }
}

/// Heartbeats need no disk, so a leader whose disk hangs is still heard. It has to give up by
/// itself, and another member's disk is fast enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_disk_hangs_gives_up_leading() {
    for seed in seeds(1) {
        let cluster = Cluster::prepared(Kind::Cuttable).await;
        let mount = |member: &Member| HangingDisk::mount(&member.data_dir());
        let disks: Vec<HangingDisk> = cluster.members.iter().map_while(mount).collect();
        if disks.len() < cluster.members.len() {
            return;
        }
        let run = Run::with("hanging-disk", seed, cluster).await;
        // To be dropped first: nothing can be removed from a disk that hangs.
        let disks = disks;
        let old = run.cluster.leader().await;
        let others = [(old + 1) % 3, (old + 2) % 3];
        assert!(disks[old].freeze(), "it could be frozen before");
        run.cluster.successor_among(&others, old).await;
        run.progress(30).await;
        disks[old].thaw();
        run.finish().await;
    }
}
