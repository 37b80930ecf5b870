//! The typed clients say on the wire what API.md promises.

use api::broker::PublishLine;
use api::replica::{AckLevel, Position};
use client::broker::{Broker, Payload, SendOptions, Source};
use client::coordinator::{Coordinator, ListOptions};
use client::gateway::{Gateway, RpcOptions};
use client::replica::{Condition, ReadOptions, Replica, WriteOptions};
use serde_json::json;

use crate::peer::{Peer, answer_with, client, ok};

#[tokio::test]
async fn a_message_travels_with_its_key_and_attributes() {
    let peer = Peer::start([ok(r#"[{"partition":0,"count":1,"first":7,"last":7}]"#)]).await;
    let broker = Broker::new(client(&[&peer]));
    let payload = Payload::json(&json!({"a": 1})).unwrap();
    let payload = payload.attribute("kind", "late").idempotency_key("k");
    let appended = broker.publish("flights", Some("UA"), payload).await.unwrap();
    assert_eq!(appended[0].first, 7);
    let request = &peer.seen()[0];
    assert_eq!(request.line, "POST /v1/topics/flights/messages HTTP/1.1");
    assert_eq!(request.body, r#"{"a":1}"#);
    for (name, value) in [
        ("x-key", "UA"),
        ("x-attr-kind", "late"),
        ("idempotency-key", "k"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
}

#[tokio::test]
async fn a_batch_is_one_document_a_line() {
    let peer = Peer::start([ok("[]")]).await;
    let line = |key: &str| PublishLine {
        data_base64: Some("AAE=".into()),
        key: Some(key.into()),
        ..PublishLine::default()
    };
    let broker = Broker::new(client(&[&peer]));
    broker.publish_batch("t", &[line("a"), line("b")], None).await.unwrap();
    let request = &peer.seen()[0];
    assert_eq!(request.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(
        request.body,
        "{\"data_base64\":\"AAE=\",\"key\":\"a\"}\n{\"data_base64\":\"AAE=\",\"key\":\"b\"}\n"
    );
}

#[tokio::test]
async fn subscriptions_and_queues_are_settled_the_same_way() {
    let peer = Peer::start([ok(r#"{"ok":1,"results":[]}"#)]).await;
    let broker = Broker::new(client(&[&peer]));
    let subscription = Source::Subscription { topic: "t", name: "s" };
    broker.ack(subscription, vec!["x".into()]).await.unwrap();
    broker.ack(Source::Queue("q"), vec!["x".into()]).await.unwrap();
    let lines: Vec<_> = peer.seen().into_iter().map(|request| request.line).collect();
    assert_eq!(lines[0], "POST /v1/topics/t/subscriptions/s/ack HTTP/1.1");
    assert_eq!(lines[1], "POST /v1/queues/q/ack HTTP/1.1");
}

#[tokio::test]
async fn a_queue_gets_its_options_as_headers() {
    let peer = Peer::start([ok(r#"{"count":1,"ids":["1"],"deduplicated":0}"#)]).await;
    let options = SendOptions { priority: Some(9), delay_ms: Some(5), ..SendOptions::default() };
    let broker = Broker::new(client(&[&peer]));
    broker.send("jobs", Payload::bytes("x"), &options).await.unwrap();
    let request = &peer.seen()[0];
    assert_eq!(request.header("x-priority"), Some("9"));
    assert_eq!(request.header("x-delay-ms"), Some("5"));
    assert_eq!(request.header("x-ttl-ms"), None);
}

#[tokio::test]
async fn a_replicated_value_comes_with_its_version_and_freshness() {
    let headers = "etag: \"7:18\"\r\nx-lag-ms: 12\r\nx-role: replica\r\nx-session: 7:20\r\n";
    let missing = r#"{"code":"key-not-found","detail":"no"}"#;
    let script = [answer_with(200, headers, "blue"), answer_with(404, "", missing)];
    let peer = Peer::start(script).await;
    let replica = Replica::new(client(&[&peer]));
    let token = Position { epoch: 7, index: 18 };
    let read = replica.get(b"a/b c", &ReadOptions::session(token)).await.unwrap().unwrap();
    assert_eq!((read.value, read.version, read.read.lag_ms), ("blue".into(), token, Some(12)));
    assert_eq!(read.read.session, Some(Position { epoch: 7, index: 20 }));
    assert_eq!(replica.get(b"gone", &ReadOptions::strong()).await.unwrap(), None);
    let seen = peer.seen();
    assert_eq!(seen[0].line, "GET /v1/kv/a/b%20c HTTP/1.1");
    assert_eq!(seen[0].header("x-session"), Some("7:18"));
    assert_eq!(seen[1].line, "GET /v1/kv/gone?consistency=strong HTTP/1.1");
}

#[tokio::test]
async fn a_conditional_write_names_the_version_it_replaces() {
    let written = r#"{"version":"7:19","acked_by":2,"ack":"quorum"}"#;
    let peer = Peer::start([ok(written)]).await;
    let options = WriteOptions {
        ack: Some(AckLevel::Quorum),
        condition: Condition::Version(Position { epoch: 7, index: 18 }),
        ..WriteOptions::default()
    };
    let replica = Replica::new(client(&[&peer]));
    assert_eq!(replica.put(b"k", "v", &options).await.unwrap().acked_by, 2);
    let request = &peer.seen()[0];
    assert_eq!(request.line, "PUT /v1/kv/k?ack=quorum HTTP/1.1");
    assert_eq!(request.header("if-match"), Some("\"7:18\""));
}

#[tokio::test]
async fn a_page_goes_on_where_the_one_before_said() {
    let peer = Peer::start([ok(r#"{"revision":3,"kvs":[]}"#)]).await;
    let options = ListOptions { start: Some("a%FF".into()), ..ListOptions::default() };
    Coordinator::new(client(&[&peer])).list(b"a", &options).await.unwrap();
    assert_eq!(peer.seen()[0].line, "GET /v1/kv?prefix=a&start=a%FF HTTP/1.1");
}

#[tokio::test]
async fn a_method_that_answers_with_an_error_is_an_answer() {
    let body =
        r#"{"id":"1","status":"error","data":null,"error":"method `x` not found","timestamp":"t"}"#;
    let peer = Peer::start([answer_with(404, "", body)]).await;
    let gateway = Gateway::new(client(&[&peer]));
    let options = RpcOptions { id: Some("1".into()), ..RpcOptions::default() };
    let answer = gateway.rpc("x", Some(&json!({"n": 1})), &options).await.unwrap();
    assert_eq!(answer.error.as_deref(), Some("method `x` not found"));
    assert_eq!(peer.seen()[0].body, r#"{"id":"1","method":"x","data":{"n":1}}"#);
}
