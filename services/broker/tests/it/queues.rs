//! Queues.

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Broker, data, problem, read};

const SEND: &str = "/v1/queues/q/messages";
const RECEIVE: &str = "/v1/queues/q/receive";
const ACK: &str = "/v1/queues/q/ack";
const NACK: &str = "/v1/queues/q/nack";

async fn queue(settings: Value) -> Broker {
    let broker = Broker::start().await;
    broker.put("/v1/queues/q", settings).await;
    broker
}

#[tokio::test]
async fn higher_priorities_go_first() {
    let broker = queue(json!({})).await;
    for (priority, body) in [("0", "low"), ("9", "high"), ("5", "middle"), ("9", "high too")] {
        broker.raw(SEND, &[("x-priority", priority)], body).await;
    }
    let peeked = broker.get("/v1/queues/q/peek").await;
    let order = ["high", "high too", "middle", "low"];
    assert_eq!(data(peeked["messages"].as_array().unwrap()), order);
    assert_eq!(data(&broker.take(RECEIVE, 10, 0.0).await), order);
    let stats = broker.get("/v1/queues/q").await["stats"].clone();
    let top = json!({ "priority": 9, "ready": 0, "in_flight": 2, "delayed": 0 });
    assert_eq!(stats["by_priority"][0], top, "{stats}");
    broker.stop().await;
}

#[tokio::test]
async fn a_full_queue_says_so_and_drops_nothing() {
    let broker = queue(json!({ "capacity": { "messages": 2 } })).await;
    broker.send("q", &["a"]).await;
    let batch = "{\"data\":1}\n{\"data\":2}";
    let answer = broker.raw(SEND, &[("content-type", "application/x-ndjson")], batch).await;
    assert!(answer.headers().contains_key("retry-after"));
    let full = problem(answer, 429).await;
    assert_eq!(full["code"], "queue-full");
    assert_eq!((&full["limit"], &full["max"]), (&json!("capacity.messages"), &json!(2)));
    assert_eq!((&full["queue"], &full["value"]), (&json!("q"), &json!(1)));
    broker.send("q", &["b"]).await;
    assert_eq!(problem(broker.raw(SEND, &[], "c").await, 429).await["code"], "queue-full");
    let taken = broker.take(RECEIVE, 10, 0.0).await;
    assert_eq!(data(&taken), ["a", "b"]);
    assert_eq!(broker.settle(ACK, &taken[..1], json!({})).await, ["ok"]);
    broker.send("q", &["c"]).await;
    broker.stop().await;
}

#[tokio::test]
async fn waiting_consumers_share_what_comes() {
    let broker = queue(json!({})).await;
    let one = broker.take(RECEIVE, 1, 30.0);
    let two = broker.take(RECEIVE, 1, 30.0);
    let (one, two, ()) = tokio::join!(one, two, broker.send("q", &["a", "b"]));
    let mut taken = [data(&one), data(&two)].concat();
    taken.sort_unstable();
    assert_eq!(taken, ["a", "b"]);
    assert!(broker.take(RECEIVE, 1, 0.05).await.is_empty());
    broker.stop().await;
}

#[tokio::test]
async fn a_consumer_that_leaves_takes_nothing_with_it() {
    let broker = queue(json!({})).await;
    for _ in 0..20 {
        let request = broker.request(Method::POST, RECEIVE).json(&json!({ "wait_seconds": 30 }));
        // Dropped at some point of its way in.
        tokio::select! {
            biased;
            _ = request.send() => unreachable!("nothing was sent yet"),
            _ = broker.get("/v1/queues/q") => (),
        }
    }
    broker.send("q", &["x"]).await;
    let taken = broker.take(RECEIVE, 1, 20.0).await;
    assert_eq!(data(&taken), ["x"]);
    broker.stop().await;
}

#[tokio::test]
async fn an_extension_holds_a_message_and_a_late_ack_is_told() {
    let broker = queue(json!({ "ack_deadline_seconds": 0.2 })).await;
    broker.send("q", &["short", "long"]).await;
    let taken = broker.take(RECEIVE, 2, 0.0).await;
    let more = json!({ "ack_deadline_seconds": 60 });
    let extended = broker.settle("/v1/queues/q/extend", &taken[1..], more).await;
    assert_eq!(extended, ["ok"]);
    let again = broker.take(RECEIVE, 2, 20.0).await;
    assert_eq!(data(&again), ["short"]);
    assert_eq!(broker.settle(ACK, &taken, json!({})).await, ["late", "ok"]);
    let bogus = [json!({ "ack_id": "nonsense" }), json!({ "ack_id": "1.0.0.1.1.1" })];
    assert_eq!(broker.settle(ACK, &bogus, json!({})).await, ["unknown", "unknown"]);
    broker.stop().await;
}

#[tokio::test]
async fn failures_go_to_the_dead_letter_queue_and_come_back() {
    let broker = Broker::start().await;
    broker.put("/v1/queues/dead", json!({})).await;
    broker.put("/v1/queues/q", json!({ "max_deliveries": 2, "dead_letter": "dead" })).await;
    broker.raw(SEND, &[("x-priority", "4"), ("x-attr-a", "b")], "bad").await;
    for delivery in 1..=2 {
        let taken = broker.take(RECEIVE, 1, 20.0).await;
        assert_eq!(taken[0]["delivery"], delivery);
        let why = json!({ "reason": format!("try {delivery} was in vain") });
        assert_eq!(broker.settle(NACK, &taken, why).await, ["ok"]);
    }
    let dead = broker.take("/v1/queues/dead/receive", 1, 20.0).await;
    assert_eq!(data(&dead), ["bad"]);
    let note = &dead[0]["dead_letter"];
    assert_eq!(note["failure"], "try 2 was in vain");
    assert_eq!((&note["source"], &note["deliveries"]), (&json!("queue/q"), &json!(2)));
    assert_eq!((&dead[0]["priority"], &dead[0]["attributes"]["a"]), (&json!(4), &json!("b")));
    // It is removed here after it is stored there.
    broker.until("/v1/queues/q", |queue| queue["stats"]["messages"] == 0).await;
    assert_eq!(broker.get("/v1/queues/q").await["stats"]["dead_lettered"], 1);

    broker.settle("/v1/queues/dead/nack", &dead, json!({ "delay_ms": 0 })).await;
    let redriven = broker.post("/v1/queues/q/redrive", json!({})).await;
    assert_eq!((&redriven["moved"], &redriven["left"]), (&json!(1), &json!(0)), "{redriven}");
    assert_eq!(broker.get("/v1/queues/dead").await["stats"]["messages"], 0);
    let back = broker.take(RECEIVE, 1, 0.0).await;
    assert_eq!((data(&back), &back[0]["delivery"]), (vec!["bad"], &json!(1)));
    broker.stop().await;
}

#[tokio::test]
async fn a_redrive_from_the_dead_letter_queue_finds_the_way_back_or_says_why_not() {
    let broker = Broker::start().await;
    broker.put("/v1/queues/dead", json!({})).await;
    broker.put("/v1/queues/q", json!({ "max_deliveries": 1, "dead_letter": "dead" })).await;
    broker.send("q", &["a"]).await;
    broker.send("dead", &["sent here"]).await;
    let taken = broker.take(RECEIVE, 1, 0.0).await;
    broker.settle(NACK, &taken, json!({})).await;
    broker.until("/v1/queues/dead", |queue| queue["stats"]["messages"] == 2).await;
    let redriven = broker.post("/v1/queues/dead/redrive", json!({})).await;
    assert_eq!((&redriven["moved"], &redriven["left"]), (&json!(1), &json!(1)), "{redriven}");
    assert!(redriven["reason"].is_string());
    assert_eq!(data(&broker.take(RECEIVE, 9, 0.0).await), ["a"]);
    let redriven = broker.post("/v1/queues/dead/redrive", json!({ "to": "q" })).await;
    assert_eq!(redriven["moved"], 1, "{redriven}");
    broker.stop().await;
}

#[tokio::test]
async fn what_expires_is_not_delivered() {
    let broker = Broker::start().await;
    broker.put("/v1/queues/dead", json!({})).await;
    broker.put("/v1/queues/q", json!({ "dead_letter": "dead" })).await;
    broker.raw(SEND, &[("x-ttl-ms", "1")], "short").await;
    let dead = broker.take("/v1/queues/dead/receive", 1, 20.0).await;
    assert_eq!(data(&dead), ["short"]);
    assert_eq!(dead[0]["dead_letter"]["reason"], "expired");
    assert!(broker.take(RECEIVE, 1, 0.0).await.is_empty());
    broker.stop().await;
}

#[tokio::test]
async fn a_delay_holds_a_message_back() {
    let broker = queue(json!({})).await;
    broker.raw(SEND, &[("x-delay-ms", "300")], "later").await;
    assert!(broker.take(RECEIVE, 1, 0.0).await.is_empty());
    assert_eq!(broker.get("/v1/queues/q").await["stats"]["delayed"], 1);
    assert_eq!(data(&broker.take(RECEIVE, 1, 30.0).await), ["later"]);
    broker.stop().await;
}

#[tokio::test]
async fn a_dedup_id_is_stored_once_also_after_its_message_is_gone() {
    let broker = queue(json!({})).await;
    let headers = [("x-dedup-id", "d")];
    let first = read(broker.raw(SEND, &headers, "x").await).await;
    let taken = broker.take(RECEIVE, 9, 0.0).await;
    broker.settle(ACK, &taken, json!({})).await;
    let again = read(broker.raw(SEND, &headers, "x").await).await;
    assert_eq!((&first["ids"], &again["deduplicated"]), (&again["ids"], &json!(1)));
    let key = [("idempotency-key", "k")];
    let first = read(broker.raw(SEND, &key, "y").await).await;
    assert_eq!(read(broker.raw(SEND, &key, "y").await).await, first);
    assert_eq!(broker.take(RECEIVE, 9, 0.0).await.len(), 1);
    broker.stop().await;
}

#[tokio::test]
async fn groups_and_fifo_queues_keep_their_order() {
    let broker = queue(json!({})).await;
    for (group, body) in [("a", "a1"), ("a", "a2"), ("b", "b1")] {
        broker.raw(SEND, &[("x-group", group)], body).await;
    }
    assert_eq!(data(&broker.take(RECEIVE, 9, 0.0).await), ["a1", "b1"]);
    broker.put("/v1/queues/fifo", json!({ "fifo": true })).await;
    broker.send("fifo", &["1", "2"]).await;
    let first = broker.take("/v1/queues/fifo/receive", 9, 0.0).await;
    assert_eq!(data(&first), ["1"]);
    broker.settle("/v1/queues/fifo/ack", &first, json!({})).await;
    assert_eq!(data(&broker.take("/v1/queues/fifo/receive", 9, 0.0).await), ["2"]);
    broker.stop().await;
}

#[tokio::test]
async fn a_purge_empties_a_queue() {
    let broker = queue(json!({})).await;
    broker.send("q", &["a", "b", "c"]).await;
    let taken = broker.take(RECEIVE, 1, 0.0).await;
    let purged = broker.post("/v1/queues/q/purge", json!({})).await;
    assert_eq!(purged["removed"], 3);
    assert_eq!(broker.settle(ACK, &taken, json!({})).await, ["unknown"]);
    assert!(broker.take(RECEIVE, 1, 0.0).await.is_empty());
    broker.stop().await;
}

#[tokio::test]
async fn deleting_a_queue_ends_the_wait_for_its_messages() {
    let broker = queue(json!({})).await;
    let receive = broker.request(Method::POST, RECEIVE).json(&json!({ "wait_seconds": 60 }));
    let delete = async {
        // The other request is on its way; either it finds the queue gone or it is told so.
        broker.get("/v1/queues/q").await;
        broker.call(Method::DELETE, "/v1/queues/q", json!({})).await
    };
    let (received, _) = tokio::join!(receive.send(), delete);
    assert_eq!(problem(received.unwrap(), 404).await["code"], "queue-not-found");
    broker.stop().await;
}

#[tokio::test]
async fn a_full_queue_drops_its_oldest_if_that_is_asked_for() {
    let settings = json!({ "capacity": { "messages": 2 }, "overflow": "drop-oldest" });
    let broker = queue(settings).await;
    assert_eq!(broker.get("/v1/queues/q").await["config"]["overflow"], "drop-oldest");
    broker.raw(SEND, &[("x-priority", "3")], "urgent").await;
    broker.send("q", &["a", "b", "c"]).await;
    assert_eq!(broker.get("/v1/queues/q").await["stats"]["dropped"], 2);
    broker.raw(SEND, &[("x-priority", "3")], "urgent too").await;
    assert_eq!(problem(broker.raw(SEND, &[], "d").await, 429).await["code"], "queue-full");
    assert_eq!(data(&broker.take(RECEIVE, 9, 0.0).await), ["urgent", "urgent too"]);
    broker.stop().await;
}

#[tokio::test]
async fn consumers_hold_no_more_than_the_queue_allows() {
    let broker = queue(json!({ "max_in_flight": 2 })).await;
    broker.send("q", &["a", "b", "c"]).await;
    let taken = broker.take(RECEIVE, 9, 0.0).await;
    assert_eq!(data(&taken), ["a", "b"]);
    assert!(broker.take(RECEIVE, 9, 0.0).await.is_empty());
    let (next, settled) =
        tokio::join!(broker.take(RECEIVE, 9, 30.0), broker.settle(ACK, &taken[..1], json!({})));
    assert_eq!((data(&next), settled), (vec!["c"], vec!["ok".to_owned()]));
    broker.stop().await;
}

#[tokio::test]
async fn a_queue_holds_back_what_names_no_delay_of_its_own() {
    let broker = queue(json!({ "delay_ms": 3_600_000 })).await;
    broker.send("q", &["later"]).await;
    broker.raw(SEND, &[("x-delay-ms", "0")], "now").await;
    let stats = broker.get("/v1/queues/q").await["stats"].clone();
    assert_eq!((&stats["delayed"], &stats["ready"]), (&json!(1), &json!(1)));
    assert_eq!(data(&broker.take(RECEIVE, 9, 0.0).await), ["now"]);
    broker.stop().await;
}

/// A queue whose messages fail at once, and so many of them in its dead-letter queue.
async fn dead_letters(count: usize) -> Broker {
    let broker = Broker::start().await;
    broker.put("/v1/queues/dead", json!({})).await;
    broker.put("/v1/queues/q", json!({ "max_deliveries": 1, "dead_letter": "dead" })).await;
    let bodies: Vec<String> = (0..count).map(|at| at.to_string()).collect();
    broker.send("q", &bodies.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let taken = broker.take(RECEIVE, 1_000, 0.0).await;
    broker.settle(NACK, &taken, json!({})).await;
    broker.until("/v1/queues/q", |queue| queue["stats"]["dead_lettered"] == count).await;
    broker
}

#[tokio::test]
async fn a_redrive_goes_on_by_itself_and_tells_how_far_it_is() {
    let broker = dead_letters(5).await;
    broker.send("dead", &["sent here"]).await;
    let request = json!({ "max": 2 });
    let begun = broker.request(Method::POST, "/v1/queues/q/redrives").json(&request).send().await;
    let begun = begun.unwrap();
    assert_eq!(
        (begun.status(), &begun.headers()["location"]),
        (202.try_into().unwrap(), &"/v1/queues/q/redrives/1".parse().unwrap())
    );
    let begun = read(begun).await;
    assert_eq!(
        (&begun["from"], &begun["to"], &begun["max"]),
        (&json!("dead"), &json!("q"), &json!(2))
    );
    broker.until("/v1/queues/q/redrives/1", |task| task["state"] == "done").await;
    assert_eq!(data(&broker.take(RECEIVE, 9, 0.0).await), ["0", "1"]);

    broker.post("/v1/queues/dead/redrives", json!({})).await;
    broker.until("/v1/queues/dead/redrives/2", |task| task["state"] == "done").await;
    let task = broker.get("/v1/queues/dead/redrives/2").await;
    assert_eq!(
        (&task["moved"], &task["left"], &task["remaining"]),
        (&json!(3), &json!(1), &json!(0))
    );
    assert!(task["reason"].is_string() && task["ended_at"].is_string(), "{task}");
    assert_eq!(broker.take(RECEIVE, 9, 0.0).await.len(), 3);
    assert_eq!(
        broker.get("/v1/queues/dead/redrives").await["redrives"].as_array().unwrap().len(),
        2
    );
    assert_eq!(broker.get("/v1/queues/q/redrives").await["redrives"].as_array().unwrap().len(), 1);
    broker.stop().await;
}

#[tokio::test]
async fn a_redrive_can_be_slow_is_alone_goes_on_after_a_restart_and_ends_when_told_to() {
    let broker = dead_letters(300).await;
    let slow = json!({ "rate_per_second": 10 });
    broker.post("/v1/queues/q/redrives", slow).await;
    let second = broker.request(Method::POST, "/v1/queues/dead/redrives").send().await.unwrap();
    let refused = problem(second, 409).await;
    assert_eq!((&refused["code"], &refused["task"]), (&json!("conflict"), &json!(1)));
    let moved = |task: &Value| task["moved"].as_u64().unwrap();
    broker.until("/v1/queues/q/redrives/1", |task| 0 < moved(task)).await;

    let broker = broker.restart().await;
    let before = moved(&broker.get("/v1/queues/q/redrives/1").await);
    broker.until("/v1/queues/q/redrives/1", |task| before < moved(task)).await;
    let path = "/v1/queues/q/redrives/1";
    let task = broker.call(Method::DELETE, path, json!({})).await;
    assert_eq!(task["state"], "cancelled");
    assert!(moved(&task) < 300, "{task}");
    let none = broker.request(Method::DELETE, "/v1/queues/q/redrives/7").send().await.unwrap();
    assert_eq!(problem(none, 404).await["code"], "not-found");
    broker.stop().await;
}

#[tokio::test]
async fn a_redrive_waits_for_room_and_fails_without_its_target() {
    let broker = dead_letters(3).await;
    broker.put("/v1/queues/small", json!({ "capacity": { "messages": 1 } })).await;
    broker.send("small", &["in the way"]).await;
    broker.post("/v1/queues/q/redrives", json!({ "to": "small" })).await;
    let path = "/v1/queues/q/redrives/1";
    broker.until(path, |task| task["reason"].as_str().is_some_and(|it| it.contains("small"))).await;
    let task = broker.get(path).await;
    assert_eq!(
        (&task["state"], &task["moved"], &task["left"]),
        (&json!("running"), &json!(0), &json!(0))
    );
    broker.put("/v1/queues/small", json!({ "capacity": { "messages": 10 } })).await;
    broker.until(path, |task| task["state"] == "done").await;
    assert_eq!(broker.get(path).await["moved"], 3);
    broker.stop().await;
}

#[tokio::test]
async fn dead_letters_that_are_large_together_are_moved_one_command_after_the_other() {
    let broker = Broker::start().await;
    broker.put("/v1/queues/dead", json!({})).await;
    broker.put("/v1/queues/q", json!({ "max_deliveries": 1, "dead_letter": "dead" })).await;
    let large = "x".repeat(100_000);
    broker.send("q", &[large.as_str(); 30]).await;
    for _ in 0..3 {
        let taken = broker.take(RECEIVE, 10, 0.0).await;
        broker.settle(NACK, &taken, json!({})).await;
    }
    broker.until("/v1/queues/q", |queue| queue["stats"]["dead_lettered"] == 30).await;
    broker.post("/v1/queues/q/redrives", json!({})).await;
    broker.until("/v1/queues/q/redrives/1", |task| task["moved"] == 30).await;
    broker.stop().await;
}
