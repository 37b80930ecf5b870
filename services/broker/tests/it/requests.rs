//! Questions through a queue: asked, answered, late, repeated.

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Broker, problem, read};
use crate::trio::Trio;

const ASK: &str = "/v1/queues/q/requests";
const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

/// Receives one message and answers it.
async fn answer(broker: &Broker, data: Value) -> Value {
    let taken = broker.take("/v1/queues/q/receive", 1, 20.0).await;
    let ack_id = &taken[0]["ack_id"];
    let attributes = json!({ "by": "w" });
    let reply = json!({ "ack_id": ack_id, "data": data, "attributes": attributes });
    let replied = broker.post("/v1/queues/q/replies", reply).await;
    assert_eq!(replied["correlation_id"], taken[0]["attributes"]["correlation-id"]);
    replied
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_answered_by_who_receives_it() {
    let broker = Broker::start().await;
    broker.put("/v1/queues/q", json!({})).await;
    for number in 0..3 {
        let body = number.to_string();
        let ask = broker.raw(ASK, &[("x-attr-kind", "sum")], &body);
        let (asked, replied) = tokio::join!(ask, answer(&broker, json!({ "sum": number })));
        assert_eq!(replied["result"], "ok");
        let asked = read(asked).await;
        assert_eq!(asked["reply"]["data"], json!({ "sum": number }));
        assert_eq!(asked["reply"]["attributes"]["by"], "w");
    }
    assert_eq!(broker.get("/v1/queues/q").await["stats"]["messages"], 0);
    broker.until("/v1/queues/quartet.replies", |queue| queue["stats"]["messages"] == 0).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_wait_side_by_side_and_each_gets_its_own() {
    let broker = Broker::start().await;
    broker.put("/v1/queues/q", json!({})).await;
    let asking = (0..40).map(|number: u32| {
        let broker = &broker;
        async move {
            let body = number.to_string();
            let asked = read(broker.raw(ASK, &[], &body).await).await;
            assert_eq!(asked["reply"]["data"], format!("re {number}"));
        }
    });
    let answering = async {
        for _ in 0..40 {
            let taken = broker.take("/v1/queues/q/receive", 1, 20.0).await;
            let data = format!("re {}", taken[0]["data"].as_str().unwrap());
            let reply = json!({ "ack_id": taken[0]["ack_id"], "data": data });
            assert_eq!(broker.post("/v1/queues/q/replies", reply).await["result"], "ok");
        }
    };
    tokio::join!(futures_util::future::join_all(asking), answering);
    broker.stop().await;
}

#[tokio::test]
async fn an_answer_that_comes_late_is_found_where_it_was_said_to_be() {
    let broker = Broker::start().await;
    broker.put("/v1/queues/q", json!({})).await;
    let headers = [("idempotency-key", "a key/1")];
    let path = format!("{ASK}?wait_seconds=0");
    let first = broker.raw(&path, &headers, "x").await;
    assert_eq!(first.status(), 202);
    let location = first.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(read(first).await, json!({ "correlation_id": "a key/1" }));
    assert_eq!(broker.get(&location).await["messages"], json!([]));
    let waiting = format!("{location}&wait_seconds=20");
    let (found, _) = tokio::join!(broker.get(&waiting), answer(&broker, json!("late")));
    assert_eq!(found["messages"][0]["data"], "late");
    assert_eq!(broker.get(&location).await["messages"][0]["data"], "late");
    // A repeat asks nobody and has the same answer.
    let again = read(broker.raw(&path, &headers, "x").await).await;
    assert_eq!(again["reply"]["data"], "late");
    assert_eq!(broker.get("/v1/queues/q").await["stats"]["sent"], 1);
    broker.stop().await;
}

#[tokio::test]
async fn only_who_holds_a_question_answers_it_and_a_question_expires() {
    let broker = Broker::start().await;
    broker.put("/v1/queues/q", json!({})).await;
    broker.send("q", &["no question"]).await;
    let taken = broker.take("/v1/queues/q/receive", 1, 5.0).await;
    let reply = json!({ "ack_id": taken[0]["ack_id"], "data": 1 });
    problem(
        broker
            .raw(
                "/v1/queues/q/replies",
                &[("content-type", "application/json")],
                &reply.to_string(),
            )
            .await,
        400,
    )
    .await;
    broker.settle("/v1/queues/q/ack", &taken, json!({})).await;
    let reply = broker.post("/v1/queues/q/replies", reply).await;
    assert_eq!(reply["result"], "unknown");
    let reply = broker.post("/v1/queues/q/replies", json!({ "ack_id": "x", "data": 1 })).await;
    assert_eq!(reply["result"], "unknown");

    let asked = broker.raw(&format!("{ASK}?wait_seconds=0"), &[("x-ttl-ms", "50")], "x").await;
    assert_eq!(asked.status(), 202);
    broker.until("/v1/queues/q", |queue| queue["stats"]["expired"] == 1).await;

    let missing = broker.request(Method::POST, "/v1/queues/none/requests").body("x");
    problem(missing.send().await.unwrap(), 404).await;
    problem(broker.raw(ASK, &[NDJSON], r#"{"data":1}"#).await, 400).await;
    problem(broker.raw(&format!("{ASK}?wait_seconds=61"), &[], "x").await, 400).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_answer_finds_its_question_over_any_brokers() {
    let trio = Trio::start().await;
    trio.put(0, "/v1/queues/q", json!({})).await;
    for node in 0..3 {
        let ask = trio.send(node, ASK, "x");
        let answering = async {
            let other = (node + 1) % 3;
            let body = json!({ "max": 1, "wait_seconds": 20 });
            let taken = trio.post(other, "/v1/queues/q/receive", body).await;
            let reply = json!({ "ack_id": taken["messages"][0]["ack_id"], "data": node });
            let replied = trio.post((node + 2) % 3, "/v1/queues/q/replies", reply).await;
            assert_eq!(replied["result"], "ok");
        };
        let (asked, ()) = tokio::join!(ask, answering);
        assert_eq!(read(asked).await["reply"]["data"], node);
    }
    trio.stop().await;
}
