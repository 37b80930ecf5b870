//! What is refused before a call of the etcd face runs is refused in its own form.

use std::time::Duration;

use coordinator::Config;
use futures_util::StreamExt as _;
use serde_json::json;

use crate::server::{Answer, Server};
use crate::stream::Lines;

/// An error of etcd: this status, this code, the text under both names, and no problem document.
#[track_caller]
fn is_error(answer: &Answer, status: u16, code: u32, text: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.json(), json!({ "error": text, "code": code, "message": text }));
    assert_eq!(answer.header("x-trace-id").len(), 32);
}

#[tokio::test]
async fn a_body_beyond_every_limit_is_too_large() {
    let server = Server::start().await;
    let long = "x".repeat(9 << 20);
    let text = "etcdserver: request is too large";
    for path in ["/v3/kv/put", "/v3/kv/range", "/v3beta/kv/txn", "/v3/lease/grant"] {
        is_error(&server.call("POST", path, long.clone()).await, 400, 3, text);
    }
    // Without a length it is noticed while it is read.
    let chunks = (0..10).map(|_| Ok::<_, std::io::Error>("x".repeat(1 << 20)));
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    let answer = server.send(server.request("POST", "/v3/kv/put").body(body)).await;
    is_error(&answer, 400, 3, text);
}

#[tokio::test]
async fn a_deadline_that_passes_is_etcds_own() {
    let server = Server::start().await;
    let request = server.request("POST", "/v3/kv/range").header("grpc-timeout", "0m");
    let answer = server.send(request.body(r#"{"key":"YQ=="}"#)).await;
    is_error(&answer, 504, 4, "context deadline exceeded");
    let request = server.request("POST", "/v3/kv/range").header("x-deadline-ms", "soon");
    let answer = server.send(request.body(r#"{"key":"YQ=="}"#)).await;
    assert_eq!((answer.status, &answer.json()["code"]), (400, &json!(3)));
}

#[tokio::test]
async fn too_much_to_do_is_a_resource_that_is_exhausted() {
    let mut config = Config::default();
    config.base.limits.max_in_flight = 1;
    let server = Server::with(config).await;
    // A watch whose first document does not come holds the only place until it is answered.
    let pending = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let held = server.request("POST", "/v3/watch").body(reqwest::Body::wrap_stream(pending));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(held.send());
    let body = json!({ "key": "YQ==" });
    let mut answer = server.post("/v3/kv/range", body.clone()).await;
    for _ in 0..400 {
        if answer.status != 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
        answer = server.post("/v3/kv/range", body.clone()).await;
    }
    is_error(&answer, 429, 8, "etcdserver: too many requests");
    assert_eq!(answer.header("retry-after"), "1");
    server.get("/v1/kv/a").await.is_problem(503, "overloaded");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_plain_text() {
    let server = Server::start().await;
    for path in ["/v3", "/v3/", "/v3/nothing", "/v3/kv", "/v3/kv/put/", "/v3beta/kv/x"] {
        let answer = server.call("POST", path, "{}").await;
        assert_eq!((answer.status, answer.text()), (404, "Not Found\n"), "{path}");
        assert!(answer.header("content-type").starts_with("text/plain"), "{path}");
    }
    for method in ["GET", "PUT", "DELETE", "PATCH"] {
        let answer = server.call(method, "/v3/kv/put", "").await;
        assert_eq!((answer.status, answer.text()), (405, "Method Not Allowed\n"), "{method}");
    }
    server.post("/v3alpha/kv/put", json!({})).await.is_problem(404, "not-found");
}

/// A body that goes on after these pieces.
fn endless(pieces: Vec<String>) -> reqwest::Body {
    let pieces = futures_util::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
    reqwest::Body::wrap_stream(pieces.chain(futures_util::stream::pending()))
}

#[tokio::test]
async fn a_stream_of_requests_may_be_as_long_as_it_likes() {
    let mut config = Config::default();
    config.base.limits.max_body_bytes = 4096;
    let server = Server::with(config).await;
    let documents = (1..=200).flat_map(|id| {
        let create = json!({ "create_request": { "key": "YQ==", "watch_id": id } });
        let cancel = json!({ "cancel_request": { "watch_id": id } });
        [create.to_string(), format!("\n{cancel}\n")]
    });
    let last = json!({ "create_request": { "key": "YQ==", "watch_id": 7 } }).to_string();
    let pieces: Vec<String> = documents.chain([last]).collect();
    assert!(4096 * 2 < pieces.iter().map(String::len).sum::<usize>());
    let request = server.request("POST", "/v3/watch").body(endless(pieces));
    let mut lines = Lines::open(request).await;
    for id in (1..=200).map(|id| id.to_string()) {
        assert_eq!(lines.message().await, json!({ "watch_id": id, "created": true }));
        assert_eq!(lines.message().await, json!({ "watch_id": id, "canceled": true }));
    }
    assert_eq!(lines.message().await["created"], true);
    server.put("/v1/kv/a", "1").await;
    assert_eq!(lines.message().await["events"][0]["kv"]["value"], "MQ==");

    let lease = json!({ "ID": 9 }).to_string();
    server.post("/v3/lease/grant", json!({ "ID": 9, "TTL": 60 })).await;
    let request = server.request("POST", "/v3/lease/keepalive").body(endless(vec![lease; 1000]));
    let mut lines = Lines::open(request).await;
    for _ in 0..1000 {
        assert_eq!(lines.message().await, json!({ "ID": "9", "TTL": "60" }));
    }
    // What is no stream stays bounded as a whole.
    let answer = server.call("POST", "/v3/kv/range", " ".repeat(4097)).await;
    is_error(&answer, 400, 3, "etcdserver: request is too large");
}

#[tokio::test]
async fn a_drain_ends_streams_of_requests_with_a_word() {
    let mut server = Server::start().await;
    server.post("/v3/lease/grant", json!({ "ID": 9, "TTL": 60 })).await;
    let mut streams = Vec::new();
    for (path, first) in [
        ("/v3/lease/keepalive", json!({ "ID": 9 })),
        ("/v3/watch", json!({ "create_request": { "key": "YQ==" } })),
    ] {
        let request = server.request("POST", path).body(endless(vec![first.to_string()]));
        let mut lines = Lines::open(request).await;
        lines.message().await;
        streams.push(lines);
    }
    server.drain().await;
    for mut lines in streams {
        let line = lines.next().await;
        assert!(line.contains("\"grpc_code\":14") && line.contains("server stopped"), "{line}");
    }
}

#[tokio::test]
async fn one_request_of_a_stream_is_bounded() {
    let server = Server::with(Config { max_request_bytes: 1024, ..Config::default() }).await;
    let progress = json!({ "progress_request": {} }).to_string();
    let long = format!("{{\"create_request\":{{\"key\":\"{}", "a".repeat(1 << 20));
    for path in ["/v3/watch", "/v3/lease/keepalive"] {
        let request = server.request("POST", path);
        let mut lines =
            Lines::open(request.body(endless(vec![progress.clone(), long.clone()]))).await;
        let mut line = lines.next().await;
        while !line.contains("\"error\"") {
            line = lines.next().await;
        }
        assert!(line.contains("\"grpc_code\":3"), "{line}");
    }
}
