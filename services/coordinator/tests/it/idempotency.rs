//! `Idempotency-Key`: a repetition answers what the first request was answered.

use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{Answer, Server};

async fn keyed(server: &Server, key: &str, method: &str, path: &str, body: &str) -> Answer {
    keyed_if(server, key, (method, path, body), None).await
}

async fn keyed_if(
    server: &Server,
    key: &str,
    (method, path, body): (&str, &str, &str),
    if_match: Option<&str>,
) -> Answer {
    let mut request = server.request(method, path).header("idempotency-key", key);
    if let Some(tag) = if_match {
        request = request.header("if-match", tag);
    }
    server.send(request.body(body.to_owned())).await
}

/// Status, body, and the headers that say what was done.
fn shown(answer: &Answer) -> (u16, String, String, String) {
    let header = |name| answer.header(name).to_owned();
    (answer.status, answer.text().to_owned(), header("etag"), header("x-revision"))
}

async fn revision(server: &Server) -> u64 {
    server.get("/v1/cluster").await.json()["revision"].as_u64().unwrap()
}

/// Every write that would do something else the second time, in an order that makes it so.
fn writes() -> Vec<(&'static str, String, Value)> {
    let instance = json!({ "address": "h", "port": 80, "check": { "ttl_seconds": 60 } });
    let put = |key: &str| json!({ "put": { "key": key, "value": "v" } });
    vec![
        ("PUT", "/v1/kv/a".into(), json!("1")),
        ("PUT", "/v1/kv/a".into(), json!("2")),
        ("POST", "/v1/txn".into(), json!({ "then": [put("b"), { "get": { "prefix": "" } }] })),
        (
            "POST",
            "/v1/txn".into(),
            json!({ "if": [{ "key": "c", "exists": true }], "else": [put("c")] }),
        ),
        ("POST", "/v1/leases".into(), json!({ "ttl_seconds": 60 })),
        ("POST", "/v1/leases".into(), json!({ "ttl_seconds": 60, "id": "9" })),
        ("DELETE", "/v1/leases/9".into(), Value::Null),
        ("PUT", "/v1/services/web/w".into(), instance),
        ("DELETE", "/v1/services/web/w".into(), Value::Null),
        ("DELETE", "/v1/services/web/w".into(), Value::Null),
        ("DELETE", "/v1/kv/a".into(), Value::Null),
        ("DELETE", "/v1/kv/a?prefix=true".into(), Value::Null),
        ("POST", "/v1/compact".into(), json!({ "revision": 3 })),
    ]
}

#[tokio::test]
async fn a_repetition_of_any_write_answers_the_first_result_also_after_a_restart() {
    let mut server = Server::start().await;
    let mut first = Vec::new();
    for (at, (method, path, body)) in writes().iter().enumerate() {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = keyed(&server, &format!("k-{at}"), method, path, &body).await;
        assert!(answer.status < 300 || at == 9, "{method} {path}: {}", answer.text());
        first.push(shown(&answer));
    }
    assert_eq!(first[9].0, 404, "there was nothing left to deregister");
    let before = revision(&server).await;
    for _ in 0..2 {
        for (at, (method, path, body)) in writes().iter().enumerate() {
            let body = if body.is_null() { String::new() } else { body.to_string() };
            let answer = keyed(&server, &format!("k-{at}"), method, path, &body).await;
            if at == 9 {
                assert_eq!(answer.status, 404, "its trace id is its own");
            } else {
                assert_eq!(shown(&answer), first[at], "{method} {path}");
            }
        }
        assert_eq!(revision(&server).await, before, "nothing was done again");
        server.restart().await;
    }
}

#[tokio::test]
async fn a_condition_that_failed_fails_again() {
    let server = Server::start().await;
    server.put("/v1/kv/a", "1").await;
    let write = ("PUT", "/v1/kv/a", "2");
    keyed_if(&server, "k", write, Some("7")).await.is_problem(412, "precondition-failed");
    let repeated = keyed_if(&server, "k", write, Some("7")).await;
    repeated.is_problem(412, "precondition-failed");
    assert_eq!(repeated.json()["current_revision"], 2);
}

#[tokio::test]
async fn a_key_belongs_to_one_request() {
    let server = Server::start().await;
    keyed(&server, "k", "PUT", "/v1/kv/a", "1").await;
    for (method, path, body) in [
        ("PUT", "/v1/kv/a", "2"),
        ("PUT", "/v1/kv/b", "1"),
        ("DELETE", "/v1/kv/a", "1"),
        ("POST", "/v1/leases", r#"{"ttl_seconds":5}"#),
        ("PUT", "/v1/services/a/b", r#"{"address":"h","port":1}"#),
    ] {
        let answer = keyed(&server, "k", method, path, body).await;
        answer.is_problem(422, "idempotency-mismatch");
    }
    assert_eq!(server.get("/v1/kv/a").await.text(), "1");
    server.get("/v1/kv/b").await.is_problem(404, "key-not-found");
}

#[tokio::test]
async fn a_key_is_free_again_when_its_window_is_over() {
    let server = Server::start().await;
    keyed(&server, "k", "PUT", "/v1/kv/a", "1").await;
    server.clock.advance(Duration::from_secs(299));
    keyed(&server, "k", "PUT", "/v1/kv/a", "2").await.is_problem(422, "idempotency-mismatch");
    server.clock.advance(Duration::from_secs(1));
    assert_eq!(keyed(&server, "k", "PUT", "/v1/kv/a", "2").await.status, 200);
    assert_eq!(server.get("/v1/kv/a").await.text(), "2");
}

#[tokio::test]
async fn a_refused_request_may_succeed_with_the_same_key() {
    let server = Server::start().await;
    let path = "/v1/kv/a?lease=5";
    keyed(&server, "k", "PUT", path, "1").await.is_problem(404, "lease-not-found");
    server.post("/v1/leases", json!({ "ttl_seconds": 60, "id": "5" })).await;
    assert_eq!(keyed(&server, "k", "PUT", path, "1").await.status, 201);
}

#[tokio::test]
async fn duplicates_in_flight_are_carried_out_once() {
    let server = Server::start().await;
    let send = || keyed(&server, "k", "PUT", "/v1/kv/a", "1");
    let answers = futures_util::future::join_all((0..32).map(|_| send())).await;
    for answer in &answers {
        assert_eq!(shown(answer), shown(&answers[0]));
    }
    assert_eq!((answers[0].status, revision(&server).await), (201, 2));
    let grant = || keyed(&server, "l", "POST", "/v1/leases", r#"{"ttl_seconds":60}"#);
    futures_util::future::join_all((0..32).map(|_| grant())).await;
    assert_eq!(server.get("/v1/leases").await.json()["leases"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_that_is_none_is_refused() {
    let server = Server::start().await;
    for key in ["", &"k".repeat(256)] {
        let answer = keyed(&server, key, "PUT", "/v1/kv/a", "1").await;
        answer.is_problem(400, "invalid-request");
        assert!(answer.text().contains("255"), "{}", answer.text());
    }
    assert_eq!(keyed(&server, &"k".repeat(255), "PUT", "/v1/kv/a", "1").await.status, 201);
}

#[tokio::test]
async fn an_answer_too_large_to_keep_is_not_given_twice_and_nothing_is_done_twice() {
    let server = Server::start().await;
    server.put("/v1/kv/big", &"x".repeat(1 << 20)).await;
    let txn =
        json!({ "then": [{ "put": { "key": "b", "value": "v" } }, { "get": { "key": "big" } }] });
    let txn = txn.to_string();
    assert_eq!(keyed(&server, "k", "POST", "/v1/txn", &txn).await.status, 200);
    let repeated = keyed(&server, "k", "POST", "/v1/txn", &txn).await;
    repeated.is_problem(409, "conflict");
    assert_eq!((&repeated.json()["revision"], revision(&server).await), (&json!(3), 3));
}
