//! Elections, on both faces.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::server::{Answer, Server};
use crate::stream::Lines;

async fn campaign(server: &Server, request: Value) -> Answer {
    server.post("/v1/elections/e/campaign", request).await
}

async fn resign(server: &Server, lease: &Value) -> Answer {
    server.post("/v1/elections/e/resign", json!({ "lease": lease })).await
}

/// Waits in line in the background.
async fn candidate(server: &Server, calls: &mut JoinSet<Value>, path: &str, request: Value) {
    let before = candidates(&server.get("/v1/elections/e").await);
    let call = server.request("POST", path).body(request.to_string());
    calls.spawn(async move { call.send().await.unwrap().json().await.unwrap() });
    server.until("/v1/elections/e", |answer| candidates(answer) == before + 1).await;
}

fn candidates(answer: &Answer) -> usize {
    answer.json()["candidates"].as_array().unwrap().len()
}

#[tokio::test]
async fn whoever_leads_is_seen_with_a_rising_token() {
    let server = Server::start().await;
    let mut events = Lines::open(server.request("GET", "/v1/elections/e/observe")).await;
    let vacant = events.event().await;
    assert_eq!((&vacant.name[..], vacant.data), ("vacant", json!({ "name": "e", "revision": 1 })));
    let one = campaign(&server, json!({ "value": "one", "ttl_seconds": 60 })).await;
    assert_eq!(one.status, 200, "{}", one.text());
    let one = one.json();
    let leader = events.event().await;
    assert_eq!((&leader.name[..], &leader.data), ("leader", &one));
    assert_eq!((&one["fencing_token"], &one["value"]), (&json!(2), &json!("one")));
    let refused = campaign(&server, json!({ "value": "two" })).await;
    refused.is_problem(409, "held");
    assert_eq!(refused.json()["holder"], "one");

    let mut calls = JoinSet::new();
    let two = json!({ "value": "two", "wait_seconds": 60 });
    candidate(&server, &mut calls, "/v1/elections/e/campaign", two).await;
    let shown = server.get("/v1/elections/e").await.json();
    assert_eq!((&shown["leader"], &shown["candidates"][0]["value"]), (&one, &json!("two")));
    // The same lease campaigns again with another value: it still leads, and says so.
    let again = json!({ "value": "one!", "lease": one["lease"] });
    assert_eq!(campaign(&server, again).await.json()["fencing_token"], 2);
    assert_eq!(events.event().await.data["value"], "one!");
    assert_eq!(resign(&server, &one["lease"]).await.status, 200);
    let two = calls.join_next().await.unwrap().unwrap();
    let leader = events.event().await.data;
    assert_eq!(
        (&leader["value"], &leader["fencing_token"]),
        (&json!("two"), &two["fencing_token"])
    );
    assert!(one["fencing_token"].as_u64() < two["fencing_token"].as_u64());
    assert_eq!(resign(&server, &two["lease"]).await.status, 200);
    assert_eq!(events.event().await.name, "vacant");
    resign(&server, &two["lease"]).await.is_problem(404, "lock-not-found");
    assert_eq!(server.get("/v1/elections/e").await.json()["leader"], Value::Null);
}

#[tokio::test]
async fn etcds_clients_take_part() {
    let server = Server::start().await;
    let mut messages =
        Lines::open(server.request("POST", "/v3/election/observe").body(r#"{"name":"ZQ=="}"#))
            .await;
    let none = server.post("/v3/election/leader", json!({ "name": "ZQ==" })).await;
    assert_eq!((none.status, &none.json()["message"]), (500, &json!("election: no leader")));
    server.post("/v3/lease/grant", json!({ "TTL": 60, "ID": 100 })).await;
    let ask = json!({ "name": "ZQ==", "lease": "100", "value": "djE=" });
    let won = server.post("/v3/election/campaign", ask.clone()).await.json();
    let leader = json!({ "name": "ZQ==", "key": "ZS82NA==", "rev": "2", "lease": "100" });
    assert_eq!((&won["leader"], &won["header"]["revision"]), (&leader, &json!("2")));
    let seen = messages.message().await;
    assert_eq!(
        (&seen["kv"]["value"], &seen["kv"]["create_revision"]),
        (&json!("djE="), &json!("2"))
    );

    // The same candidate again proclaims; so does proclaim. The header is of before.
    let again = json!({ "name": "ZQ==", "lease": "100", "value": "djI=" });
    let again = server.post("/v3/election/campaign", again).await.json();
    assert_eq!((&again["leader"], &again["header"]["revision"]), (&leader, &json!("2")));
    assert_eq!(messages.message().await["kv"]["value"], json!("djI="));
    let proclaim = json!({ "leader": leader, "value": "djM=" });
    let said = server.post("/v3/election/proclaim", proclaim).await.json();
    assert_eq!(said["header"]["revision"], json!("4"));
    assert_eq!(messages.message().await["kv"]["value"], json!("djM="));
    let mut stale = leader.clone();
    stale["rev"] = json!("1");
    let refused = server.post("/v3/election/proclaim", json!({ "leader": stale })).await;
    assert_eq!((refused.status, &refused.json()["code"]), (500, &json!(2)));
    assert_eq!(refused.json()["message"], "election: not leader");
    assert_eq!(server.post("/v3/election/resign", json!({ "leader": stale })).await.status, 200);

    // A native candidate waits behind it, and is seen when it leads.
    let mut calls = JoinSet::new();
    let native = json!({ "value": "n", "wait_seconds": 60 });
    candidate(&server, &mut calls, "/v1/elections/e/campaign", native).await;
    let waits = json!({ "name": "ZQ==", "value": "dzI=" });
    candidate(&server, &mut calls, "/v3/election/campaign", waits).await;
    server.post("/v3/election/resign", json!({ "leader": leader })).await;
    let native = calls.join_next().await.unwrap().unwrap();
    assert_eq!(native["value"], "n");
    assert_eq!(messages.message().await["kv"]["value"], json!("bg=="));
    resign(&server, &native["lease"]).await;
    let last = calls.join_next().await.unwrap().unwrap();
    assert_eq!(messages.message().await["kv"]["value"], json!("dzI="));
    let shown = server.get("/v1/elections/e").await.json();
    assert_eq!(
        shown["leader"]["fencing_token"].to_string(),
        last["leader"]["rev"].as_str().unwrap()
    );
    for path in ["/v3/election/proclaim", "/v3/election/resign"] {
        let missing = server.post(path, json!({})).await;
        assert_eq!((missing.status, &missing.json()["code"]), (500, &json!(2)));
        assert_eq!(missing.json()["message"], "\"leader\" field must be provided");
    }
}

#[tokio::test]
async fn observers_see_every_leader_in_order_also_when_many_change_at_once() {
    let server = Server::start().await;
    let mut events = Lines::open(server.request("GET", "/v1/elections/e/observe")).await;
    assert_eq!(events.event().await.name, "vacant");
    let mut tokens = Vec::new();
    for at in 0..20 {
        let won = campaign(&server, json!({ "value": format!("c-{at}") })).await.json();
        tokens.push(won["fencing_token"].clone());
        resign(&server, &won["lease"]).await;
    }
    for token in &tokens {
        let leader = events.event().await;
        assert_eq!((&leader.name[..], &leader.data["fencing_token"]), ("leader", token));
        assert_eq!(events.event().await.name, "vacant");
    }
}

#[tokio::test]
async fn what_cannot_be_a_candidacy_is_refused() {
    let server = Server::start().await;
    for request in [
        json!({ "wait_seconds": 61 }),
        json!({ "value": { "base64": "!" } }),
        json!({ "ttl_seconds": 5, "lease": "7" }),
    ] {
        campaign(&server, request).await.is_problem(400, "invalid-request");
    }
    campaign(&server, json!({ "value": 7 })).await.is_problem(400, "invalid-json");
    campaign(&server, json!({ "lease": "7" })).await.is_problem(404, "lease-not-found");
    server.post("/v1/elections/e/resign", json!({})).await.is_problem(400, "invalid-json");
    server.post("/v1/elections/e", json!({})).await.is_problem(405, "method-not-allowed");
}
