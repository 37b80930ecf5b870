//! Whatever is sent: a 4xx that says what to do, soon; never a 5xx, a hang or an end.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::node::{Node, PATIENCE, ok};

/// Bodies that no JSON endpoint takes.
fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("an open brace", b"{".to_vec()),
        ("an array", b"[1,2]".to_vec()),
        ("a number", b"7".to_vec()),
        ("a string", b"\"text\"".to_vec()),
        ("not text", vec![0xff, 0xfe, 0x00, 0x01]),
        ("an unknown field", br#"{"no_such_field_exists":1}"#.to_vec()),
        ("deep nesting", [vec![b'['; 20_000], vec![b']'; 20_000]].concat()),
        ("trailing garbage", b"{}}".to_vec()),
    ]
}

/// Status and code of a refusal.
type Expected = (u16, &'static str);

const NOT_JSON: Expected = (400, "invalid-json");
const INVALID: Expected = (400, "invalid-request");
const NO_PATH: Expected = (404, "not-found");
const NO_METHOD: Expected = (405, "method-not-allowed");
const NO_KEY: Expected = (404, "key-not-found");
const NO_LEASE: Expected = (404, "lease-not-found");
const NO_TOPIC: Expected = (404, "topic-not-found");
const NO_PARTITION: Expected = (404, "partition-not-found");
const NO_READER: Expected = (404, "subscription-not-found");
const NO_QUEUE: Expected = (404, "queue-not-found");
const NO_ROUTE: Expected = (404, "route-not-found");
const NO_CALL: Expected = (404, "method-not-found");

/// Endpoints that take a JSON object.
const JSON_ENDPOINTS: &[(&str, &str, &str)] = &[
    ("coordinator", "POST", "/v1/txn"),
    ("coordinator", "POST", "/v1/leases"),
    ("coordinator", "PUT", "/v1/services/a/b"),
    ("broker", "PUT", "/v1/topics/a"),
    ("broker", "PUT", "/v1/topics/t/subscriptions/s"),
    ("broker", "POST", "/v1/topics/t/subscriptions/known/pull"),
    ("broker", "POST", "/v1/topics/t/subscriptions/known/ack"),
    ("broker", "POST", "/v1/topics/t/subscriptions/known/nack"),
    ("broker", "PUT", "/v1/queues/a"),
    ("broker", "POST", "/v1/queues/q/receive"),
    ("broker", "POST", "/v1/queues/q/ack"),
    ("broker", "POST", "/v1/queues/q/nack"),
    ("broker", "POST", "/v1/queues/q/extend"),
    ("replica", "POST", "/v1/batch"),
    ("gateway", "POST", "/v1/rpc"),
    ("gateway", "PUT", "/v1/methods/m"),
    ("gateway", "PUT", "/v1/routes/r"),
];

#[tokio::test(flavor = "multi_thread")]
async fn malformed_bodies_are_refused_with_what_to_do() {
    let nodes = all().await;
    let mut wrong = Vec::new();
    for &(service, method, path) in JSON_ENDPOINTS {
        for (what, body) in bodies() {
            let request = node(&nodes, service)
                .client()
                .request(Method::try_from(method).unwrap(), node(&nodes, service).url(path))
                .header("content-type", "application/json")
                .body(body);
            let what = format!("{service} {method} {path}: {what}");
            check(&mut wrong, &what, request, NOT_JSON).await;
        }
    }
    verdict(&nodes, wrong).await;
}

/// Wrong types, unknown and over-long names, bad numbers.
fn requests() -> Vec<(&'static str, &'static str, String, Value, Expected)> {
    let long = "n".repeat(5_000);
    let null = Value::Null;
    let instance = |port: u32| json!({ "address": "h", "port": port });
    let call = json!({ "service": "s", "path": "/p" });
    vec![
        ("coordinator", "GET", format!("/v1/kv/{long}"), null.clone(), INVALID),
        ("coordinator", "PUT", format!("/v1/kv/{long}"), json!("v"), INVALID),
        ("coordinator", "GET", "/v1/kv/a?consistency=maybe".into(), null.clone(), INVALID),
        ("coordinator", "GET", "/v1/kv/a?revision=-1".into(), null.clone(), INVALID),
        ("coordinator", "GET", "/v1/kv/nobody-wrote-this".into(), null.clone(), NO_KEY),
        ("coordinator", "GET", "/v1/kv?limit=many".into(), null.clone(), INVALID),
        ("coordinator", "PUT", "/v1/kv/a?lease=99999999".into(), json!("v"), NO_LEASE),
        ("coordinator", "POST", "/v1/leases".into(), json!({ "ttl_seconds": -5 }), NOT_JSON),
        ("coordinator", "POST", "/v1/leases".into(), json!({ "ttl_seconds": "ten" }), NOT_JSON),
        ("coordinator", "POST", "/v1/txn".into(), json!({ "then": "put" }), NOT_JSON),
        ("coordinator", "GET", "/v1/leases/unknown".into(), null.clone(), INVALID),
        ("coordinator", "GET", "/v1/watch?from_revision=x".into(), null.clone(), INVALID),
        ("coordinator", "PUT", "/v1/services/a/b".into(), instance(70_000), NOT_JSON),
        ("coordinator", "PUT", format!("/v1/services/{long}/b"), instance(7), INVALID),
        ("coordinator", "GET", "/v1/no-such-path".into(), null.clone(), NO_PATH),
        ("broker", "PUT", format!("/v1/topics/{long}"), json!({}), INVALID),
        ("broker", "PUT", "/v1/topics/UPPER%20CASE".into(), json!({}), INVALID),
        ("broker", "PUT", "/v1/topics/t2".into(), json!({ "partitions": 0 }), INVALID),
        ("broker", "PUT", "/v1/topics/t2".into(), json!({ "partitions": 1_000_000 }), INVALID),
        ("broker", "PUT", "/v1/topics/t2".into(), json!({ "partitions": "two" }), NOT_JSON),
        ("broker", "POST", "/v1/topics/none/messages".into(), json!("m"), NO_TOPIC),
        ("broker", "GET", "/v1/topics/t/messages?from=yesterday".into(), null.clone(), INVALID),
        ("broker", "GET", "/v1/topics/t/messages?partition=9".into(), null.clone(), NO_PARTITION),
        ("broker", "GET", "/v1/topics/t/messages?limit=-1".into(), null.clone(), INVALID),
        ("broker", "POST", "/v1/queues/none/receive".into(), json!({}), NO_QUEUE),
        ("broker", "POST", "/v1/queues/q/receive".into(), json!({ "max": -1 }), NOT_JSON),
        (
            "broker",
            "POST",
            "/v1/queues/q/receive".into(),
            json!({ "wait_seconds": 1e300 }),
            INVALID,
        ),
        ("broker", "PUT", "/v1/queues/q2".into(), json!({ "max_priority": 1000 }), NOT_JSON),
        ("broker", "PUT", "/v1/queues/q2".into(), json!({ "ack_deadline_seconds": -1 }), INVALID),
        ("broker", "POST", "/v1/topics/t/subscriptions/nobody/pull".into(), json!({}), NO_READER),
        ("broker", "DELETE", "/v1/topics".into(), null.clone(), NO_METHOD),
        ("replica", "GET", format!("/v1/kv/{long}"), null.clone(), INVALID),
        ("replica", "PUT", "/v1/kv/a?ack=perhaps".into(), json!("v"), INVALID),
        ("replica", "PUT", "/v1/kv/a?ttl_seconds=-1".into(), json!("v"), INVALID),
        ("replica", "GET", "/v1/kv/nobody-wrote-this".into(), null.clone(), NO_KEY),
        ("replica", "GET", "/v1/kv/a?consistency=sometimes".into(), null.clone(), INVALID),
        ("replica", "GET", "/v1/digest?at=7".into(), null.clone(), INVALID),
        (
            "replica",
            "POST",
            "/v1/batch".into(),
            json!({ "operations": [{ "op": "no" }] }),
            NOT_JSON,
        ),
        ("replica", "PATCH", "/v1/replication".into(), null.clone(), NO_METHOD),
        ("gateway", "POST", "/v1/rpc".into(), json!({ "method": "no.such.method" }), NO_CALL),
        ("gateway", "POST", "/v1/rpc".into(), json!({ "method": 7 }), NOT_JSON),
        ("gateway", "PUT", "/v1/methods/m".into(), json!({ "service": "s", "path": 1 }), NOT_JSON),
        ("gateway", "PUT", format!("/v1/methods/{long}"), call, INVALID),
        ("gateway", "GET", "/v1/no-such-path".into(), null, NO_ROUTE),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_values_are_refused_with_what_to_do() {
    let nodes = all().await;
    let mut wrong = Vec::new();
    for (service, method, path, body, expected) in requests() {
        let request = node(&nodes, service)
            .client()
            .request(Method::try_from(method).unwrap(), node(&nodes, service).url(&path));
        let request = if body.is_null() { request } else { request.json(&body) };
        let shown: String = format!("{service} {method} {path} {body}").chars().take(120).collect();
        check(&mut wrong, &shown, request, expected).await;
    }
    verdict(&nodes, wrong).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_beyond_the_limit_are_refused() {
    let nodes = all().await;
    let huge = vec![b'x'; 9 * 1024 * 1024];
    let mut wrong = Vec::new();
    for (service, method, path) in [
        ("coordinator", "PUT", "/v1/kv/a"),
        ("broker", "POST", "/v1/topics/t/messages"),
        ("broker", "POST", "/v1/queues/q/messages"),
        ("replica", "PUT", "/v1/kv/a"),
        ("gateway", "POST", "/v1/rpc"),
    ] {
        let request = node(&nodes, service)
            .client()
            .request(Method::try_from(method).unwrap(), node(&nodes, service).url(path))
            .body(huge.clone());
        match timeout(PATIENCE, request.send()).await {
            Ok(Ok(answer)) if answer.status() == 413 => (),
            Ok(Ok(answer)) => wrong.push(format!("{service} {path}: {}", answer.status())),
            // The server may close while megabytes are still coming.
            Ok(Err(error)) if error.is_request() || error.is_body() => (),
            Ok(Err(error)) => wrong.push(format!("{service} {path}: {error}")),
            Err(_) => wrong.push(format!("{service} {path}: no answer")),
        }
    }
    verdict(&nodes, wrong).await;
}

/// Not HTTP at all: the connection ends, the service does not.
#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_end_the_connection_only() {
    let nodes = all().await;
    // xorshift: the same bytes in every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    for node in &nodes {
        for _ in 0..20 {
            let garbage: Vec<u8> = (0..64).flat_map(|_| random()).collect();
            let mut stream = TcpStream::connect(("127.0.0.1", node.port())).await.unwrap();
            let _ = stream.write_all(&garbage).await;
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
            assert!(read.is_ok(), "{} keeps the connection open", node.service());
            let answer = String::from_utf8_lossy(&answer);
            assert!(!answer.starts_with("HTTP/1.1 5"), "{} {answer}", node.service());
        }
    }
    verdict(&nodes, Vec::new()).await;
}

/// Keys are bytes; what a path can carry comes back as it was.
#[tokio::test(flavor = "multi_thread")]
async fn binary_keys_and_empty_values_are_taken() {
    let nodes = all().await;
    for service in ["coordinator", "replica"] {
        let node = node(&nodes, service);
        for key in ["%00%ff%fe", "a%2Fb", "%F0%9F%A6%80", "with%20space"] {
            let path = format!("/v1/kv/{key}");
            ok(node.put(&path).body(vec![0_u8, 0xff, 0x0a])).await;
            let value = ok(node.get(&path)).await.bytes().await.unwrap();
            assert_eq!(value.as_ref(), [0, 0xff, 0x0a], "{service} {key}");
            ok(node.put(&path)).await;
            let value = ok(node.get(&path)).await.bytes().await.unwrap();
            assert!(value.is_empty(), "{service} {key}");
        }
    }
}

/// One of each, alone, with a topic, a subscription and a queue.
async fn all() -> Vec<Node> {
    let mut nodes = Vec::new();
    for service in ["coordinator", "broker", "replica", "gateway"] {
        nodes.push(Node::start(service).await);
    }
    let broker = node(&nodes, "broker");
    ok(broker.put("/v1/topics/t").json(&json!({}))).await;
    ok(broker.put("/v1/topics/t/subscriptions/known").json(&json!({}))).await;
    ok(broker.put("/v1/queues/q").json(&json!({}))).await;
    nodes
}

fn node<'a>(nodes: &'a [Node], service: &str) -> &'a Node {
    nodes.iter().find(|node| node.service() == service).expect("one of each")
}

/// This refusal, as a problem document, or a line in `wrong`.
async fn check(
    wrong: &mut Vec<String>,
    what: &str,
    request: reqwest::RequestBuilder,
    expected: Expected,
) {
    // A server that refuses a body without reading it closes the connection: no other request may
    // wait on it.
    let request = request.header("connection", "close");
    match request.timeout(Duration::from_secs(10)).send().await {
        Err(error) => wrong.push(format!("{what}: {error:?}")),
        Ok(answer) => {
            let status = answer.status();
            if let Err(why) = problem(answer, expected).await {
                wrong.push(format!("{what}: {status}, {why}"));
            }
        }
    }
}

async fn problem(answer: Response, expected: Expected) -> Result<(), String> {
    let status = answer.status();
    let kind = answer.headers().get("content-type").cloned();
    let traced = answer.headers().contains_key("x-trace-id");
    let text = answer.text().await.map_err(|error| error.to_string())?;
    let body: Value = serde_json::from_str(&text).unwrap_or_default();
    // A call answers in its own shape, with the same parts.
    let rpc = body["status"] == "error" && body["error"].is_string();
    let document = kind.is_some_and(|kind| kind == "application/problem+json")
        && body["code"].is_string()
        && body["trace_id"].is_string()
        && body["detail"].as_str().is_some_and(|detail| !detail.is_empty());
    if (status.as_u16(), body["code"].as_str().unwrap_or_default()) != expected {
        return Err(format!("not {expected:?}: {text}"));
    }
    if !traced {
        return Err("no x-trace-id".to_owned());
    }
    if rpc || document { Ok(()) } else { Err(format!("not a problem document: {text}")) }
}

/// Everybody is still well, and nothing was wrong.
async fn verdict(nodes: &[Node], wrong: Vec<String>) {
    for node in nodes {
        ok(node.get("/livez")).await;
        assert!(!node.log().contains("panicked"), "{}\n{}", node.service(), node.log());
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
