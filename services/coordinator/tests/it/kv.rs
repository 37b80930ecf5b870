//! `/v1/kv` and `/v1/txn`.

use serde_json::{Value, json};

use crate::server::Server;

#[tokio::test]
async fn a_value_comes_back_as_it_went_in() {
    let server = Server::start().await;
    let created = server.put("/v1/kv/a/b%20c", "blue").await;
    assert_eq!((created.status, created.header("etag")), (201, "\"2\""));
    let changed = server.put("/v1/kv/a/b%20c", "red").await;
    assert_eq!((changed.status, changed.header("etag")), (200, "\"3\""));
    let read = server.get("/v1/kv/a/b%20c").await;
    assert_eq!((read.text(), read.header("etag")), ("red", "\"3\""));
    assert_eq!(read.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(server.get("/v1/kv/a/b%20c?revision=2").await.text(), "blue");
    let meta = server.get("/v1/kv/a/b%20c?meta=true").await.json();
    let expected = json!({ "key": "a/b c", "value": "red", "create_revision": 2,
                           "mod_revision": 3, "version": 2 });
    assert_eq!(meta, expected);
    server.get("/v1/kv/a").await.is_problem(404, "key-not-found");
}

#[tokio::test]
async fn any_bytes_are_a_key_and_a_value() {
    let server = Server::start().await;
    let body: Vec<u8> = (0..=255).collect();
    let put = server.send(server.request("PUT", "/v1/kv/%00%FF/").body(body.clone())).await;
    assert_eq!(put.status, 201);
    let read = server.get("/v1/kv/%00%ff/").await;
    assert_eq!(
        (read.body, read.headers["content-type"].to_str().unwrap()),
        (body, "application/octet-stream")
    );
    let page = server.get("/v1/kv?prefix=%00&keys_only=true").await.json();
    assert_eq!(page["kvs"][0]["key"], json!({ "base64": "AP8v" }));
}

#[tokio::test]
async fn conditions_decide_against_the_newest_revision() {
    let server = Server::start().await;
    let put = |name: &'static str, value: &'static str| {
        server.send(server.request("PUT", "/v1/kv/k").header(name, value).body("v"))
    };
    put("if-match", "*").await.is_problem(412, "precondition-failed");
    put("if-match", "\"7\"").await.is_problem(412, "precondition-failed");
    assert_eq!(put("if-none-match", "*").await.status, 201);
    let again = put("if-none-match", "*").await;
    again.is_problem(412, "precondition-failed");
    assert_eq!(again.json()["current_revision"], 2);
    assert_eq!(put("if-match", "\"2\"").await.status, 200);
    put("if-match", "\"2\"").await.is_problem(412, "precondition-failed");
    put("if-match", "x").await.is_problem(400, "invalid-request");

    let delete = |revision: &'static str| {
        server.send(server.request("DELETE", "/v1/kv/k").header("if-match", revision))
    };
    delete("2").await.is_problem(412, "precondition-failed");
    assert_eq!(delete("3").await.json(), json!({ "revision": 4, "deleted": 1 }));
    let gone = server.call("DELETE", "/v1/kv/k", "").await;
    assert_eq!(gone.json(), json!({ "revision": 4, "deleted": 0 }));
}

#[tokio::test]
async fn a_reader_that_has_the_value_gets_304() {
    let server = Server::start().await;
    server.put("/v1/kv/k", "v").await;
    let read = |etag: &'static str| {
        server.send(server.request("GET", "/v1/kv/k").header("if-none-match", etag))
    };
    assert_eq!(read("\"2\"").await.status, 304);
    assert_eq!(read("\"1\"").await.status, 200);
}

#[tokio::test]
async fn pages_show_one_revision_and_join() {
    let server = Server::start().await;
    for key in ["a", "p/1", "p/2", "p/3", "q"] {
        server.put(&format!("/v1/kv/{key}"), "v").await;
    }
    let first = server.get("/v1/kv?prefix=p/&limit=2").await.json();
    assert_eq!((&first["revision"], first["kvs"].as_array().unwrap().len()), (&json!(6), 2));
    server.call("DELETE", "/v1/kv/p/?prefix=true", "").await;
    let next = first["next"].as_str().unwrap();
    let second =
        server.get(&format!("/v1/kv?prefix=p/&limit=2&start={next}&revision=6")).await.json();
    assert_eq!(second["kvs"][0]["key"], "p/3");
    assert!(second.get("next").is_none());
    let now = server.get("/v1/kv?prefix=p/").await.json();
    assert_eq!(now, json!({ "revision": 7, "kvs": [] }));
    server.get("/v1/kv?limit=0").await.is_problem(400, "invalid-request");
    server.get("/v1/kv?revision=99").await.is_problem(416, "range-not-satisfiable");
}

#[tokio::test]
async fn a_transaction_takes_one_branch_and_one_revision() {
    let server = Server::start().await;
    let request = json!({
        "if": [{ "key": "leader", "exists": false }],
        "then": [{ "put": { "key": "leader", "value": "a" } },
                 { "put": { "key": { "base64": "/w==" }, "value": "b" } },
                 { "get": { "key": "leader" } },
                 { "txn": { "if": [{ "key": "leader", "version": 1 }],
                            "then": [{ "delete": { "prefix": "no" } }] } }],
        "else": [{ "get": { "key": "leader" } }],
    });
    let first = server.post("/v1/txn", request.clone()).await.json();
    assert_eq!((&first["succeeded"], &first["revision"]), (&json!(true), &json!(2)));
    assert_eq!(first["results"][2]["get"]["kvs"][0]["value"], "a", "reads see earlier writes");
    assert_eq!(first["results"][3]["txn"]["succeeded"], false, "comparisons see the state before");
    let second = server.post("/v1/txn", request).await.json();
    assert_eq!((&second["succeeded"], &second["revision"]), (&json!(false), &json!(2)));
    assert_eq!(second["results"][0]["get"]["kvs"][0]["mod_revision"], 2);

    let twice = json!({ "then": [{ "put": { "key": "a", "value": "" } }, { "put": { "key": "a", "value": "" } }] });
    server.post("/v1/txn", twice).await.is_problem(400, "invalid-request");
    let no_lease = json!({ "then": [{ "put": { "key": "a", "value": "", "lease": "9" } }] });
    server.post("/v1/txn", no_lease).await.is_problem(404, "lease-not-found");
}

#[tokio::test]
async fn compacted_history_says_where_it_begins() {
    let server = Server::start().await;
    for value in ["1", "2", "3"] {
        server.put("/v1/kv/k", value).await;
    }
    let compacted = server.post("/v1/compact", json!({ "revision": 3 })).await.json();
    assert_eq!(compacted, json!({ "revision": 4, "compact_revision": 3 }));
    let read = server.get("/v1/kv/k?revision=2").await;
    read.is_problem(410, "compacted");
    assert_eq!(read.json()["oldest_revision"], 3);
    assert_eq!(server.get("/v1/kv/k?revision=3").await.text(), "2");
    server.post("/v1/compact", json!({ "revision": 3 })).await.is_problem(410, "compacted");
    server
        .post("/v1/compact", json!({ "revision": 9 }))
        .await
        .is_problem(416, "range-not-satisfiable");
}

/// Other commands have their turn between its parts.
#[tokio::test]
async fn a_long_history_goes_in_parts_and_is_refused_as_a_whole() {
    let server = Server::start().await;
    let index = async || {
        let status = server.post("/v3/maintenance/status", json!({})).await.json();
        status["raftIndex"].as_str().and_then(|index| index.parse::<u64>().ok()).expect("a number")
    };
    let ops: Vec<Value> =
        ["1", "2"].map(|value| json!({ "put": { "key": "k", "value": value } })).into();
    for round in 0..2600 {
        let then = json!({ "then": [ops[round % 2]] });
        server.post("/v1/txn", then).await;
    }
    let before = index().await;
    let future = server.post("/v1/compact", json!({ "revision": 9999 })).await;
    future.is_problem(416, "range-not-satisfiable");
    assert_eq!(server.get("/v1/kv/k?revision=2").await.text(), "1", "nothing is gone");
    assert_eq!(index().await, before + 1);
    let compacted = server.post("/v1/compact", json!({ "revision": 2500 })).await.json();
    assert_eq!(compacted, json!({ "revision": 2601, "compact_revision": 2500 }));
    assert_eq!(index().await, before + 4, "three commands for it");
    server.get("/v1/kv/k?revision=2499").await.is_problem(410, "compacted");
    assert_eq!(server.get("/v1/kv/k?revision=2500").await.status, 200);
}

#[tokio::test]
async fn a_full_store_refuses_puts_and_names_the_way_out() {
    let config = coordinator::Config { quota_bytes: 1 << 20, ..Default::default() };
    let server = Server::with(config).await;
    let value = "x".repeat(600 << 10);
    assert_eq!(server.put("/v1/kv/a", &value).await.status, 201);
    let refused = server.put("/v1/kv/b", &value).await;
    refused.is_problem(429, "limit-reached");
    assert!(refused.text().contains("/v1/compact"));
    assert_eq!(server.get("/v1/kv/a").await.status, 200);
    assert_eq!(server.call("DELETE", "/v1/kv/a", "").await.json()["deleted"], 1);
    server.post("/v1/compact", json!({ "revision": 3 })).await;
    server.put("/v1/kv/c", "").await;
    server.post("/v1/compact", json!({ "revision": 4 })).await;
    assert_eq!(server.put("/v1/kv/b", &value).await.status, 201);
}

#[tokio::test]
async fn the_cluster_of_one_tells_the_truth() {
    let server = Server::start().await;
    server.put("/v1/kv/k", "v").await;
    let cluster = server.get("/v1/cluster").await.json();
    assert_eq!((&cluster["revision"], &cluster["keys"]), (&json!(2), &json!(1)));
    assert_eq!(cluster["leader"], cluster["members"][0]["name"]);
    assert_eq!(cluster["members"][0]["client_url"], server.url("").as_str());
    let header =
        server.post("/v3/kv/range", json!({ "key": "aw==" })).await.json()["header"].take();
    assert_eq!(cluster["cluster_id"], header["cluster_id"]);
    assert_eq!(cluster["members"][0]["id"], header["member_id"]);
}
