//! Whatever may happen, in any order. The long form is `scripts/chaos`.

use sim::seeds;

use crate::cluster::Cluster;
use crate::nemesis::torment;
use crate::network::Kind;
use crate::run::Run;

#[tokio::test(flavor = "multi_thread")]
async fn a_few_faults_by_chance() {
    for seed in seeds(1) {
        chaos(seed, 5).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute a seed: scripts/chaos"]
async fn many_faults_by_chance() {
    for seed in seeds(1) {
        chaos(seed, 20).await;
    }
}

async fn chaos(seed: u64, faults: usize) {
    // Every other seed has links that can be slow, where the others lose packets.
    let kind = if seed.is_multiple_of(2) { Kind::Cuttable } else { Kind::Slowable };
    let mut cluster = Cluster::prepared(kind).await;
    cluster.give_disks();
    cluster.give_clocks();
    let mut run = Run::with("chaos", seed, cluster).await;
    torment(&mut run, faults).await;
    run.finish().await;
}
