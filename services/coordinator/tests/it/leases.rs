//! Leases, on both faces. The clock moves only when a test moves it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::server::Server;

async fn grant(server: &Server, ttl_seconds: u64) -> String {
    let granted = server.post("/v1/leases", json!({ "ttl_seconds": ttl_seconds })).await;
    assert_eq!(granted.status, 201, "{}", granted.text());
    granted.json()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn keys_go_with_their_lease_in_one_revision() {
    let server = Server::start().await;
    let id = grant(&server, 10).await;
    for key in ["a", "b"] {
        assert_eq!(server.put(&format!("/v1/kv/{key}?lease={id}"), "v").await.status, 201);
    }
    server.put("/v1/kv/b", "detached").await;
    let shown = server.get(&format!("/v1/leases/{id}")).await.json();
    assert_eq!((&shown["keys"], &shown["remaining_seconds"]), (&json!(["a"]), &json!(10)));
    let revoked = server.call("DELETE", &format!("/v1/leases/{id}"), "").await.json();
    assert_eq!(revoked, json!({ "revision": 5, "deleted": 1 }));
    server.get("/v1/kv/a").await.is_problem(404, "key-not-found");
    assert_eq!(server.get("/v1/kv/b").await.text(), "detached");
    server.get(&format!("/v1/leases/{id}")).await.is_problem(404, "lease-not-found");
    server.put(&format!("/v1/kv/a?lease={id}"), "v").await.is_problem(404, "lease-not-found");
}

#[tokio::test]
async fn a_lease_ends_with_its_time_and_not_before() {
    let server = Server::start().await;
    let id = grant(&server, 10).await;
    server.put(&format!("/v1/kv/k?lease={id}"), "v").await;
    server.clock.advance(Duration::from_secs(8));
    let kept = server.put(&format!("/v1/leases/{id}/keepalive"), "").await.json();
    assert_eq!(kept["remaining_seconds"], 10);
    server.clock.advance(Duration::from_millis(9_900));
    assert_eq!(server.get(&format!("/v1/leases/{id}")).await.json()["remaining_seconds"], 0);
    assert_eq!(server.get("/v1/kv/k").await.status, 200);
    server.clock.advance(Duration::from_millis(100));
    server.until("/v1/kv/k", |answer| answer.status == 404).await;
    let gone = server.put(&format!("/v1/leases/{id}/keepalive"), "").await;
    gone.is_problem(404, "lease-not-found");
}

#[tokio::test]
async fn what_is_left_survives_a_restart_and_the_pause_does_not_count() {
    let mut server = Server::start().await;
    let id = grant(&server, 60).await;
    server.clock.advance(Duration::from_secs(20));
    // Any command saves the time.
    server.put(&format!("/v1/kv/k?lease={id}"), "v").await;
    server.clock.advance(Duration::from_secs(3600));
    server.restart().await;
    let lease = server.get(&format!("/v1/leases/{id}")).await.json();
    assert_eq!((&lease["remaining_seconds"], &lease["keys"]), (&json!(40), &json!(["k"])));
    server.clock.advance(Duration::from_secs(40));
    server.until("/v1/kv/k", |answer| answer.status == 404).await;
}

#[tokio::test]
async fn leases_are_listed_by_what_is_left() {
    let server = Server::start().await;
    let (long, short) = (grant(&server, 100).await, grant(&server, 50).await);
    let list = server.get("/v1/leases").await.json();
    assert_eq!((&list["leases"][0]["id"], &list["leases"][1]["id"]), (&json!(short), &json!(long)));
    let chosen = server.post("/v1/leases", json!({ "ttl_seconds": 5, "id": "77" })).await.json();
    assert_eq!(chosen["id"], "77");
    let again = server.post("/v1/leases", json!({ "ttl_seconds": 5, "id": 77 })).await;
    again.is_problem(409, "already-exists");
}

/// The stream of keepalives ends with its request, and a lost lease has no TTL.
#[tokio::test]
async fn etcd_keepalives_answer_each_document() {
    let server = Server::start().await;
    let granted = server.post("/v3/lease/grant", json!({ "TTL": "5", "ID": "9" })).await.json();
    assert_eq!((&granted["ID"], &granted["TTL"]), (&json!("9"), &json!("5")));
    let kept = server.call("POST", "/v3/lease/keepalive", r#"{"ID":"9"} {"ID":10}"#).await;
    let answers: Vec<Value> =
        kept.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers[0]["result"]["TTL"], "5");
    assert_eq!(
        (&answers[1]["result"]["ID"], answers[1]["result"].get("TTL")),
        (&json!("10"), None)
    );
    let malformed = server.call("POST", "/v3/lease/keepalive", "{bad").await;
    assert_eq!((malformed.status, &malformed.json()["code"]), (500, &json!(2)));

    server.clock.advance(Duration::from_secs(6));
    let gone = server.call("POST", "/v3/lease/keepalive", r#"{"ID":"9"}"#).await.json();
    assert_eq!(gone["result"].get("TTL"), None);
    let left = server.post("/v3/lease/timetolive", json!({ "ID": 9 })).await.json();
    assert_eq!(left["TTL"], "-1");
}
