//! Members that die, and members that are restarted one after the other.

use sim::seeds;

use crate::run::Run;

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_a_leader_a_follower_and_all_at_once_loses_nothing() {
    for seed in seeds(1) {
        let mut run = Run::start("kill", seed).await;
        let leader = run.cluster.leader().await;
        kill(&mut run, &[leader]).await;
        let follower = (run.cluster.leader().await + 1) % 3;
        kill(&mut run, &[follower]).await;
        for member in &mut run.cluster.members {
            member.kill().await;
        }
        for number in 0..3 {
            run.cluster.spawn(number);
        }
        run.finish().await;
    }
}

/// The others go on; then it comes back.
async fn kill(run: &mut Run, which: &[usize]) {
    for number in which {
        run.cluster.members[*number].kill().await;
    }
    run.progress(50).await;
    for number in which {
        run.cluster.spawn(*number);
        run.cluster.members[*number].ready().await;
    }
    run.progress(25).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_loses_nothing() {
    for seed in seeds(1) {
        let mut run = Run::start("rolling-restart", seed).await;
        for number in 0..3 {
            let status = run.cluster.members[number].terminate().await;
            assert!(status.success(), "{status}\n{}", run.cluster.members[number].log());
            run.cluster.spawn(number);
            run.cluster.members[number].ready().await;
            run.progress(25).await;
        }
        run.finish().await;
    }
}
