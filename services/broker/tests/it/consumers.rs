//! Subscriptions.

use reqwest::Method;
use serde_json::json;

use crate::server::{Broker, data, problem};

const BASE: &str = "/v1/topics/t/subscriptions/s";

async fn topic(partitions: u32, subscription: serde_json::Value) -> Broker {
    let broker = Broker::start().await;
    broker.put("/v1/topics/t", json!({ "partitions": partitions })).await;
    broker.put(BASE, subscription).await;
    broker
}

async fn publish(broker: &Broker, key: &str, bodies: &[&str]) {
    for body in bodies {
        let headers = [("x-key", key), ("x-attr-kind", key)];
        let answer = broker.raw("/v1/topics/t/messages", &headers, body).await;
        assert_eq!(answer.status(), 201);
    }
}

#[tokio::test]
async fn a_group_gets_each_message_once_from_every_partition() {
    let broker = topic(3, json!({})).await;
    for key in ["a", "b", "c", "d", "e"] {
        publish(&broker, key, &[key]).await;
    }
    let pull = format!("{BASE}/pull");
    let first = broker.take(&pull, 2, 0.0).await;
    let rest = broker.take(&pull, 10, 0.0).await;
    assert_eq!((first.len(), rest.len()), (2, 3));
    let mut all = [data(&first), data(&rest)].concat();
    all.sort_unstable();
    assert_eq!(all, ["a", "b", "c", "d", "e"]);
    assert!(broker.take(&pull, 10, 0.0).await.is_empty());

    let ack = format!("{BASE}/ack");
    let messages = [first, rest].concat();
    assert_eq!(broker.settle(&ack, &messages, json!({})).await, ["ok"; 5]);
    assert_eq!(broker.settle(&ack, &messages[..1], json!({})).await, ["unknown"]);
    let stats = broker.get(BASE).await["stats"].clone();
    assert_eq!((&stats["lag"], &stats["acked"]), (&json!(0), &json!(5)), "{stats}");
    broker.stop().await;
}

#[tokio::test]
async fn a_pull_waits_for_a_message() {
    let broker = topic(2, json!({})).await;
    let pull = format!("{BASE}/pull");
    let (taken, ()) = tokio::join!(broker.take(&pull, 1, 30.0), publish(&broker, "k", &["now"]));
    assert_eq!(data(&taken), ["now"]);
    broker.stop().await;
}

#[tokio::test]
async fn a_nack_brings_a_message_back_and_its_old_ack_is_late() {
    let broker = topic(1, json!({})).await;
    publish(&broker, "k", &["x"]).await;
    let pull = format!("{BASE}/pull");
    let first = broker.take(&pull, 1, 0.0).await;
    let nack = format!("{BASE}/nack");
    assert_eq!(broker.settle(&nack, &first, json!({ "delay_ms": 0 })).await, ["ok"]);
    let again = broker.take(&pull, 1, 5.0).await;
    assert_eq!(again[0]["delivery"], 2);
    let ack = format!("{BASE}/ack");
    assert_eq!(broker.settle(&ack, &first, json!({})).await, ["late"]);
    assert_eq!(broker.settle(&ack, &again, json!({})).await, ["ok"]);
    broker.stop().await;
}

#[tokio::test]
async fn a_deadline_that_passes_brings_a_message_back() {
    let broker = topic(1, json!({ "ack_deadline_seconds": 0.05 })).await;
    publish(&broker, "k", &["x"]).await;
    let pull = format!("{BASE}/pull");
    let first = broker.take(&pull, 1, 0.0).await;
    let again = broker.take(&pull, 1, 10.0).await;
    assert_eq!((&first[0]["id"], &again[0]["delivery"]), (&again[0]["id"], &json!(2)));
    let ack = format!("{BASE}/ack");
    assert_eq!(broker.settle(&ack, &first, json!({})).await, ["late"]);
    broker.stop().await;
}

#[tokio::test]
async fn a_filter_delivers_only_what_it_wants() {
    let filter = json!({ "filter": { "kind": { "prefix": "wan" } }, "start": "earliest" });
    let broker = topic(2, filter).await;
    for n in 0..20 {
        let kind = if n % 5 == 0 { "wanted" } else { "other" };
        publish(&broker, kind, &[&n.to_string()]).await;
    }
    let taken = broker.take(&format!("{BASE}/pull"), 100, 0.0).await;
    assert_eq!(data(&taken), ["0", "5", "10", "15"]);
    broker.stop().await;
}

#[tokio::test]
async fn messages_of_a_key_go_one_at_a_time() {
    let broker = topic(1, json!({ "ordered_by_key": true })).await;
    publish(&broker, "a", &["a1", "a2"]).await;
    publish(&broker, "b", &["b1", "b2"]).await;
    let pull = format!("{BASE}/pull");
    let first = broker.take(&pull, 10, 0.0).await;
    assert_eq!(data(&first), ["a1", "b1"]);
    broker.settle(&format!("{BASE}/ack"), &first[..1], json!({})).await;
    assert_eq!(data(&broker.take(&pull, 10, 0.0).await), ["a2"]);
    broker.stop().await;
}

#[tokio::test]
async fn what_fails_too_often_goes_to_the_dead_letter_queue() {
    let broker = Broker::start().await;
    broker.put("/v1/queues/dead", json!({})).await;
    broker.put("/v1/topics/t", json!({})).await;
    broker.put(BASE, json!({ "max_deliveries": 1, "dead_letter": "queue/dead" })).await;
    publish(&broker, "k", &["x"]).await;
    let taken = broker.take(&format!("{BASE}/pull"), 1, 0.0).await;
    broker.settle(&format!("{BASE}/nack"), &taken, json!({})).await;
    let dead = broker.take("/v1/queues/dead/receive", 1, 20.0).await;
    assert_eq!(data(&dead), ["x"]);
    let note = &dead[0]["dead_letter"];
    assert_eq!(note["source"], "topic/t/subscription/s");
    assert_eq!((&note["source_id"], &note["reason"]), (&json!("0:0"), &json!("max-deliveries")));
    assert_eq!(dead[0]["attributes"]["kind"], "k");
    let in_use = broker.request(Method::DELETE, "/v1/queues/dead").send().await.unwrap();
    assert_eq!(problem(in_use, 409).await["code"], "conflict");
    broker.stop().await;
}

#[tokio::test]
async fn a_seek_replays() {
    let broker = topic(1, json!({})).await;
    publish(&broker, "k", &["0", "1", "2"]).await;
    let pull = format!("{BASE}/pull");
    let taken = broker.take(&pull, 10, 0.0).await;
    broker.settle(&format!("{BASE}/ack"), &taken[..2], json!({})).await;
    let sought = broker.post(&format!("{BASE}/seek"), json!({ "to": "1" })).await;
    assert_eq!(sought["positions"], json!([1]));
    let ack = format!("{BASE}/ack");
    assert_eq!(broker.settle(&ack, &taken[2..], json!({})).await, ["late"]);
    assert_eq!(data(&broker.take(&pull, 10, 0.0).await), ["1", "2"]);
    broker.stop().await;
}

#[tokio::test]
async fn a_new_subscription_starts_where_it_says() {
    let broker = topic(1, json!({})).await;
    publish(&broker, "k", &["0", "1"]).await;
    for (name, start, expected) in
        [("all", "earliest", &["0", "1"][..]), ("one", "1", &["1"]), ("new", "latest", &[])]
    {
        let base = format!("/v1/topics/t/subscriptions/{name}");
        broker.put(&base, json!({ "start": start })).await;
        let taken = broker.take(&format!("{base}/pull"), 10, 0.0).await;
        assert_eq!(data(&taken), expected, "{name}");
    }
    broker.call(Method::DELETE, "/v1/topics/t/subscriptions/all", json!({})).await;
    let gone = broker.request(Method::POST, "/v1/topics/t/subscriptions/all/pull");
    problem(gone.send().await.unwrap(), 404).await;
    let list = broker.get("/v1/topics/t/subscriptions").await;
    assert_eq!(list["subscriptions"].as_array().unwrap().len(), 3);
    broker.stop().await;
}

#[tokio::test]
async fn what_is_given_back_untried_does_not_fail() {
    let broker = Broker::start().await;
    broker.put("/v1/queues/dead", json!({})).await;
    let retry = json!({ "delays_ms": [0, 1] });
    let settings = json!({ "max_deliveries": 1, "dead_letter": "dead", "retry": retry });
    let queue = broker.put("/v1/queues/q", settings).await;
    assert_eq!(queue["config"]["retry"]["delays_ms"], json!([0, 1]), "{queue}");
    broker.send("q", &["x"]).await;
    for delivery in 1..4 {
        let taken = broker.take("/v1/queues/q/receive", 1, 20.0).await;
        assert_eq!(taken[0]["delivery"], delivery, "{taken:?}");
        let untried = json!({ "failed": false });
        assert_eq!(broker.settle("/v1/queues/q/nack", &taken, untried).await, ["ok"]);
    }
    let taken = broker.take("/v1/queues/q/receive", 1, 20.0).await;
    broker.settle("/v1/queues/q/nack", &taken, json!({})).await;
    let dead = broker.take("/v1/queues/dead/receive", 1, 20.0).await;
    assert_eq!(dead[0]["data"], "x", "{dead:?}");
    broker.stop().await;
}
