//! What was answered is there after the process ended without a word.

use serde_json::json;

use crate::server::Server;

#[tokio::test]
async fn acknowledged_writes_survive_and_revisions_go_on() {
    let mut server = Server::start().await;
    for at in 0..20 {
        server.put(&format!("/v1/kv/k{at}"), "v").await;
    }
    server.call("DELETE", "/v1/kv/k0", "").await;
    server.post("/v1/compact", json!({ "revision": 5 })).await;
    let term = server.get("/v1/cluster").await.json()["term"].as_u64().unwrap();
    let before = server.get("/v1/kv?prefix=&limit=100").await.json();
    let id = server.get("/v1/cluster").await.json()["cluster_id"].clone();
    server.restart().await;
    assert_eq!(server.get("/v1/kv?prefix=&limit=100").await.json(), before);
    server.get("/v1/kv/k1?revision=4").await.is_problem(410, "compacted");
    assert_eq!(server.get("/v1/kv/k0?revision=21").await.text(), "v");
    let cluster = server.get("/v1/cluster").await.json();
    assert_eq!((&cluster["cluster_id"], &cluster["revision"]), (&id, &json!(22)));
    assert!(term < cluster["term"].as_u64().unwrap(), "clients take a lower term for a stale node");
    assert_eq!(server.put("/v1/kv/next", "v").await.json()["revision"], 23);
}

#[tokio::test]
async fn a_second_process_on_the_same_directory_is_refused() {
    let server = Server::start().await;
    let mut config = coordinator::Config::default();
    config.base.data_dir = server.dir().to_owned();
    let clock = chassis::clock::Clock::system();
    let second = chassis::testing::try_start(config, clock, coordinator::start).await;
    let error = second.err().expect("it must not start").to_string();
    assert!(error.contains(server.dir().to_str().unwrap()), "{error}");
}
