//! `/v1/services`.

use std::time::Duration;

use serde_json::json;

use crate::server::Server;
use crate::stream::Lines;

#[tokio::test]
async fn an_instance_lives_as_long_as_its_heartbeats() {
    let server = Server::start().await;
    let path = "/v1/services/web/w-1";
    let request = json!({ "address": "10.0.0.1", "port": 80, "tags": ["a"], "meta": { "zone": "x" },
                          "check": { "ttl_seconds": 10 } });
    let registered = server.put(path, &request.to_string()).await.json();
    assert_eq!(registered["ttl_seconds"], 10);
    server.clock.advance(Duration::from_secs(9));
    assert_eq!(server.put(&format!("{path}/heartbeat"), "").await.status, 200);
    server.clock.advance(Duration::from_secs(9));
    let shown = server.get("/v1/services/web?healthy=true").await.json();
    assert_eq!(shown["instances"][0]["meta"]["zone"], "x");
    assert_eq!(shown["instances"][0]["status"], "passing");
    server.clock.advance(Duration::from_secs(2));
    server.until("/v1/services/web", |answer| answer.json()["instances"] == json!([])).await;
    let late = server.put(&format!("{path}/heartbeat"), "").await;
    late.is_problem(404, "service-not-found");
}

#[tokio::test]
async fn registering_again_replaces_and_keeps_one_lease() {
    let server = Server::start().await;
    for port in [80, 81, 82] {
        let request = json!({ "address": "h", "port": port, "check": { "ttl_seconds": 30 } });
        server.put("/v1/services/web/w", &request.to_string()).await;
    }
    assert_eq!(server.get("/v1/leases").await.json()["leases"].as_array().unwrap().len(), 1);
    assert_eq!(server.get("/v1/services/web/w").await.json()["port"], 82);
    let request = json!({ "address": "h", "port": 83 });
    server.put("/v1/services/web/w", &request.to_string()).await;
    assert_eq!(server.get("/v1/leases").await.json()["leases"], json!([]));
    assert_eq!(server.get("/v1/services/web/w").await.json()["port"], 83);
    server.put("/v1/services/web/w/heartbeat", "").await.is_problem(409, "conflict");
    assert_eq!(server.call("DELETE", "/v1/services/web/w", "").await.status, 200);
    server.call("DELETE", "/v1/services/web/w", "").await.is_problem(404, "service-not-found");
}

#[tokio::test]
async fn what_registered_through_etcd_shows_up_and_a_watch_begins_with_it() {
    let server = Server::start().await;
    // quartet/services/broker/b-1 = {"address":"127.0.0.1","port":7070}
    let put = json!({ "key": "cXVhcnRldC9zZXJ2aWNlcy9icm9rZXIvYi0x",
                      "value": "eyJhZGRyZXNzIjoiMTI3LjAuMC4xIiwicG9ydCI6NzA3MH0=" });
    assert_eq!(server.post("/v3/kv/put", put).await.status, 200);
    let list = server.get("/v1/services").await.json();
    assert_eq!(list["services"], json!([{ "service": "broker", "instances": 1, "healthy": 1 }]));
    let mut watch = Lines::open(server.request("GET", "/v1/services/broker/watch")).await;
    let put = watch.change().await;
    assert_eq!((put.id, &put.data["port"]), (Some(2), &json!(7070)));
    server.call("DELETE", "/v1/services/broker/b-1", "").await;
    let gone = watch.change().await;
    assert_eq!((gone.name.as_str(), &gone.data["instance"]), ("delete", &json!("b-1")));
}

#[tokio::test]
async fn an_http_check_tells_the_living_from_the_dead() {
    let server = Server::start().await;
    let own = server.url("");
    let port: u16 = own.rsplit(':').next().unwrap().parse().unwrap();
    let register = |port: u16, path: &str| {
        let check = json!({ "http": path, "interval_seconds": 1 });
        json!({ "address": "127.0.0.1", "port": port, "check": check }).to_string()
    };
    server.put("/v1/services/web/up", &register(port, "/livez")).await;
    server.put("/v1/services/web/down", &register(port, "/nothing-here")).await;
    let status = |answer: &crate::server::Answer| answer.json()["status"].clone();
    server.until("/v1/services/web/up", |answer| status(answer) == "passing").await;
    server.until("/v1/services/web/down", |answer| status(answer) == "failing").await;
    let healthy = server.get("/v1/services/web?healthy").await.json();
    assert_eq!(healthy["instances"].as_array().unwrap().len(), 1);
}

/// Keys put by hand are instances too, whatever they say.
#[tokio::test]
async fn odd_values_do_not_end_the_checks() {
    let server = Server::start().await;
    let port: u16 = server.url("").rsplit(':').next().unwrap().parse().unwrap();
    let endless = json!({ "http": "/livez", "interval_seconds": u64::MAX });
    let bad = json!({ "http": "/nothing-here", "interval_seconds": 1 });
    let values = [
        json!({ "address": "127.0.0.1", "port": port, "check": endless }),
        json!(["127.0.0.1", port, [], {}, bad, "passing"]),
    ];
    for (at, value) in values.iter().enumerate() {
        let key = format!("/v1/kv/quartet/services/odd/{at}");
        assert_eq!(server.put(&key, &value.to_string()).await.status, 201);
    }
    let request = json!({ "address": "127.0.0.1", "port": port, "check": bad }).to_string();
    server.put("/v1/services/web/down", &request).await;
    let status = |answer: &crate::server::Answer| answer.json()["status"].clone();
    server.until("/v1/services/web/down", |answer| status(answer) == "failing").await;
    // Another round of all of them, and still one is told from the other.
    let request = request.replace("/nothing-here", "/livez");
    server.put("/v1/services/web/down", &request).await;
    server.until("/v1/services/web/down", |answer| status(answer) == "passing").await;
}
