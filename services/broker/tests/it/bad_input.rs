//! Whatever comes in: a 4xx that says what to do, never a 500, never a hang.

use reqwest::Method;
use serde_json::json;

use crate::server::{Broker, problem};

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";

/// Method, path, content type, body, status, code.
type Case = (&'static str, &'static str, &'static str, &'static [u8], u16, &'static str);

const CASES: &[Case] = &[
    // Settings.
    ("PUT", "/v1/topics/UPPER", JSON, b"{}", 400, "invalid-request"),
    ("PUT", "/v1/topics/%ff%fe", JSON, b"{}", 400, "invalid-request"),
    ("PUT", "/v1/topics/a", JSON, b"{", 400, "invalid-json"),
    ("PUT", "/v1/topics/a", JSON, b"7", 400, "invalid-json"),
    ("PUT", "/v1/topics/a", JSON, b"{\"partitions\":\"two\"}", 400, "invalid-json"),
    ("PUT", "/v1/topics/a", JSON, b"{\"partitions\":-1}", 400, "invalid-json"),
    ("PUT", "/v1/topics/a", JSON, b"{\"partition\":2}", 400, "invalid-json"),
    ("PUT", "/v1/topics/a", JSON, b"{\"partitions\":0}", 400, "invalid-request"),
    ("PUT", "/v1/topics/a", JSON, b"{\"partitions\":65}", 400, "invalid-request"),
    ("PUT", "/v1/topics/a", JSON, b"{\"replicas\":3}", 400, "invalid-request"),
    ("PUT", "/v1/topics/a", JSON, b"{\"retention\":{\"seconds\":0}}", 400, "invalid-request"),
    ("PUT", "/v1/topics/a", JSON, b"{\"retention\":{\"bytes\":0}}", 400, "invalid-request"),
    ("PUT", "/v1/topics/a", "text/plain", b"{}", 415, "unsupported-media-type"),
    ("PUT", "/v1/topics/none/subscriptions/s", JSON, b"{}", 404, "topic-not-found"),
    ("PUT", "/v1/topics/t/subscriptions/x", JSON, b"{\"push\":{}}", 400, "invalid-request"),
    ("PUT", "/v1/topics/t/subscriptions/x", JSON, b"{\"start\":\"soon\"}", 400, "invalid-request"),
    (
        "PUT",
        "/v1/topics/t/subscriptions/x",
        JSON,
        b"{\"dead_letter\":\"queue/none\"}",
        400,
        "invalid-request",
    ),
    ("PUT", "/v1/topics/t/subscriptions/x", JSON, b"{\"filter\":{\"a\":1}}", 400, "invalid-json"),
    ("PUT", "/v1/queues/a", JSON, b"{\"max_priority\":32}", 400, "invalid-request"),
    ("PUT", "/v1/queues/a", JSON, b"{\"max_priority\":1000}", 400, "invalid-json"),
    ("PUT", "/v1/queues/a", JSON, b"{\"ack_deadline_seconds\":-1}", 400, "invalid-request"),
    ("PUT", "/v1/queues/a", JSON, b"{\"ack_deadline_seconds\":1e300}", 400, "invalid-request"),
    ("PUT", "/v1/queues/a", JSON, b"{\"max_deliveries\":0}", 400, "invalid-request"),
    ("PUT", "/v1/queues/a", JSON, b"{\"capacity\":{\"messages\":0}}", 400, "invalid-request"),
    ("PUT", "/v1/queues/a", JSON, b"{\"max_in_flight\":0}", 400, "invalid-request"),
    ("PUT", "/v1/queues/a", JSON, b"{\"delay_ms\":31536000001}", 400, "invalid-request"),
    ("PUT", "/v1/queues/a", JSON, b"{\"delay_ms\":-1}", 400, "invalid-json"),
    ("PUT", "/v1/queues/a", JSON, b"{\"overflow\":\"drop\"}", 400, "invalid-json"),
    ("PUT", "/v1/queues/a", JSON, b"{\"dead_letter\":\"a\"}", 400, "invalid-request"),
    ("PUT", "/v1/queues/a", JSON, b"{\"dead_letter\":\"no such\"}", 400, "invalid-request"),
    (
        "PUT",
        "/v1/queues/a",
        JSON,
        b"{\"retry\":{\"initial_ms\":5,\"max_ms\":1}}",
        400,
        "invalid-request",
    ),
    // Names that stand for nothing.
    ("GET", "/v1/topics/none", JSON, b"", 404, "topic-not-found"),
    ("DELETE", "/v1/topics/none", JSON, b"", 404, "topic-not-found"),
    ("GET", "/v1/queues/none", JSON, b"", 404, "queue-not-found"),
    ("POST", "/v1/queues/none/messages", JSON, b"1", 404, "queue-not-found"),
    ("POST", "/v1/queues/none/receive", JSON, b"{}", 404, "queue-not-found"),
    ("POST", "/v1/topics/none/messages", JSON, b"1", 404, "topic-not-found"),
    ("POST", "/v1/topics/t/subscriptions/none/pull", JSON, b"{}", 404, "subscription-not-found"),
    ("GET", "/v1/nothing", JSON, b"", 404, "not-found"),
    ("DELETE", "/v1/topics", JSON, b"", 405, "method-not-allowed"),
    // Bodies.
    ("POST", "/v1/topics/t/messages", JSON, b"", 400, "invalid-request"),
    ("POST", "/v1/queues/q/messages", JSON, b"", 400, "invalid-request"),
    ("POST", "/v1/topics/t/messages", NDJSON, b"", 400, "invalid-request"),
    ("POST", "/v1/topics/t/messages", NDJSON, b"\n\n", 400, "invalid-request"),
    ("POST", "/v1/topics/t/messages", NDJSON, b"{\"data\":1}\n{\"data\":}", 400, "invalid-json"),
    ("POST", "/v1/topics/t/messages", NDJSON, b"{\"data\":1,\"kee\":2}", 400, "invalid-json"),
    ("POST", "/v1/topics/t/messages", NDJSON, b"{}", 400, "invalid-request"),
    ("POST", "/v1/topics/t/messages", NDJSON, b"{\"data_base64\":\"%\"}", 400, "invalid-request"),
    ("POST", "/v1/topics/t/messages", NDJSON, b"{\"data\":\"\xff\xfe\"}", 400, "invalid-json"),
    (
        "POST",
        "/v1/topics/t/messages",
        NDJSON,
        b"{\"data\":1,\"data_base64\":\"AA==\"}",
        400,
        "invalid-request",
    ),
    (
        "POST",
        "/v1/queues/q/messages",
        NDJSON,
        b"{\"data\":1,\"priority\":77}",
        400,
        "invalid-request",
    ),
    ("POST", "/v1/queues/q/messages", NDJSON, b"{\"data\":1,\"ttl_ms\":0}", 400, "invalid-request"),
    // Reading and consuming.
    ("GET", "/v1/topics/t/messages?from=yesterday", JSON, b"", 400, "invalid-request"),
    ("GET", "/v1/topics/t/messages?from=99", JSON, b"", 416, "range-not-satisfiable"),
    ("GET", "/v1/topics/t/messages?partition=9", JSON, b"", 404, "partition-not-found"),
    ("GET", "/v1/topics/t/messages?partition=x", JSON, b"", 400, "invalid-request"),
    ("GET", "/v1/topics/t/messages?limit=0", JSON, b"", 400, "invalid-request"),
    ("GET", "/v1/topics/t/messages?limit=-1", JSON, b"", 400, "invalid-request"),
    ("GET", "/v1/topics/t/messages?wait=1", JSON, b"", 400, "invalid-request"),
    ("GET", "/v1/topics/t/messages?wait_seconds=61", JSON, b"", 400, "invalid-request"),
    ("GET", "/v1/topics/t/messages?wait_seconds=NaN", JSON, b"", 400, "invalid-request"),
    ("POST", "/v1/queues/q/receive", JSON, b"{\"max\":0}", 400, "invalid-request"),
    ("POST", "/v1/queues/q/receive", JSON, b"{\"max\":1001}", 400, "invalid-request"),
    ("POST", "/v1/queues/q/receive", JSON, b"{\"max\":-1}", 400, "invalid-json"),
    ("POST", "/v1/queues/q/receive", JSON, b"{\"wait_seconds\":1e300}", 400, "invalid-request"),
    ("POST", "/v1/queues/q/receive", JSON, b"{\"wait\":1}", 400, "invalid-json"),
    ("POST", "/v1/queues/q/ack", JSON, b"", 400, "invalid-json"),
    ("POST", "/v1/queues/q/ack", JSON, b"{\"ack_ids\":[]}", 400, "invalid-request"),
    ("POST", "/v1/queues/q/ack", JSON, b"{\"ack_ids\":[7]}", 400, "invalid-json"),
    (
        "POST",
        "/v1/queues/q/nack",
        JSON,
        b"{\"ack_ids\":[\"a\"],\"delay_ms\":1e9}",
        400,
        "invalid-json",
    ),
    (
        "POST",
        "/v1/queues/q/nack",
        JSON,
        b"{\"ack_ids\":[\"a\"],\"failed\":false,\"reason\":\"x\"}",
        400,
        "invalid-request",
    ),
    ("POST", "/v1/queues/q/redrive", JSON, b"{\"to\":\"n o\"}", 400, "invalid-request"),
    ("POST", "/v1/queues/q/redrives", JSON, b"{\"rate_per_second\":0}", 400, "invalid-request"),
    ("POST", "/v1/queues/q/redrives", JSON, b"{\"max\":0}", 400, "invalid-request"),
    ("POST", "/v1/queues/q/redrives", JSON, b"{\"to\":\"none\"}", 404, "queue-not-found"),
    ("GET", "/v1/queues/q/redrives/x", JSON, b"", 400, "invalid-request"),
    ("GET", "/v1/queues/q/redrives/1", JSON, b"", 404, "not-found"),
    ("GET", "/v1/queues/q/peek?limit=x", JSON, b"", 400, "invalid-request"),
    ("POST", "/v1/topics/t/subscriptions/s/seek", JSON, b"{\"to\":\"x\"}", 400, "invalid-request"),
];

#[tokio::test]
async fn it_is_refused_with_what_to_do() {
    let broker = Broker::start().await;
    broker.put("/v1/topics/t", json!({})).await;
    broker.put("/v1/topics/t/subscriptions/s", json!({})).await;
    broker.put("/v1/queues/q", json!({})).await;
    for (method, path, content_type, body, status, code) in CASES {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = broker.request(method, path).header("content-type", *content_type);
        let request = if body.is_empty() { request } else { request.body(*body) };
        let problem = problem(request.send().await.unwrap(), *status).await;
        let shown = String::from_utf8_lossy(body);
        assert_eq!(problem["code"], *code, "{path} {shown}: {problem}");
    }
    let queue = broker.get("/v1/queues/q").await;
    assert_eq!(queue["stats"]["messages"], 0, "a refused batch stored something");
    broker.stop().await;
}

#[tokio::test]
async fn a_batch_names_the_line_that_is_wrong() {
    let broker = Broker::start().await;
    broker.put("/v1/topics/t", json!({})).await;
    let body = "{\"data\":1}\n\n{\"data\":2}\n{\"data\":";
    let headers = [("content-type", NDJSON)];
    let answer = broker.raw("/v1/topics/t/messages", &headers, body).await;
    let problem = problem(answer, 400).await;
    assert_eq!(problem["line"], 4);
    assert!(problem["detail"].as_str().unwrap().starts_with("line 4: "), "{problem}");
    let topic = broker.get("/v1/topics/t").await;
    assert_eq!(topic["messages"], 0);
    broker.stop().await;
}

#[tokio::test]
async fn what_is_too_long_is_refused() {
    let broker = Broker::start().await;
    broker.put("/v1/queues/q", json!({})).await;
    let path = "/v1/queues/q/messages";
    let large = "x".repeat(100_001);
    assert_eq!(problem(broker.raw(path, &[], &large).await, 413).await["code"], "too-large");
    let many = "{\"data\":1}\n".repeat(1_001);
    let answer = broker.raw(path, &[("content-type", NDJSON)], &many).await;
    assert_eq!(problem(answer, 413).await["code"], "too-large");
    let long = "n".repeat(300);
    for name in ["x-group", "x-dedup-id", "idempotency-key", "content-type"] {
        let answer = broker.raw(path, &[(name, &long)], "x").await;
        assert_eq!(problem(answer, 400).await["code"], "invalid-request", "{name}");
    }
    for (name, value) in [("x-priority", "10"), ("x-priority", "high"), ("x-delay-ms", "-1")] {
        let answer = broker.raw(path, &[(name, value)], "x").await;
        assert_eq!(problem(answer, 400).await["code"], "invalid-request", "{name}: {value}");
    }
    let name = "a".repeat(81);
    let answer = broker.request(Method::PUT, &format!("/v1/queues/{name}")).send().await.unwrap();
    problem(answer, 400).await;
    broker.stop().await;
}
