//! Whatever is wrong with a request, the answer is a 4xx problem that says what to do.

use reqwest::{Method, StatusCode};

use crate::support::{alone, http, send};

/// Method, path, headers, body, expected code.
type Case = (Method, String, Vec<(&'static str, String)>, Vec<u8>, &'static str);

fn cases() -> Vec<Case> {
    let long = "k".repeat(1025);
    let put = |path: &str| (Method::PUT, path.to_owned(), vec![], b"v".to_vec(), "invalid-request");
    let get = |path: &str| (Method::GET, path.to_owned(), vec![], vec![], "invalid-request");
    let with = |method: Method, name: &'static str, value: &str| {
        let headers = vec![(name, value.to_owned())];
        (method, "/v1/kv/a".to_owned(), headers, vec![], "invalid-request")
    };
    vec![
        put("/v1/kv/"),
        put("/v1/kv/%"),
        put("/v1/kv/%4"),
        put("/v1/kv/%zz"),
        put(&format!("/v1/kv/{long}")),
        get(&format!("/v1/kv/{long}")),
        put("/v1/kv/a?ack=most"),
        put("/v1/kv/a?akc=all"),
        put("/v1/kv/a?ttl_seconds=0"),
        put("/v1/kv/a?ttl_seconds=-1"),
        put("/v1/kv/a?ttl_seconds=1e3"),
        put("/v1/kv/a?ttl_seconds=99999999999999"),
        (Method::DELETE, "/v1/kv/a?ttl_seconds=5".into(), vec![], vec![], "invalid-request"),
        get("/v1/kv/a?consistency=perfect"),
        get("/v1/kv/a?consistency=bounded"),
        get("/v1/kv/a?consistency=session"),
        get("/v1/kv/a?consistency=strong&max_lag_ms=5"),
        get("/v1/kv/a?max_lag_ms=soon"),
        get("/v1/kv?limit=0"),
        get("/v1/kv?limit=1001"),
        get("/v1/kv?limit=ten"),
        get("/v1/kv?prefix=%f"),
        get(&format!("/v1/kv?start={long}")),
        get("/v1/digest?at=now"),
        get("/v1/changes?from=yesterday"),
        with(Method::GET, "x-session", "7"),
        with(Method::GET, "x-session", "7:x"),
        with(Method::PUT, "if-match", "unquoted"),
        with(Method::PUT, "if-none-match", "\"open"),
        with(Method::PUT, "idempotency-key", ""),
        with(Method::PUT, "idempotency-key", &"i".repeat(256)),
        with(Method::PUT, "content-type", &"t".repeat(256)),
        with(Method::PUT, "x-deadline-ms", "soon"),
        (Method::PUT, "/v1/kv/a".into(), vec![], vec![0; 1024 * 1024 + 1], "too-large"),
        (Method::PUT, "/v1/kv/a".into(), vec![], vec![0; 9 * 1024 * 1024], "too-large"),
        (Method::PATCH, "/v1/kv/a".into(), vec![], vec![], "method-not-allowed"),
        (Method::POST, "/v1/kv/a".into(), vec![], vec![], "method-not-allowed"),
        (Method::GET, "/v1/nothing".into(), vec![], vec![], "not-found"),
        (Method::GET, "/v1/kv/absent".into(), vec![], vec![], "key-not-found"),
        (Method::POST, "/v1/replication/promote".into(), vec![], vec![], "not-found"),
    ]
}

fn batches() -> Vec<Case> {
    let batch = |body: &str, code: &'static str| {
        (Method::POST, "/v1/batch".to_owned(), vec![], body.as_bytes().to_vec(), code)
    };
    vec![
        batch("", "invalid-json"),
        batch("{", "invalid-json"),
        batch("[]", "invalid-json"),
        batch(r#"{"operations":"all"}"#, "invalid-json"),
        batch(r#"{"operations":[{"op":"explode"}]}"#, "invalid-json"),
        batch(r#"{"operations":[{"op":"put","key":"a","valeu":"x"}]}"#, "invalid-json"),
        batch(r#"{"operations":[{"op":"delete","key":"a"}],"fi":[]}"#, "invalid-json"),
        batch(r#"{"operations":[]}"#, "invalid-request"),
        batch(r#"{"operations":[{"op":"delete","key":""}]}"#, "invalid-request"),
        batch(r#"{"operations":[{"op":"put","key":"a"}]}"#, "invalid-request"),
        batch(r#"{"operations":[{"op":"put","key":"a","value_base64":"!"}]}"#, "invalid-request"),
        batch(
            r#"{"operations":[{"op":"put","key":"a","value":"x","content_type":"a\nb"}]}"#,
            "invalid-request",
        ),
        batch(
            r#"{"if":[{"key":"a","version":"new"}],"operations":[{"op":"delete","key":"a"}]}"#,
            "invalid-json",
        ),
    ]
}

#[tokio::test]
async fn every_mistake_is_a_problem_that_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let node = alone(dir.path()).await;
    for (method, path, headers, body, code) in cases().into_iter().chain(batches()) {
        let shown = format!("{method} {path:.80} {headers:.80?}");
        let mut request = http().request(method, format!("{}{path}", node.url)).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = send(request).await;
        assert!(answer.status.is_client_error(), "{shown}: {answer:?}");
        assert_eq!(answer.code(), code, "{shown}: {}", answer.text());
    }
    let put = send(http().put(format!("{}/v1/kv/a", node.url)).body("still fine")).await;
    assert_eq!(put.status, StatusCode::OK);
    node.stop().await;
}

#[tokio::test]
async fn the_limits_themselves_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let node = alone(dir.path()).await;
    let key = "%FF".repeat(1024);
    let url = format!("{}/v1/kv/{key}", node.url);
    let put = send(http().put(&url).body(vec![7; 1024 * 1024])).await;
    assert_eq!(put.status, StatusCode::OK, "{put:?}");
    let get = send(http().get(&url)).await;
    assert_eq!(get.body, vec![7; 1024 * 1024]);
    let empty = send(http().put(&url)).await;
    assert_eq!(empty.status, StatusCode::OK, "{empty:?}");
    assert!(send(http().get(&url)).await.body.is_empty());
    node.stop().await;
}
