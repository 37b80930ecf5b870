//! Nothing that can be sent is a mistake of ours: 4xx, in time, with a text.

use serde_json::{Value, json};

use crate::server::Server;

#[tokio::test]
async fn malformed_requests_are_refused_with_a_problem() {
    let server = Server::start().await;
    let long = "k".repeat(5000);
    let instance = |value: Value| value.to_string();
    for (method, path, body) in [
        ("GET", "/v1/kv/".to_owned(), String::new()),
        ("GET", format!("/v1/kv/{long}"), String::new()),
        ("PUT", format!("/v1/kv/{long}"), "v".into()),
        ("PUT", "/v1/kv/%zz".into(), "v".into()),
        ("PUT", "/v1/kv/a?lease=soon".into(), "v".into()),
        ("PUT", "/v1/kv/a?lease=0".into(), "v".into()),
        ("PUT", "/v1/kv/a?leese=1".into(), "v".into()),
        ("GET", "/v1/kv/a?revision=-1".into(), String::new()),
        ("GET", "/v1/kv/a?revision=0".into(), String::new()),
        ("GET", "/v1/kv/a?consistency=maybe".into(), String::new()),
        ("GET", "/v1/kv?limit=many".into(), String::new()),
        ("GET", "/v1/watch".into(), String::new()),
        ("GET", "/v1/watch?key=a&prefix=b".into(), String::new()),
        ("GET", "/v1/watch?key=a&from_revision=x".into(), String::new()),
        ("POST", "/v1/txn".into(), String::new()),
        ("POST", "/v1/txn".into(), "{".into()),
        ("POST", "/v1/txn".into(), "[]".into()),
        ("POST", "/v1/txn".into(), r#"{"then":"put"}"#.into()),
        ("POST", "/v1/txn".into(), r#"{"then":[{"put":{"key":"","value":""}}]}"#.into()),
        ("POST", "/v1/txn".into(), r#"{"then":[{"get":{}}]}"#.into()),
        ("POST", "/v1/txn".into(), r#"{"if":[{"key":"a"}]}"#.into()),
        ("POST", "/v1/txn".into(), r#"{"if":[{"key":"a","version":1,"exists":true}]}"#.into()),
        ("POST", "/v1/txn".into(), r#"{"if":[{"key":{"base64":"!"},"version":1}]}"#.into()),
        ("POST", "/v1/txn".into(), r#"{"then":[{"txn":"#.repeat(200)),
        ("POST", "/v1/leases".into(), r#"{"ttl_seconds":-5}"#.into()),
        ("POST", "/v1/leases".into(), r#"{"ttl_seconds":0}"#.into()),
        ("POST", "/v1/leases".into(), r#"{"ttl_seconds":9000000001}"#.into()),
        ("GET", "/v1/leases/unknown".into(), String::new()),
        ("PUT", "/v1/services/a/b".into(), "x".into()),
        ("PUT", "/v1/services/a/b".into(), instance(json!({ "address": "", "port": 1 }))),
        ("PUT", "/v1/services/a/b".into(), instance(json!({ "address": "h", "port": 0 }))),
        ("PUT", "/v1/services/a/b".into(), instance(json!({ "address": "h", "port": 70000 }))),
        ("PUT", "/v1/services/a%2Fb/c".into(), instance(json!({ "address": "h", "port": 1 }))),
        (
            "PUT",
            "/v1/services/a/b".into(),
            instance(json!({ "address": "h", "port": 1, "check": {} })),
        ),
        (
            "PUT",
            "/v1/services/a/b".into(),
            instance(json!({ "address": "h", "port": 1, "check": { "http": "ftp://x" } })),
        ),
        ("POST", "/v1/compact".into(), r#"{"revision":"x"}"#.into()),
    ] {
        let answer = server.call(method, &path, body.clone()).await;
        let shown = path.chars().take(60).collect::<String>();
        assert_eq!(answer.status, 400, "{method} {shown} {body:.60}: {}", answer.text());
        assert_eq!(answer.header("content-type"), "application/problem+json", "{method} {shown}");
    }
    server.post("/v1/kv/a", json!("v")).await.is_problem(405, "method-not-allowed");
    server.post("/v1/lock/a", json!({})).await.is_problem(404, "not-found");
}

#[tokio::test]
async fn what_is_too_large_is_refused_on_both_faces() {
    let server = Server::start().await;
    let value = "x".repeat(1537 << 10);
    server.put("/v1/kv/a", &value).await.is_problem(413, "too-large");
    server.put("/v1/kv/a", &"x".repeat(9 << 20)).await.is_problem(413, "too-large");
    let half = |key: &str| json!({ "put": { "key": key, "value": &value[..800 << 10] } });
    let (one, two) = (half("b"), half("c"));
    server.post("/v1/txn", json!({ "then": [one] })).await.json()["revision"].as_u64().unwrap();
    let both = json!({ "then": [one, { "txn": { "then": [two] } }] });
    server.post("/v1/txn", both).await.is_problem(413, "too-large");
    let instance = json!({ "address": "h", "port": 1, "meta": { "m": value } });
    server.call("PUT", "/v1/services/a/b", instance.to_string()).await.is_problem(413, "too-large");
    let request = json!({ "key": "YQ==", "value": "x".repeat(1500 << 12) });
    let answer = server.post("/v3/kv/put", request).await;
    assert_eq!((answer.status, &answer.json()["code"]), (400, &json!(3)));
    assert_eq!(answer.json()["message"], "etcdserver: request is too large");
    assert_eq!(server.put("/v1/kv/a", &value[..1536 << 10]).await.status, 201);
    // The message counts as it is, not as base64 makes it.
    let request = json!({ "key": "YQ==", "value": "x".repeat((1500 << 10) / 3 * 4) });
    assert_eq!(server.post("/v3/kv/put", request).await.status, 200);
}

#[tokio::test]
async fn etcd_calls_fail_in_the_words_of_etcd() {
    let server = Server::start().await;
    for (path, body, status, code) in [
        ("/v3/kv/range", "{\"key\":1}", 400, 3),
        ("/v3/kv/range", "[]x", 400, 3),
        ("/v3/kv/range", "{\"key\":\"YQ==\",\"sort_order\":\"UP\"}", 400, 3),
        ("/v3/kv/put", "\u{0}", 400, 3),
        ("/v3/kv/txn", "{\"success\":[{}]}", 400, 3),
        ("/v3/kv/txn", "{\"success\":[{\"request_put\":{}}]}", 400, 3),
        ("/v3/lease/revoke", "{\"ID\":\"5\"}", 404, 5),
        ("/v3/lease/grant", "{\"TTL\":\"9000000001\"}", 400, 11),
        ("/v3/watch", "nonsense", 500, 2),
        ("/v3/kv/put", "{\"key\":\"YQ==\",\"value\":\"YQ==\",\"ignore_value\":true}", 400, 3),
    ] {
        let answer = server.call("POST", path, body).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.text());
        assert_eq!(answer.json()["code"], code, "{path} {body}");
        assert_eq!(answer.json()["error"], answer.json()["message"]);
    }
}
