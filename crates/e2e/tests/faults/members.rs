//! Leaders that hand over, and members that are replaced.

use sim::seeds;

use crate::run::Run;

#[tokio::test(flavor = "multi_thread")]
async fn leaders_hand_over_and_every_member_can_be_replaced() {
    for seed in seeds(1) {
        let mut run = Run::start("members", seed).await;
        for _ in 0..2 {
            let leader = run.cluster.leader().await;
            let [one, other] = [(leader + 1) % 3, (leader + 2) % 3];
            assert!(run.cluster.transfer(one, other).await, "all is well");
            run.cluster.successor_among(&[other], leader).await;
            run.progress(15).await;
        }
        // One that leads, and lives when it is removed.
        let leader = run.cluster.leader().await;
        run.cluster.replace(leader).await;
        run.cluster.settle().await;
        run.progress(15).await;
        // One that is dead.
        let follower = (run.cluster.leader().await + 1) % 3;
        run.cluster.members[follower].kill().await;
        run.cluster.replace(follower).await;
        run.cluster.settle().await;
        run.finish().await;
    }
}
