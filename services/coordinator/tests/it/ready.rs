//! `/readyz` of a coordinator: what it asks, and what makes it fail.

use std::time::Duration;

use serde_json::{Value, json};

use crate::server::Server;

#[tokio::test]
async fn every_check_has_a_name_and_passes() {
    let server = Server::start().await;
    let answer = server.get("/readyz?verbose").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    for name in ["data", "disk", "leader", "log", "started", "upkeep"] {
        assert!(answer.text().contains(&format!("[+]{name} ok")), "{}", answer.text());
        assert_eq!(server.get(&format!("/readyz/{name}")).await.status, 200, "{name}");
    }
    server.get("/readyz/nothing").await.is_problem(404, "not-found");
}

#[tokio::test]
async fn members_that_differ_are_not_ready_but_live() {
    let server = Server::start().await;
    let alarm = |action: &str| json!({ "action": action, "memberID": 1, "alarm": "CORRUPT" });
    server.post("/v3/maintenance/alarm", alarm("ACTIVATE")).await;
    let failing = server.until("/readyz?verbose", |answer| answer.status == 503).await;
    assert!(failing.text().contains("[-]data failed: the alarm CORRUPT"), "{}", failing.text());
    assert_eq!(server.get("/livez").await.status, 200);
    server.post("/v3/maintenance/alarm", alarm("DEACTIVATE")).await;
    server.until("/readyz", |answer| answer.status == 200).await;
}

/// What the operator looks at, under the names that dashboards know.
#[tokio::test]
async fn metrics_count_what_happens() {
    let server = Server::start().await;
    server.put("/v1/kv/a", "1").await;
    server.post("/v1/locks/l", json!({})).await;
    let keyed = server.request("PUT", "/v1/kv/a").header("idempotency-key", "k").body("2");
    server.send(keyed).await;
    let value = |text: &str, name: &str| -> Value {
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
        serde_json::from_str(line.split(' ').nth(1).unwrap()).unwrap()
    };
    for (name, expected) in [
        ("etcd_mvcc_put_total", 2.0),
        ("etcd_debugging_mvcc_keys_total", 2.0),
        ("coordinator_leases", 1.0),
        ("coordinator_requests_remembered", 1.0),
        ("coordinator_places_waiting", 0.0),
    ] {
        let mut seen = Value::Null;
        // Figures of the store are those of the last published state.
        for _ in 0..100 {
            let metrics = server.get("/metrics").await;
            seen = value(metrics.text(), name);
            if seen.as_f64() == Some(expected) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert_eq!(seen.as_f64(), Some(expected), "{name}");
    }
}
