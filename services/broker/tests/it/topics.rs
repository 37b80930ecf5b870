//! Publishing and reading.

use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Broker, data, problem, read};

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

async fn publish(broker: &Broker, bodies: &[&str]) {
    for body in bodies {
        let answer = broker.raw("/v1/topics/t/messages", &[], body).await;
        assert_eq!(answer.status(), 201);
    }
}

async fn page(broker: &Broker, query: &str) -> (Vec<Value>, String) {
    let mut page = broker.get(&format!("/v1/topics/t/messages{query}")).await;
    let messages = serde_json::from_value(page["messages"].take()).unwrap();
    (messages, page["next"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_payload_comes_back_as_it_was() {
    let broker = Broker::start().await;
    broker.put("/v1/topics/t", json!({})).await;
    let json = r#"{"a": 1.0,  "b": [ ]}"#;
    let headers = [
        ("content-type", "application/json"),
        ("x-key", "k"),
        ("x-attr-Colour", "red"),
        ("ce-type", "made"),
    ];
    let published = read(broker.raw("/v1/topics/t/messages", &headers, json).await).await;
    let appended = json!([{ "partition": 0, "count": 1, "first": 0, "last": 0 }]);
    assert_eq!(published, appended);
    publish(&broker, &["plain"]).await;
    let binary = broker.request(Method::POST, "/v1/topics/t/messages").body(vec![0xff_u8, 0]);
    assert_eq!(binary.send().await.unwrap().status(), 201);

    let text = broker.request(Method::GET, "/v1/topics/t/messages").send().await.unwrap();
    let text = text.text().await.unwrap();
    assert!(text.contains(json), "not the exact bytes: {text}");
    let (messages, next) = page(&broker, "?from=earliest").await;
    assert_eq!(next, "3");
    assert_eq!(messages[0]["key"], "k");
    assert_eq!(messages[0]["attributes"]["colour"], "red");
    assert_eq!(messages[0]["attributes"]["ce-type"], "made");
    assert!(messages[0]["attributes"]["traceparent"].is_string());
    assert_eq!(messages[1]["data"], "plain");
    assert_eq!(messages[2]["data_base64"], "/wA=");
    assert_eq!(messages[2]["content_type"], "application/octet-stream");
    broker.stop().await;
}

#[tokio::test]
async fn a_batch_goes_to_the_partitions_of_its_keys_in_order() {
    let broker = Broker::start().await;
    broker.put("/v1/topics/t", json!({ "partitions": 4 })).await;
    let lines: Vec<String> = (0..40)
        .map(|n| json!({ "data": n, "key": format!("k{}", n % 5), "attributes": {} }).to_string())
        .collect();
    let published = broker.raw("/v1/topics/t/messages", &[NDJSON], &lines.join("\n")).await;
    let published = read(published).await;
    let count: u64 =
        published.as_array().unwrap().iter().map(|it| it["count"].as_u64().unwrap()).sum();
    assert_eq!(count, 40);

    let (messages, next) = page(&broker, "?limit=1000").await;
    assert_eq!(messages.len(), 40);
    for key in 0..5 {
        let of_key: Vec<_> =
            messages.iter().filter(|message| message["key"] == format!("k{key}")).collect();
        let numbers: Vec<_> = of_key.iter().map(|it| it["data"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..8).map(|n| n * 5 + key).collect::<Vec<_>>());
        assert!(of_key.windows(2).all(|pair| pair[0]["partition"] == pair[1]["partition"]));
    }
    assert_eq!(page(&broker, &format!("?from={next}")).await.0.len(), 0);
    broker.stop().await;
}

#[tokio::test]
async fn reading_starts_at_any_offset_or_time() {
    let broker = Broker::start().await;
    broker.put("/v1/topics/t", json!({})).await;
    let bodies: Vec<String> = (0..150).map(|n| n.to_string()).collect();
    publish(&broker, &bodies.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for from in [0, 1, 63, 64, 65, 149] {
        let (messages, next) = page(&broker, &format!("?from={from}&limit=3")).await;
        let expected: Vec<_> = (from..150).take(3).map(|n| n.to_string()).collect();
        assert_eq!(data(&messages), expected);
        assert_eq!(next, (from + expected.len()).to_string());
    }
    assert!(page(&broker, "?from=150").await.0.is_empty());
    assert!(page(&broker, "?from=latest").await.0.is_empty());
    let (all, _) = page(&broker, "?limit=1000").await;
    let time = all[70]["published_at"].as_str().unwrap();
    let first = all.iter().position(|message| message["published_at"] == time).unwrap();
    let (messages, _) = page(&broker, &format!("?from={time}&limit=1")).await;
    assert_eq!(messages[0]["offset"], first);
    broker.stop().await;
}

#[tokio::test]
async fn a_long_poll_answers_when_something_comes_and_when_nothing_does() {
    let broker = Broker::start().await;
    broker.put("/v1/topics/t", json!({})).await;
    let (empty, _) = page(&broker, "?from=0&wait_seconds=0.05").await;
    assert!(empty.is_empty());
    let wait = page(&broker, "?from=0&wait_seconds=30");
    let (waited, ()) = tokio::join!(wait, publish(&broker, &["now"]));
    assert_eq!(data(&waited.0), ["now"]);
    broker.stop().await;
}

#[tokio::test]
async fn a_stream_resumes_after_the_last_event() {
    let broker = Broker::start().await;
    broker.put("/v1/topics/t", json!({})).await;
    publish(&broker, &["a", "b", "c"]).await;
    let events = |last: Option<&'static str>| {
        let request = broker
            .request(Method::GET, "/v1/topics/t/messages?from=earliest&limit=2")
            .header("accept", "text/event-stream");
        let request = match last {
            Some(last) => request.header("last-event-id", last),
            None => request,
        };
        async { request.send().await.unwrap().text().await.unwrap() }
    };
    let first = events(None).await;
    assert!(first.contains("id: 0\n") && first.contains("id: 1\n"), "{first}");
    publish(&broker, &["d"]).await;
    let rest = events(Some("1")).await;
    assert!(!rest.contains("id: 1\n"), "{rest}");
    assert!(rest.contains("id: 2\n") && rest.contains("id: 3\n"), "{rest}");
    broker.stop().await;
}

#[tokio::test]
async fn a_live_stream_shows_what_is_published_and_ends_with_the_drain() {
    let broker = Broker::start().await;
    broker.put("/v1/topics/t", json!({ "partitions": 2 })).await;
    let stream =
        broker.request(Method::GET, "/v1/topics/t/messages").header("accept", "text/event-stream");
    let mut stream = stream.send().await.unwrap().bytes_stream();
    let opened = stream.next().await.unwrap().unwrap();
    assert!(opened.starts_with(b": open"));
    publish(&broker, &["x", "y"]).await;
    let mut seen = String::new();
    while !(seen.contains("\"x\"") && seen.contains("\"y\"")) {
        seen.push_str(std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap());
    }
    let end = async { while stream.next().await.is_some_and(|chunk| chunk.is_ok()) {} };
    tokio::join!(end, broker.stop());
}

#[tokio::test]
async fn a_repeat_under_its_key_is_published_once() {
    let broker = Broker::start().await;
    broker.put("/v1/topics/t", json!({ "partitions": 3 })).await;
    let headers = [("idempotency-key", "once")];
    let first = read(broker.raw("/v1/topics/t/messages", &headers, "x").await).await;
    let again = read(broker.raw("/v1/topics/t/messages", &headers, "x").await).await;
    assert_eq!(first, again);
    publish(&broker, &["y"]).await;
    assert_eq!(broker.get("/v1/topics/t").await["messages"], 2);
    broker.stop().await;
}

#[tokio::test]
async fn retention_keeps_what_it_says() {
    let broker = Broker::start().await;
    broker.put("/v1/topics/t", json!({ "retention": { "bytes": 2_000 } })).await;
    let body = "x".repeat(100);
    publish(&broker, &[&*body; 60]).await;
    let topic = broker.get("/v1/topics/t").await;
    assert!(topic["bytes"].as_u64().unwrap() <= 2_000, "{topic}");
    let earliest = topic["partition_stats"][0]["earliest"].as_u64().unwrap();
    assert!((1..60).contains(&earliest), "{topic}");
    let (messages, _) = page(&broker, "?from=0&limit=1").await;
    assert_eq!(messages[0]["offset"], earliest, "goes on with the oldest that is there");
    broker.stop().await;
}

#[tokio::test]
async fn a_deleted_topic_comes_back_empty() {
    let broker = Broker::start().await;
    broker.put("/v1/topics/t", json!({})).await;
    publish(&broker, &["old"]).await;
    broker.call(Method::DELETE, "/v1/topics/t", json!({})).await;
    let gone = broker.request(Method::GET, "/v1/topics/t/messages").send().await.unwrap();
    problem(gone, 404).await;
    broker.put("/v1/topics/t", json!({})).await;
    assert!(page(&broker, "").await.0.is_empty());
    assert_eq!(broker.get("/v1/topics").await["topics"].as_array().unwrap().len(), 1);
    broker.stop().await;
}

/// Publishes as a producer; the status, the newest sequence if it was a repeat, and the body.
async fn publish_as(
    broker: &Broker,
    (id, epoch, seq): (&str, u64, u64),
    body: &str,
) -> (u16, Option<String>, Value) {
    let (epoch, seq) = (epoch.to_string(), seq.to_string());
    let headers = [("x-producer-id", id), ("x-producer-epoch", &*epoch), ("x-producer-seq", &*seq)];
    let answer = broker.raw("/v1/topics/t/messages", &headers, body).await;
    let newest = answer.headers().get("x-producer-seq");
    let newest = newest.map(|newest| newest.to_str().unwrap().to_owned());
    (answer.status().as_u16(), newest, answer.json().await.unwrap())
}

#[tokio::test]
async fn a_producer_that_repeats_itself_appends_once_also_over_a_restart() {
    let broker = Broker::start().await;
    broker.put("/v1/topics/t", json!({ "partitions": 4 })).await;
    let (status, newest, first) = publish_as(&broker, ("p", 3, 0), "a").await;
    assert_eq!((status, newest), (201, None));
    for seq in 1..7 {
        assert_eq!(publish_as(&broker, ("p", 3, seq), "b").await.0, 201);
    }
    let broker = broker.restart().await;
    let partition = first[0]["partition"].clone();
    let (status, newest, again) = publish_as(&broker, ("p", 3, 6), "other").await;
    assert_eq!((status, newest.as_deref()), (200, Some("6")));
    assert_eq!(again, json!([{ "partition": partition, "count": 1, "first": 6, "last": 6 }]));
    let (status, newest, again) = publish_as(&broker, ("p", 3, 0), "a").await;
    assert_eq!((status, newest.as_deref(), again), (200, Some("6"), json!([])), "long ago");
    let (status, _, gap) = publish_as(&broker, ("p", 3, 8), "c").await;
    assert_eq!((status, &gap["code"], &gap["expected"]), (409, &json!("producer-gap"), &json!(7)));
    assert_eq!(publish_as(&broker, ("p", 4, 0), "c").await.0, 201);
    let (status, _, old) = publish_as(&broker, ("p", 3, 7), "c").await;
    assert_eq!((status, &old["code"], &old["epoch"]), (409, &json!("producer-fenced"), &json!(4)));
    let (messages, _) = page(&broker, &format!("?partition={partition}&from=earliest")).await;
    let bodies: Vec<&str> = messages.iter().map(|it| it["data"].as_str().unwrap()).collect();
    assert_eq!(bodies, ["a", "b", "b", "b", "b", "b", "b", "c"]);
    broker.stop().await;
}

#[tokio::test]
async fn a_producer_is_told_what_it_may_not_send() {
    let broker = Broker::start().await;
    broker.put("/v1/topics/t", json!({ "partitions": 4 })).await;
    let producer = [("x-producer-id", "p"), ("x-producer-epoch", "0"), ("x-producer-seq", "0")];
    let lines = (0..9).map(|key| format!(r#"{{"key":"{key}","data":"x"}}"#));
    let lines: Vec<String> = lines.collect();
    let headers = [&producer[..], &[NDJSON]].concat();
    let several = broker.raw("/v1/topics/t/messages", &headers, &lines.join("\n")).await;
    problem(several, 400).await;
    for headers in [
        &producer[..2],
        &producer[1..],
        &[&producer[..], &[("idempotency-key", "k")]].concat(),
        &[&producer[..2], &[("x-producer-seq", "9007199254740992")]].concat(),
        &[&producer[..2], &[("x-producer-seq", "-1")]].concat(),
    ] {
        let answer = broker.raw("/v1/topics/t/messages", headers, "x").await;
        problem(answer, 400).await;
    }
    let (messages, _) = page(&broker, "?from=earliest").await;
    assert!(messages.is_empty(), "{messages:?}");
    broker.stop().await;
}

#[tokio::test]
async fn a_dry_run_says_where_messages_go_and_stores_none() {
    let broker = Broker::start().await;
    broker.put("/v1/topics/t", json!({ "partitions": 4 })).await;
    broker.put("/v1/queues/lost", json!({})).await;
    let red = json!({ "filter": { "colour": "red" }, "dead_letter": "queue/lost" });
    broker.put("/v1/topics/t/subscriptions/all", json!({})).await;
    broker.put("/v1/topics/t/subscriptions/red", red).await;
    let lines = (0..12).map(|number| {
        let colour = if number % 2 == 0 { "red" } else { "blue" };
        json!({ "data": number, "key": format!("k{number}"), "attributes": { "colour": colour } })
    });
    let lines: Vec<_> = lines.map(|line| line.to_string()).collect();
    let dry = "/v1/topics/t/messages?dry_run=true";
    let would = read(broker.raw(dry, &[NDJSON], &lines.join("\n")).await).await;
    let would = would.as_array().unwrap();
    assert_eq!(would.len(), 12);
    let told = json!([{ "name": "all", "wanted": true },
        { "name": "red", "wanted": false, "dead_letter": "queue/lost" }]);
    assert_eq!(would[1]["subscriptions"], told);
    assert_eq!(would[0]["subscriptions"][1]["wanted"], true);
    assert_eq!(would[0]["by_key"], true);
    assert_eq!(would[0]["replicas"], json!([would[0]["leader"]]));
    assert_eq!(page(&broker, "").await.0.len(), 0);
    // What then happens is what was said.
    let keyless = read(broker.raw(dry, &[], "x").await).await;
    let published = read(broker.raw("/v1/topics/t/messages", &[], "x").await).await;
    assert_eq!(keyless[0]["partition"], published[0]["partition"]);
    for (line, would) in lines.iter().zip(would) {
        let published = read(broker.raw("/v1/topics/t/messages", &[NDJSON], line).await).await;
        assert_eq!(would["partition"], published[0]["partition"]);
    }
    problem(broker.raw("/v1/topics/none/messages?dry_run=true", &[], "x").await, 404).await;
    problem(broker.raw("/v1/topics/t/messages?dry_run=true", &[NDJSON], "{").await, 400).await;
    broker.stop().await;
}
