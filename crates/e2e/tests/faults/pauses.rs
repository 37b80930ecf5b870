//! Processes that are stopped and go on as if nothing had happened.

use reqwest::Method;
use sim::seeds;

use crate::cluster::until;
use crate::run::Run;

/// A request waits in the old leader's socket while others elect a new one and take a write. It is
/// the first thing that the old leader finds when it wakes up, and must not be answered from what
/// it believes.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_slept_does_not_answer_from_its_dream() {
    const KEY: &str = "/v1/kv/slept";
    for seed in seeds(1) {
        let run = Run::start("pause", seed).await;
        for round in 0..2 {
            let old = run.cluster.leader().await;
            let awake = [(old + 1) % 3, (old + 2) % 3];
            let doors = run.cluster.doors();
            let put =
                |door: usize, value: String| doors[door].request(Method::PUT, KEY).body(value);
            let taken = async |door: usize, value: &str| {
                until("a write is taken", || async {
                    let answer = put(door, value.to_owned()).send().await;
                    answer.is_ok_and(|answer| answer.status().is_success())
                })
                .await;
            };
            taken(old, &format!("{round}-before")).await;

            run.cluster.members[old].signal("STOP").await;
            let new = run.cluster.successor_among(&awake, old).await;
            let after = format!("{round}-after");
            taken(new, &after).await;
            let asked = (0..8).map(|_| {
                let get = doors[old].request(Method::GET, KEY).timeout(crate::member::PATIENCE);
                async move { get.send().await }
            });
            let mut answers = tokio::task::JoinSet::new();
            asked.for_each(|ask| drop(answers.spawn(ask)));
            run.progress(25).await;
            run.cluster.members[old].signal("CONT").await;
            while let Some(answer) = answers.join_next().await {
                let answer = answer.expect("a client does not panic").expect("an answer");
                // 503: it does not know yet who leads.
                if answer.status() != 503 {
                    assert_eq!(answer.text().await.unwrap(), after);
                }
            }
            run.progress(25).await;
        }
        run.finish().await;
    }
}
