//! Links that are cut, that work in one direction, and that are slow.

use std::time::Duration;

use sim::seeds;
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::network::{Kind, Link, all, around, between};
use crate::run::Run;

/// Longer than it takes to miss a leader.
const CUT: Duration = Duration::from_millis(1200);

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_is_replaced_and_told_nothing_wrong() {
    for seed in seeds(1) {
        let run = Run::start("isolation", seed).await;
        let old = run.cluster.leader().await;
        cut(&run, &around(old));
        let others = [(old + 1) % 3, (old + 2) % 3];
        run.cluster.successor_among(&others, old).await;
        run.progress(40).await;
        run.cluster.network.heal();
        run.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_fail_in_part_do_not_stop_a_majority() {
    for seed in seeds(1) {
        let run = Run::start("partial", seed).await;
        let leader = run.cluster.leader().await;
        let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
        let ways: [&[Link]; 5] = [
            // Two followers do not hear each other.
            &between(one, other),
            // The leader is heard by one only, but hears both.
            &[Link { from: leader, to: one }],
            // The leader is not heard by anybody, but hears both.
            &[Link { from: leader, to: one }, Link { from: leader, to: other }],
            // The leader hears nobody.
            &[Link { from: one, to: leader }, Link { from: other, to: leader }],
            // One is between the two others.
            &between(leader, one),
        ];
        for way in ways {
            cut(&run, way);
            sleep(CUT).await;
            run.progress(15).await;
            run.cluster.network.heal();
            run.progress(10).await;
        }
        // A ring: each is heard by one, and nobody has a link that works in both directions.
        let ring = [(leader, one), (one, other), (other, leader)];
        cut(&run, &ring.map(|(from, to)| Link { from, to }));
        sleep(CUT).await;
        run.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_was_held_back_may_arrive_late() {
    for seed in seeds(1) {
        let run = Run::with("held-back", seed, Cluster::prepared(Kind::Slowable).await).await;
        for _ in 0..2 {
            cut(&run, &all());
            sleep(CUT).await;
            run.cluster.network.heal();
            run.progress(25).await;
        }
        run.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_links_with_jitter_are_only_slow() {
    for seed in seeds(1) {
        let run = Run::with("slow", seed, Cluster::prepared(Kind::Slowable).await).await;
        for link in all() {
            run.cluster.network.slow(link, Duration::from_millis(20), Duration::from_millis(60));
        }
        run.progress(50).await;
        // One member is so slow that it is hardly ever heard in time.
        let leader = run.cluster.leader().await;
        so_slow(&run, (leader + 1) % 3);
        run.progress(40).await;
        run.cluster.network.heal();
        // Nobody has to take over from a leader that is as slow: it is late, but it is heard. Then
        // answers take longer than clients wait.
        so_slow(&run, run.cluster.leader().await);
        sleep(2 * CUT).await;
        run.cluster.network.heal();
        run.progress(15).await;
        run.finish().await;
    }
}

fn so_slow(run: &Run, member: usize) {
    for link in around(member) {
        run.cluster.network.slow(link, Duration::from_millis(400), Duration::from_millis(600));
    }
}

fn cut(run: &Run, links: &[Link]) {
    links.iter().for_each(|link| run.cluster.network.cut(*link));
}
