//! What was answered is there after a restart.

use serde_json::json;

use crate::server::{Broker, data};

#[tokio::test]
async fn a_queue_keeps_messages_settings_acks_and_holders() {
    let broker = Broker::start().await;
    let settings = json!({ "capacity": { "messages": 5 }, "ack_deadline_seconds": 600 });
    broker.put("/v1/queues/q", settings).await;
    broker.send("q", &["acked", "held", "ready"]).await;
    let taken = broker.take("/v1/queues/q/receive", 2, 0.0).await;
    broker.settle("/v1/queues/q/ack", &taken[..1], json!({})).await;

    // A clean stop: the delivery may or may not have been reported before it.
    let broker = broker.restart().await;
    let queue = broker.get("/v1/queues/q").await;
    assert_eq!(queue["config"]["capacity"]["messages"], 5);
    assert_eq!(queue["stats"]["messages"], 2, "{queue}");
    let again = broker.take("/v1/queues/q/receive", 9, 0.0).await;
    let late = broker.settle("/v1/queues/q/ack", &taken[1..], json!({})).await;
    match data(&again)[..] {
        // Reported: it is still its old holder's.
        ["ready"] => assert_eq!(late, ["ok"]),
        // Not reported: delivered again, and the old ack is told so.
        ["held", "ready"] => assert_eq!(late, ["late"]),
        ref other => panic!("delivered {other:?}"),
    }
    broker.stop().await;
}

#[tokio::test]
async fn a_topic_keeps_messages_and_positions() {
    let broker = Broker::start().await;
    broker.put("/v1/topics/t", json!({ "partitions": 2, "retention": { "seconds": 60 } })).await;
    broker.put("/v1/topics/t/subscriptions/s", json!({ "ordered_by_key": true })).await;
    for n in 0..10 {
        let key = (n % 2).to_string();
        broker.raw("/v1/topics/t/messages", &[("x-key", &key)], &n.to_string()).await;
    }
    for _ in 0..2 {
        let taken = broker.take("/v1/topics/t/subscriptions/s/pull", 9, 0.0).await;
        broker.settle("/v1/topics/t/subscriptions/s/ack", &taken, json!({})).await;
    }

    let broker = broker.restart().await;
    let topic = broker.get("/v1/topics/t").await;
    assert_eq!((&topic["messages"], &topic["partitions"]), (&json!(10), &json!(2)));
    assert_eq!(topic["retention"], json!({ "seconds": 60 }));
    let subscription = broker.get("/v1/topics/t/subscriptions/s").await;
    assert_eq!(subscription["stats"]["lag"], 6, "{subscription}");
    let mut rest = Vec::new();
    while rest.len() < 6 {
        let taken = broker.take("/v1/topics/t/subscriptions/s/pull", 9, 20.0).await;
        broker.settle("/v1/topics/t/subscriptions/s/ack", &taken, json!({})).await;
        rest.extend(data(&taken).into_iter().map(str::to_owned).collect::<Vec<_>>());
    }
    rest.sort_unstable();
    assert_eq!(rest, ["4", "5", "6", "7", "8", "9"]);
    broker.stop().await;
}

#[tokio::test]
async fn an_idempotency_key_is_remembered_over_a_restart() {
    let broker = Broker::start().await;
    broker.put("/v1/queues/q", json!({})).await;
    let headers = [("idempotency-key", "k")];
    broker.raw("/v1/queues/q/messages", &headers, "x").await;
    let broker = broker.restart().await;
    broker.raw("/v1/queues/q/messages", &headers, "x").await;
    assert_eq!(broker.get("/v1/queues/q").await["stats"]["messages"], 1);
    broker.stop().await;
}

/// Enough is written that the log is compacted around what stays: a message that nobody settles,
/// and the tail of a topic that retention keeps.
#[tokio::test]
async fn what_stays_is_read_back_after_the_log_around_it_is_gone() {
    let broker = Broker::start().await;
    broker.put("/v1/queues/q", json!({})).await;
    broker.put("/v1/topics/t", json!({ "retention": { "bytes": 1_000_000 } })).await;
    broker.send("q", &["stays"]).await;
    let large = "x".repeat(90_000);
    for _ in 0..240 {
        broker.raw("/v1/queues/q/messages", &[("x-priority", "9")], &large).await;
        broker.raw("/v1/topics/t/messages", &[], &large).await;
        let taken = broker.take("/v1/queues/q/receive", 1, 0.0).await;
        assert_eq!(broker.settle("/v1/queues/q/ack", &taken, json!({})).await, ["ok"]);
    }
    let broker = broker.restart().await;
    assert_eq!(data(&broker.take("/v1/queues/q/receive", 9, 0.0).await), ["stays"]);
    let page = broker.get("/v1/topics/t/messages?from=earliest&limit=1000").await;
    let messages = page["messages"].as_array().unwrap();
    assert!((5..12).contains(&messages.len()), "{} messages are kept", messages.len());
    assert!(messages.iter().all(|message| message["data"] == large.as_str()));
    assert_eq!(messages.last().unwrap()["offset"], 239);
    broker.stop().await;
}
