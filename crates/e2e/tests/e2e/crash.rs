//! SIGKILL in the middle of the load: what was acknowledged is there afterwards.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::load::{Load, until};
use crate::node::{Node, ok, pair};

const ROUNDS: usize = 3;
/// Acknowledged writes before each kill.
const LOAD: u64 = 150;

#[tokio::test(flavor = "multi_thread")]
async fn the_coordinator_keeps_every_acknowledged_key() {
    keeps_every_key("coordinator", "linearizable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_keeps_every_acknowledged_key() {
    keeps_every_key("replica", "strong").await;
}

async fn keeps_every_key(service: &'static str, consistency: &str) {
    let mut node = Node::start(service).await;
    let acknowledged = kill_under_load(&mut node, |client, url, number| {
        client.put(format!("{url}/v1/kv/crash/{number:08}")).body(format!("value {number}"))
    })
    .await;
    for number in &acknowledged {
        let path = format!("/v1/kv/crash/{number:08}?consistency={consistency}");
        let answer = ok(node.get(&path)).await;
        assert_eq!(answer.text().await.unwrap(), format!("value {number}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_keeps_every_acknowledged_message() {
    let mut broker = Node::start("broker").await;
    ok(broker.put("/v1/topics/crash").json(&json!({ "partitions": 2 }))).await;
    let acknowledged = kill_under_load(&mut broker, |client, url, number| {
        client
            .post(format!("{url}/v1/topics/crash/messages"))
            .header("x-key", number.to_string())
            .json(&number)
    })
    .await;

    let mut stored = BTreeSet::new();
    for partition in 0..2 {
        let path =
            format!("/v1/topics/crash/messages?partition={partition}&from=earliest&limit=10000");
        let page: Value = ok(broker.get(&path)).await.json().await.unwrap();
        for message in page["messages"].as_array().unwrap() {
            stored.insert(message["data"].as_u64().unwrap());
        }
    }
    let lost: Vec<_> = acknowledged.iter().filter(|number| !stored.contains(number)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_delivers_every_acknowledged_message() {
    let mut broker = Node::start("broker").await;
    ok(broker.put("/v1/queues/crash").json(&json!({}))).await;
    let acknowledged = kill_under_load(&mut broker, |client, url, number| {
        client.post(format!("{url}/v1/queues/crash/messages")).json(&number)
    })
    .await;

    let mut received = BTreeSet::new();
    loop {
        let take = broker.post("/v1/queues/crash/receive").json(&json!({ "max": 500 }));
        let taken: Value = ok(take).await.json().await.unwrap();
        let messages = taken["messages"].as_array().unwrap();
        if messages.is_empty() {
            break;
        }
        received.extend(messages.iter().map(|message| message["data"].as_u64().unwrap()));
        let ack_ids: Vec<&Value> = messages.iter().map(|message| &message["ack_id"]).collect();
        let ack = broker.post("/v1/queues/crash/ack").json(&json!({ "ack_ids": ack_ids }));
        ok(ack).await;
    }
    let lost: Vec<_> = acknowledged.iter().filter(|number| !received.contains(number)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
}

/// Acknowledged messages of a queue do not come back either, however the broker ends.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_acked_stays_acked() {
    let mut broker = Node::start("broker").await;
    ok(broker.put("/v1/queues/acked").json(&json!({}))).await;
    for number in 0..20 {
        ok(broker.post("/v1/queues/acked/messages").json(&number)).await;
    }
    let take = broker.post("/v1/queues/acked/receive").json(&json!({ "max": 10 }));
    let taken: Value = ok(take).await.json().await.unwrap();
    let messages = taken["messages"].as_array().unwrap();
    let ack_ids: Vec<&Value> = messages.iter().map(|message| &message["ack_id"]).collect();
    ok(broker.post("/v1/queues/acked/ack").json(&json!({ "ack_ids": ack_ids }))).await;

    broker.kill().await;
    broker.restart().await;
    let queue: Value = ok(broker.get("/v1/queues/acked")).await.json().await.unwrap();
    assert_eq!(queue["stats"]["messages"], 10, "{queue}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_catches_up() {
    let (primary, mut replica) = pair().await;
    let client = primary.client().clone();
    let url = primary.url("");
    let load = Load::start(move |number| {
        client.put(format!("{url}/v1/kv/catch-up/{number}?ack=async")).body(number.to_string())
    });
    load.progress(LOAD).await;
    replica.kill().await;
    load.progress(LOAD).await;
    replica.restart().await;
    load.progress(LOAD).await;
    let acknowledged = load.finish().await;

    let primary = &primary;
    let replica = &replica;
    until("both have the same state", || async move {
        let (one, two) = (status(primary).await, status(replica).await);
        one["applied_index"] == two["applied_index"] && one["digest"] == two["digest"]
    })
    .await;
    for number in acknowledged {
        let answer = ok(replica.get(&format!("/v1/kv/catch-up/{number}"))).await;
        assert_eq!(answer.text().await.unwrap(), number.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_primary_keeps_what_a_quorum_has() {
    let (mut primary, replica) = pair().await;
    let acknowledged = kill_under_load(&mut primary, |client, url, number| {
        client.put(format!("{url}/v1/kv/quorum/{number}?ack=quorum")).body(number.to_string())
    })
    .await;
    for number in acknowledged {
        let answer = ok(primary.get(&format!("/v1/kv/quorum/{number}?consistency=strong"))).await;
        let token = answer.headers().get("x-session").cloned();
        assert_eq!(answer.text().await.unwrap(), number.to_string());
        // The replica has it too, once it has seen what the primary has shown.
        let mut read = replica.get(&format!("/v1/kv/quorum/{number}"));
        if let Some(token) = token {
            read = read.header("x-session", token);
        }
        assert_eq!(ok(read).await.text().await.unwrap(), number.to_string());
    }
}

/// Loads, kills and restarts a few times. Returns the numbers whose write was acknowledged.
async fn kill_under_load<F>(node: &mut Node, request: F) -> Vec<u64>
where
    F: Fn(&reqwest::Client, &str, u64) -> reqwest::RequestBuilder + Clone + Send + 'static,
{
    let (client, url) = (node.client().clone(), node.url(""));
    let load = Load::start(move |number| request(&client, &url, number));
    for _ in 0..ROUNDS {
        load.progress(LOAD).await;
        node.kill().await;
        node.restart().await;
    }
    load.progress(LOAD).await;
    load.finish().await
}

async fn status(node: &Node) -> Value {
    ok(node.get("/v1/replication")).await.json().await.unwrap()
}
