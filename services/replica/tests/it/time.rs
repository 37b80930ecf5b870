//! What depends on time: expiry, and the window of idempotency keys.

use std::time::Duration;

use chassis::clock::Clock;
use chassis::testing::Running;
use replica::Config;
use reqwest::StatusCode;

use crate::cluster::until;
use crate::support::{Answer, config, http, send};

/// A node whose clock the test moves.
async fn node(dir: &std::path::Path, clock: &Clock) -> Running<Config> {
    chassis::testing::try_start(config(dir), clock.clone(), replica::start)
        .await
        .expect("it starts")
}

async fn index(node: &Running<Config>) -> u64 {
    let status = send(http().get(format!("{}/v1/replication", node.url))).await.json();
    status["durable_index"].as_u64().expect("an index")
}

#[tokio::test]
async fn a_key_goes_when_its_time_is_over_and_the_log_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(1_000_000);
    let node = node(dir.path(), &clock).await;
    let url = format!("{}/v1/kv/brief", node.url);
    let put = send(http().put(format!("{url}?ttl_seconds=10")).body("v")).await;
    assert_eq!(put.status, StatusCode::OK, "{put:?}");
    clock.advance(Duration::from_millis(9_999));
    assert_eq!(send(http().get(&url)).await.text(), "v");
    clock.advance(Duration::from_millis(1));
    assert_eq!(send(http().get(&url)).await.code(), "key-not-found");
    // Readers only look away; the primary's entry removes it, the same on every node.
    let digest = async || {
        let digest = send(http().get(format!("{}/v1/digest", node.url))).await.json();
        digest["digest"].as_str().unwrap().to_owned()
    };
    until("removed", async || digest().await == "0".repeat(32)).await;
    let again = send(http().put(&url).header("if-none-match", "*").body("w")).await;
    assert_eq!(again.status, StatusCode::OK, "{again:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_repeat_with_the_same_key_answers_the_first_result() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(1_000_000);
    let put = async |node: &Running<Config>, key: &str, value: &str| -> Answer {
        let url = format!("{}/v1/kv/{key}", node.url);
        send(http().put(url).header("idempotency-key", "k-1").body(value.to_owned())).await
    };
    let running = node(dir.path(), &clock).await;
    let first = put(&running, "a", "1").await;
    assert_eq!(first.status, StatusCode::OK, "{first:?}");
    let after = index(&running).await;
    let again = put(&running, "a", "1").await;
    assert_eq!(again.header("x-session"), first.header("x-session"));
    assert_eq!(again.json()["replayed"], true);
    assert_eq!(index(&running).await, after, "one entry in the log");
    assert_eq!(put(&running, "a", "2").await.code(), "idempotency-mismatch");
    assert_eq!(put(&running, "b", "1").await.code(), "idempotency-mismatch");
    running.abort().await;

    let running = node(dir.path(), &clock).await;
    let again = put(&running, "a", "1").await;
    assert_eq!(again.header("x-session"), first.header("x-session"), "it survives a restart");
    clock.advance(Duration::from_secs(3600));
    let later = put(&running, "a", "2").await;
    assert_eq!(later.status, StatusCode::OK, "the window is over: {later:?}");
    running.stop().await;
}
