//! `/v3/maintenance/*` beyond what the captures and the differential test show.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coordinator::{Config, backup};
use serde_json::{Value, json};

use crate::server::Server;

async fn call(server: &Server, path: &str, body: Value) -> Value {
    let answer = server.post(&format!("/v3/maintenance/{path}"), body).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

#[tokio::test]
async fn a_snapshot_stream_is_a_backup_with_its_checksum_last() {
    let server = Server::start().await;
    for at in 0..50 {
        server.put(&format!("/v1/kv/key{at}"), &"v".repeat(2000)).await;
    }
    let answer = server.post("/v3/maintenance/snapshot", json!({})).await;
    let (mut file, mut remaining) = (Vec::new(), u64::MAX);
    let mut blobs = Vec::new();
    for line in answer.text().lines() {
        let message: Value = serde_json::from_str(line).unwrap();
        let result = &message["result"];
        assert!(result.get("header").is_none());
        let blob = STANDARD.decode(result["blob"].as_str().unwrap()).unwrap();
        let left = result["remaining_bytes"].as_str().map_or(0, |left| left.parse().unwrap());
        assert!(left < remaining || left == 0);
        remaining = left;
        blobs.push(blob.len());
        file.extend(blob);
    }
    assert_eq!(blobs.pop(), Some(32), "the checksum comes alone");
    assert!(blobs[..blobs.len() - 1].iter().all(|len| *len == 32 << 10));
    assert_eq!((remaining, backup::read(&file).unwrap().revision().0), (0, 51));
}

#[tokio::test]
async fn hashes_tell_equal_from_different() {
    let (one, two) = (Server::start().await, Server::start().await);
    for server in [&one, &two] {
        server.put("/v1/kv/a", "1").await;
        server.put("/v1/kv/a", "2").await;
    }
    let hash = |server, revision: u64| call(server, "hashkv", json!({ "revision": revision }));
    let first = hash(&one, 2).await;
    assert_eq!(first["hash_revision"], "2");
    assert_eq!(first["hash"], hash(&two, 2).await["hash"]);
    two.put("/v1/kv/a", "3").await;
    assert_eq!(first["hash"], hash(&two, 2).await["hash"]);
    assert_ne!(hash(&one, 0).await["hash"], hash(&two, 0).await["hash"]);
    assert_ne!(
        call(&one, "hash", json!({})).await["hash"],
        call(&two, "hash", json!({})).await["hash"]
    );
    let future = one.post("/v3/maintenance/hashkv", json!({ "revision": 9 })).await;
    assert_eq!((future.status, &future.json()["code"]), (400, &json!(11)));
}

#[tokio::test]
async fn downgrades_are_answered_and_refused() {
    let server = Server::start().await;
    for (action, version, code, text) in [
        ("VALIDATE", "3.4.0", 9, "etcdserver: not capable"),
        ("ENABLE", "3.4", 9, "etcdserver: not capable"),
        ("ENABLE", "3.3", 3, "etcdserver: invalid downgrade target version"),
        ("VALIDATE", "three", 3, "etcdserver: wrong downgrade target version format"),
        ("CANCEL", "", 9, "etcdserver: no inflight downgrade job"),
    ] {
        let body = json!({ "action": action, "version": version });
        let answer = server.post("/v3/maintenance/downgrade", body).await;
        assert_eq!(answer.status, 400, "{action} {version}");
        assert_eq!(answer.json()["code"], code, "{action} {version}");
        assert_eq!(answer.json()["message"], text, "{action} {version}");
    }
}

/// The way out of a full store, without a restart and without taking anything down by hand.
#[tokio::test]
async fn a_full_store_says_so_and_recovers_by_itself() {
    let server = Server::with(Config { quota_bytes: 1 << 20, ..Config::default() }).await;
    let big = "v".repeat(400_000);
    server.put("/v1/kv/a", &big).await;
    server.put("/v1/kv/b", &big).await;
    server.put("/v1/kv/c", &big).await.is_problem(429, "limit-reached");
    assert_eq!(server.get("/health").await.status, 503);
    assert!(server.get("/health").await.text().contains("ALARM NOSPACE"));
    assert_eq!(server.get("/health?exclude=NOSPACE").await.status, 200);
    let alarms = call(&server, "alarm", json!({})).await["alarms"].take();
    assert_eq!(alarms[0]["alarm"], "NOSPACE");
    let errors = call(&server, "status", json!({})).await["errors"].take();
    assert!(errors[0].as_str().unwrap().ends_with("alarm:NOSPACE "), "{errors}");
    // Others go on meanwhile.
    assert_eq!(server.put("/v1/kv/small", "v").await.status, 201);
    server.call("DELETE", "/v1/kv/a", "").await;
    let revision = server.get("/v1/cluster").await.json()["revision"].clone();
    server.post("/v1/compact", json!({ "revision": revision })).await;
    assert_eq!(server.get("/health").await.status, 200);
    assert_eq!(call(&server, "alarm", json!({})).await.get("alarms"), None);
    assert_eq!(server.put("/v1/kv/c", &big).await.status, 201);
}

#[tokio::test]
async fn history_alone_never_fills_the_store() {
    let server = Server::with(Config { quota_bytes: 1 << 20, ..Config::default() }).await;
    let value = "v".repeat(60_000);
    for _ in 0..60 {
        let answer = server.put("/v1/kv/a", &value).await;
        if answer.status == 429 {
            // The node makes room by itself, a moment later.
            server.until("/health", |health| health.status == 200).await;
        }
    }
    server.until("/health", |health| health.status == 200).await;
    assert_eq!(server.put("/v1/kv/a", &value).await.status, 200);
}

#[tokio::test]
async fn a_cluster_said_to_be_corrupt_changes_nothing_more() {
    let server = Server::start().await;
    server.put("/v1/kv/a", "1").await;
    call(&server, "alarm", json!({ "action": "ACTIVATE", "alarm": "CORRUPT" })).await;
    let put = server.post("/v3/kv/put", json!({ "key": "YQ==" })).await;
    assert_eq!((put.status, &put.json()["code"]), (500, &json!(15)));
    server.put("/v1/kv/a", "2").await.is_problem(503, "unavailable");
    assert_eq!(server.get("/v1/kv/a").await.text(), "1");
    assert!(server.get("/health").await.text().contains("ALARM CORRUPT"));
    call(&server, "alarm", json!({ "action": "DEACTIVATE", "alarm": "CORRUPT" })).await;
    assert_eq!(server.put("/v1/kv/a", "2").await.status, 200);
}
