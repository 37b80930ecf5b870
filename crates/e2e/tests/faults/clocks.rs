//! Wall clocks that jump.

use sim::seeds;

use crate::cluster::Cluster;
use crate::network::Kind;
use crate::run::Run;

/// Seconds.
const DAY: i64 = 86_400;

#[tokio::test(flavor = "multi_thread")]
async fn leases_and_locks_do_not_care_what_the_time_is() {
    for seed in seeds(1) {
        let mut cluster = Cluster::prepared(Kind::Cuttable).await;
        if !cluster.give_clocks() {
            return;
        }
        let mut run = Run::with("clocks", seed, cluster).await;
        for jump in [DAY, -DAY, 3] {
            let leader = run.cluster.leader().await;
            for number in [leader, (leader + 1) % 3] {
                run.cluster.move_clock(number, jump);
                run.progress(30).await;
                // What it takes for the time only now, it takes from then on.
                run.cluster.members[number].kill().await;
                run.cluster.spawn(number);
                run.cluster.members[number].ready().await;
                run.progress(30).await;
            }
        }
        run.finish().await;
    }
}

/// What a moved clock may not do either: keep a lease alive whose holder is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_a_holder_that_is_gone_is_free_again_whatever_the_time_is() {
    for seed in seeds(1) {
        let mut cluster = Cluster::prepared(Kind::Cuttable).await;
        if !cluster.give_clocks() {
            return;
        }
        let mut run = Run::with("clocks-free", seed, cluster).await;
        let follower = (run.cluster.leader().await + 1) % 3;
        run.cluster.move_clock(follower, DAY);
        run.cluster.members[follower].kill().await;
        run.cluster.spawn(follower);
        run.cluster.members[follower].ready().await;
        for door in run.cluster.doors() {
            crate::load::locks::take_and_forget(&door, "forgotten").await;
        }
        run.finish().await;
    }
}
