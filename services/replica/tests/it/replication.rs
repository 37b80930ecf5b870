//! Three nodes: replication, acknowledgement levels, sessions, failures.

use std::time::Duration;

use reqwest::StatusCode;

use crate::cluster::{Cluster, Link, until};
use crate::support::{http, send};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_anywhere_is_read_everywhere() {
    let cluster = Cluster::start(3, |_| ()).await;
    for node in 0..3 {
        let put = cluster.put(node, &format!("from-{node}"), "here").await;
        assert_eq!(put.status, StatusCode::OK, "{put:?}");
        assert!(put.header("x-acked-by").parse::<u32>().unwrap() >= 2, "{put:?}");
        assert_eq!(put.header("x-quartet-node"), "replica-1", "the primary answered: {put:?}");
        for reader in 0..3 {
            let url = cluster.url(reader, &format!("/v1/kv/from-{node}"));
            let get = send(http().get(url).header("x-session", put.header("x-session"))).await;
            assert_eq!((get.status, get.text()), (StatusCode::OK, "here"), "{get:?}");
            assert_eq!(get.header("x-served-by"), format!("replica-{}", reader + 1));
            assert_eq!(get.header("x-role"), if reader == 0 { "primary" } else { "replica" });
            let lag: u64 = get.header("x-lag-ms").parse().unwrap();
            assert!(reader != 0 || lag == 0);
        }
        let strong = cluster.url(node, &format!("/v1/kv/from-{node}?consistency=strong"));
        let get = send(http().get(strong)).await;
        assert_eq!(get.header("x-served-by"), "replica-1", "only the primary reads strongly");
    }
    cluster.converged().await;
    let status = cluster.status(0).await;
    assert_eq!(status["role"], "primary");
    assert_eq!(status["replicas"].as_array().unwrap().len(), 2);
    until("confirmed", async || {
        let status = cluster.status(0).await;
        status["replicas"].as_array().unwrap().iter().all(|replica| {
            replica["connected"] == true && replica["lag_entries"] == 0 && replica["lag_ms"] == 0
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_of_an_idle_primary_is_not_behind() {
    let cluster = Cluster::start(2, |config| config.replication.heartbeat_ms = 10).await;
    let bounded = cluster.url(1, "/v1/kv/a?consistency=bounded&max_lag_ms=90");
    // Below the owner's own tick: only heartbeats of their own can keep it.
    for _ in 0..5 {
        until("fresh", async || send(http().get(&bounded)).await.status == 404).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_away_catches_up_from_the_log() {
    let mut cluster = Cluster::start(3, |_| ()).await;
    cluster.put(0, "before", "1").await;
    cluster.kill(1).await;
    for i in 0..50 {
        let put = cluster.put(0, &format!("away/{i}"), &"x".repeat(i)).await;
        assert_eq!(put.status, StatusCode::OK, "the quorum goes on: {put:?}");
    }
    cluster.run(1).await;
    cluster.ready(1).await;
    cluster.converged().await;
    let status = cluster.status(1).await;
    assert_eq!((&status["resyncs"]["log"], &status["resyncs"]["snapshot"]), (&1.into(), &0.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_comes_back_goes_on_in_a_new_epoch() {
    let mut cluster = Cluster::start(3, |_| ()).await;
    let before = cluster.put(0, "a", "1").await;
    assert_eq!(before.status, StatusCode::OK, "{before:?}");
    cluster.kill(0).await;
    let get = cluster.get(1, "a").await;
    assert_eq!(get.text(), "1", "replicas serve reads without their primary");
    let put = cluster.put(1, "a", "2").await;
    assert!(matches!(put.code().as_str(), "no-leader" | "indeterminate"), "{put:?}");
    cluster.run(0).await;
    until("connected again", async || cluster.put(2, "a", "3").await.status == StatusCode::OK)
        .await;
    cluster.converged().await;
    let token = cluster.put(0, "b", "1").await.header("x-session").to_owned();
    assert!(token.starts_with("2:"), "{token}");
    let old = cluster.url(1, "/v1/kv/a");
    let get = send(http().get(old).header("x-session", before.header("x-session"))).await;
    assert_eq!(get.text(), "3", "a token of an earlier epoch of the same history holds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_level_that_is_not_reached_is_indeterminate_and_never_less() {
    let mut cluster = Cluster::start(3, |config| config.replication.wait_timeout_ms = 700).await;
    let url = cluster.url(0, "/v1/kv/a");
    let put =
        async |ack: &str| send(http().put(format!("{url}?ack={ack}")).body(ack.to_owned())).await;
    for ack in ["async", "semi", "quorum", "all"] {
        let put = put(ack).await;
        assert_eq!(put.status, StatusCode::OK, "{put:?}");
    }
    cluster.kill(2).await;
    assert_eq!(put("quorum").await.status, StatusCode::OK);
    assert_eq!(put("all").await.code(), "indeterminate");
    // The replicas connect to the primary: its relay carries all of it.
    cluster.link(0, Link::Paused);
    for ack in ["semi", "quorum", "all"] {
        let put = put(ack).await;
        assert_eq!(
            (put.status, put.code().as_str()),
            (StatusCode::GATEWAY_TIMEOUT, "indeterminate")
        );
        let facts = put.json();
        assert_eq!((&facts["applied"], &facts["acked"]), (&true.into(), &1.into()), "{facts}");
    }
    assert_eq!(put("async").await.status, StatusCode::OK);
    let eventual = cluster.get(0, "a").await;
    assert_eq!(eventual.text(), "async", "available");
    let strong = send(http().get(cluster.url(0, "/v1/kv/a?consistency=strong"))).await;
    assert_eq!(strong.code(), "unavailable", "and never showing what could be lost");
    cluster.link(0, Link::Open);
    cluster.run(2).await;
    until("healed", async || put("all").await.status == StatusCode::OK).await;
    cluster.converged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_waits_for_its_token_and_a_bound_refuses() {
    let cluster = Cluster::start(3, |config| config.replication.wait_timeout_ms = 500).await;
    cluster.link(0, Link::Paused);
    let url = cluster.url(0, "/v1/kv/a?ack=async");
    let token = send(http().put(url).body("1")).await.header("x-session").to_owned();
    let read =
        async || send(http().get(cluster.url(1, "/v1/kv/a")).header("x-session", &token)).await;
    let behind = read().await;
    assert_eq!(
        (behind.status, behind.code().as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "too-stale")
    );
    assert!(behind.json()["position"].is_string());
    until("stale", async || {
        let bounded = cluster.url(1, "/v1/kv/a?consistency=bounded&max_lag_ms=300");
        send(http().get(bounded)).await.status == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    let waiting = tokio::time::timeout(Duration::from_secs(20), async {
        cluster.link(0, Link::Open);
        while read().await.status != StatusCode::OK {}
    });
    waiting.await.expect("the token is reached once the link is open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_log_is_gone_gets_a_snapshot() {
    let mut cluster = Cluster::start(2, |config| {
        config.store.log_retention_bytes = 0;
    })
    .await;
    cluster.put(0, "kept", "1").await;
    let with_ttl = cluster.url(0, "/v1/kv/ttl?ttl_seconds=3600");
    send(http().put(with_ttl).body("t")).await;
    cluster.kill(1).await;
    std::fs::remove_dir_all(cluster.dir(1)).unwrap();
    for i in 0..20 {
        let url = cluster.url(0, &format!("/v1/kv/big/{i}?ack=async"));
        let put = send(http().put(url).body(vec![i; 900_000])).await;
        assert_eq!(put.status, StatusCode::OK, "{put:?}");
    }
    cluster.run(1).await;
    cluster.ready(1).await;
    until("committed", async || cluster.put(0, "after", "2").await.status == StatusCode::OK).await;
    cluster.converged().await;
    assert_eq!(cluster.get(1, "kept").await.text(), "1");
    // The primary drops log only once its engine would survive a power cut.
    until("compacted", async || cluster.status(0).await["first_index"].as_u64().unwrap() > 1).await;
    cluster.kill(1).await;
    std::fs::remove_dir_all(cluster.dir(1)).unwrap();
    cluster.run(1).await;
    cluster.ready(1).await;
    cluster.converged().await;
    let status = cluster.status(1).await;
    assert_eq!(status["resyncs"]["snapshot"], 1, "{status}");
    assert_eq!(cluster.get(1, "ttl").await.text(), "t");
    // What was installed survives a restart, and the log goes on behind it.
    cluster.put(0, "later", "3").await;
    cluster.kill(1).await;
    cluster.run(1).await;
    cluster.ready(1).await;
    assert_eq!(cluster.get(1, "big/7").await.body, vec![7; 900_000]);
    cluster.converged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_lost_its_disk_does_not_take_its_replicas_with_it() {
    let mut cluster = Cluster::start(3, |config| config.replication.wait_timeout_ms = 500).await;
    assert_eq!(cluster.put(0, "precious", "1").await.status, StatusCode::OK);
    cluster.kill(0).await;
    std::fs::remove_dir_all(cluster.dir(0)).unwrap();
    cluster.run(0).await;
    until("noticed", async || cluster.status(1).await["fault"].is_string()).await;
    assert_eq!(cluster.get(1, "precious").await.text(), "1");
    assert_eq!(cluster.put(0, "new", "1").await.code(), "indeterminate");
    let ready = send(http().get(cluster.url(1, "/readyz?verbose"))).await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(ready.text().contains("another history"), "{}", ready.text());
}
