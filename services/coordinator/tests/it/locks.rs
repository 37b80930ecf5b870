//! Locks, on both faces: one line of waiters, whoever they speak to.

use std::time::Duration;

use coordinator::Config;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::server::{Answer, Server};

async fn lock(server: &Server, name: &str, request: Value) -> Answer {
    server.post(&format!("/v1/locks/{name}"), request).await
}

async fn unlock(server: &Server, name: &str, lease: &Value) -> Answer {
    let lease = lease.as_str().unwrap();
    server.call("DELETE", &format!("/v1/locks/{name}?lease={lease}"), "").await
}

async fn state(server: &Server, name: &str) -> Value {
    server.get(&format!("/v1/locks/{name}")).await.json()
}

async fn until_waiting(server: &Server, name: &str, waiters: usize) {
    let path = format!("/v1/locks/{name}");
    server.until(&path, |a| a.json()["waiters"].as_array().unwrap().len() == waiters).await;
}

async fn leases(server: &Server) -> usize {
    server.get("/v1/leases").await.json()["leases"].as_array().unwrap().len()
}

/// Calls that are in progress, with what each was called.
#[derive(Default)]
struct Calls(JoinSet<(&'static str, u16, Value)>);

impl Calls {
    fn start(&mut self, name: &'static str, request: reqwest::RequestBuilder) {
        self.0.spawn(async move {
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            (name, status, response.json().await.unwrap())
        });
    }

    fn post(&mut self, server: &Server, name: &'static str, path: &str, body: &Value) {
        self.start(name, server.request("POST", path).body(body.to_string()));
    }

    async fn next(&mut self) -> (&'static str, u16, Value) {
        let next = tokio::time::timeout(Duration::from_secs(10), self.0.join_next()).await;
        next.expect("a call ends in time").unwrap().unwrap()
    }
}

#[tokio::test]
async fn a_lock_is_a_leased_key_with_a_fencing_token() {
    let server = Server::start().await;
    let held = lock(&server, "jobs", json!({ "ttl_seconds": 30, "owner": "w-1" })).await;
    assert_eq!(held.status, 200, "{}", held.text());
    let held = held.json();
    assert_eq!((&held["name"], &held["owner"]), (&json!("jobs"), &json!("w-1")));
    assert_eq!(held["fencing_token"], 2);
    let id: i64 = held["lease"].as_str().unwrap().parse().unwrap();
    let key = server.get(&format!("/v1/kv/jobs/{id:x}?meta=true")).await.json();
    assert_eq!((&key["create_revision"], &key["value"]), (&json!(2), &json!("w-1")));
    let shown = state(&server, "jobs").await;
    let holder = json!({ "owner": "w-1", "lease": held["lease"], "fencing_token": 2,
                         "remaining_seconds": 30 });
    assert_eq!((&shown["holder"], &shown["waiters"]), (&holder, &json!([])));
    assert_eq!(unlock(&server, "jobs", &held["lease"]).await.json(), json!({ "revision": 3 }));
    assert_eq!(state(&server, "jobs").await["holder"], Value::Null);
    assert_eq!(leases(&server).await, 0, "the lease was made for the lock");
    unlock(&server, "jobs", &held["lease"]).await.is_problem(404, "lock-not-found");
}

#[tokio::test]
async fn a_lock_that_is_held_is_not_waited_for_unless_asked() {
    let server = Server::start().await;
    let held = lock(&server, "a", json!({ "owner": "first" })).await.json();
    let refused = lock(&server, "a", json!({})).await;
    refused.is_problem(409, "held");
    let problem = refused.json();
    assert_eq!((&problem["holder"], &problem["fencing_token"]), (&json!("first"), &json!(2)));
    assert_eq!((leases(&server).await, &state(&server, "a").await["waiters"]), (1, &json!([])));
    assert_eq!(state(&server, "a").await["holder"]["lease"], held["lease"]);
    // Another name is another lock, also one that begins alike.
    assert_eq!(lock(&server, "a%2Fb", json!({})).await.status, 200);
    let nobody = server.call("POST", "/v1/locks/c", "").await.json();
    assert_eq!(nobody["owner"], nobody["lease"], "without a name it is known by its lease");
}

#[tokio::test]
async fn waiters_have_their_turn_in_order_and_tokens_only_rise() {
    let server = Server::start().await;
    let mut held = lock(&server, "a", json!({})).await.json();
    let mut calls = Calls::default();
    let names = ["w-1", "w-2", "w-3", "w-4", "w-5"];
    for (at, name) in names.iter().enumerate() {
        let request = json!({ "wait_seconds": 60, "owner": name });
        calls.post(&server, name, "/v1/locks/a", &request);
        until_waiting(&server, "a", at + 1).await;
    }
    let shown = state(&server, "a").await;
    let owners: Vec<_> = shown["waiters"].as_array().unwrap().iter().map(|w| &w["owner"]).collect();
    assert_eq!(owners, names);
    let mut token = held["fencing_token"].as_u64().unwrap();
    for expected in names {
        unlock(&server, "a", &held["lease"]).await;
        let (name, status, answer) = calls.next().await;
        assert_eq!((name, status), (expected, 200), "{answer}");
        let next = answer["fencing_token"].as_u64().unwrap();
        assert!(token < next, "{token} {next}");
        (token, held) = (next, answer);
    }
}

#[tokio::test]
async fn a_lock_goes_on_when_its_owner_dies() {
    let server = Server::start().await;
    let dead = lock(&server, "a", json!({ "ttl_seconds": 10 })).await.json();
    let mut calls = Calls::default();
    calls.post(&server, "heir", "/v1/locks/a", &json!({ "wait_seconds": 60, "ttl_seconds": 600 }));
    until_waiting(&server, "a", 1).await;
    server.clock.advance(Duration::from_secs(10));
    let (_, status, heir) = calls.next().await;
    assert_eq!(status, 200);
    assert!(dead["fencing_token"].as_u64() < heir["fencing_token"].as_u64());
    unlock(&server, "a", &dead["lease"]).await.is_problem(404, "lock-not-found");
    assert_eq!(state(&server, "a").await["holder"]["remaining_seconds"], 600, "counted from now");
}

#[tokio::test]
async fn a_waiter_that_hangs_up_or_gives_up_leaves_no_place_behind() {
    let server = Server::start().await;
    let held = lock(&server, "a", json!({})).await.json();
    for (path, body) in [
        ("/v1/locks/a", json!({ "wait_seconds": 60 })),
        ("/v3/lock/lock", json!({ "name": "YQ==" })),
        ("/v3/election/campaign", json!({ "name": "YQ==", "value": "eA==" })),
    ] {
        let mut calls = Calls::default();
        calls.post(&server, "impatient", path, &body);
        until_waiting(&server, "a", 1).await;
        drop(calls);
        until_waiting(&server, "a", 0).await;
    }
    lock(&server, "a", json!({ "wait_seconds": 1 })).await.is_problem(409, "held");
    let late = server.request("POST", "/v1/locks/a").header("x-request-timeout", "300ms");
    let late = server.send(late.body(json!({ "wait_seconds": 60 }).to_string())).await;
    late.is_problem(409, "held");
    // It was answered in time: its place may go a moment later.
    until_waiting(&server, "a", 0).await;
    assert_eq!((leases(&server).await, &state(&server, "a").await["waiters"]), (1, &json!([])));
    unlock(&server, "a", &held["lease"]).await;
    assert_eq!(lock(&server, "a", json!({})).await.status, 200);
}

/// A wait of an etcd lasts until its caller leaves, not until requests are given up.
#[tokio::test]
async fn whoever_waits_as_with_an_etcd_waits_longer_than_a_request_may_take() {
    let mut config = Config::default();
    config.base.limits.request_timeout_seconds = 1;
    let server = Server::with(config).await;
    let mut held = Vec::new();
    let mut calls = Calls::default();
    for (name, path) in [
        ("l", "/v3/lock/lock"),
        ("m", "/v3beta/lock/lock"),
        ("e", "/v3/election/campaign"),
        ("f", "/v3beta/election/campaign"),
    ] {
        held.push((name, lock(&server, name, json!({})).await.json()["lease"].take()));
        let lease = server.post("/v3/lease/grant", json!({ "TTL": 600 })).await.json()["ID"].take();
        let ask = json!({ "name": base64(name), "lease": lease });
        calls.post(&server, name, path, &ask);
        until_waiting(&server, name, 1).await;
    }
    // Begun later than those, and given up.
    let unsaid = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let late = server.request("POST", "/v3/watch").body(reqwest::Body::wrap_stream(unsaid));
    assert_eq!(server.send(late).await.status, 504);
    for (name, lease) in held {
        assert_eq!(state(&server, name).await["waiters"].as_array().unwrap().len(), 1);
        unlock(&server, name, &lease).await;
        let (turn, status, answer) = calls.next().await;
        assert_eq!((turn, status), (name, 200), "{answer}");
    }
    // Whoever has a deadline is told in time.
    let lease = server.post("/v3/lease/grant", json!({ "TTL": 600 })).await.json()["ID"].take();
    let late = server.request("POST", "/v3/lock/lock").header("x-request-timeout", "300ms");
    let ask = json!({ "name": base64("l"), "lease": lease });
    let late = server.send(late.body(ask.to_string())).await;
    assert_eq!((late.status, &late.json()["code"]), (504, &json!(4)), "{}", late.text());
    until_waiting(&server, "l", 0).await;
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[tokio::test]
async fn only_so_many_wait_and_who_does_not_wait_needs_no_room() {
    let server = Server::with(Config { max_waiters: 2, ..Config::default() }).await;
    let held = lock(&server, "a", json!({})).await.json();
    let mut calls = Calls::default();
    calls.post(&server, "etcd", "/v3/lock/lock", &json!({ "name": "YQ==" }));
    until_waiting(&server, "a", 1).await;
    calls.post(&server, "native", "/v1/locks/a", &json!({ "wait_seconds": 60 }));
    until_waiting(&server, "a", 2).await;
    let refused = server.post("/v3/lock/lock", json!({ "name": "YQ==" })).await;
    assert_eq!((refused.status, &refused.json()["code"]), (429, &json!(8)));
    assert_eq!(refused.json()["message"], "etcdserver: too many requests");
    lock(&server, "a", json!({ "wait_seconds": 60 })).await.is_problem(503, "overloaded");
    until_waiting(&server, "a", 2).await;
    lock(&server, "a", json!({})).await.is_problem(409, "held");
    assert_eq!(lock(&server, "b", json!({})).await.status, 200);
    unlock(&server, "a", &held["lease"]).await;
    assert_eq!(calls.next().await.0, "etcd");
    // There is room again.
    calls.post(&server, "second", "/v1/locks/a", &json!({ "wait_seconds": 60 }));
    until_waiting(&server, "a", 2).await;
}

#[tokio::test]
async fn both_faces_see_one_line() {
    let server = Server::start().await;
    let theirs = server.post("/v3/lock/lock", json!({ "name": "bA==" })).await.json();
    lock(&server, "l", json!({})).await.is_problem(409, "held");
    let mut calls = Calls::default();
    calls.post(&server, "native", "/v1/locks/l", &json!({ "wait_seconds": 60 }));
    until_waiting(&server, "l", 1).await;
    calls.post(&server, "etcd", "/v3/lock/lock", &json!({ "name": "bA==" }));
    until_waiting(&server, "l", 2).await;
    server.post("/v3/lock/unlock", json!({ "key": theirs["key"] })).await;
    let (name, status, ours) = calls.next().await;
    assert_eq!((name, status), ("native", 200));
    unlock(&server, "l", &ours["lease"]).await;
    let (name, status, theirs) = calls.next().await;
    assert_eq!((name, status), ("etcd", 200));
    let released = server.post("/v3/lock/unlock", json!({ "key": theirs["key"] })).await.json();
    assert_eq!(
        theirs["header"]["revision"],
        json!("8"),
        "four places, one that was left, two unlocks"
    );
    assert_eq!(released["header"]["revision"], json!("9"));
    assert_eq!(state(&server, "l").await["holder"], Value::Null);
}

#[tokio::test]
async fn a_lease_of_the_callers_own_gets_the_same_lock_again_and_outlives_it() {
    let server = Server::start().await;
    server.post("/v1/leases", json!({ "ttl_seconds": 60, "id": "9" })).await;
    let first = lock(&server, "a", json!({ "lease": "9" })).await.json();
    assert_eq!(lock(&server, "a", json!({ "lease": "9" })).await.json(), first);
    let etcd = server.post("/v3/lock/lock", json!({ "name": "YQ==", "lease": 9 })).await.json();
    assert_eq!(etcd["key"], json!("YS85"), "a/9");
    unlock(&server, "a", &json!("9")).await;
    assert_eq!(server.get("/v1/leases/9").await.status, 200);
    lock(&server, "a", json!({ "lease": "8" })).await.is_problem(404, "lease-not-found");
    let unknown = server.post("/v3/lock/lock", json!({ "name": "YQ==", "lease": 8 })).await;
    assert_eq!((unknown.status, &unknown.json()["code"]), (500, &json!(2)));
    assert_eq!(unknown.json()["message"], "etcdserver: requested lease not found");
}

#[tokio::test]
async fn a_place_that_ends_while_its_owner_waits_is_said_to_have_ended() {
    let server = Server::start().await;
    lock(&server, "a", json!({})).await;
    for id in ["8", "9"] {
        server.post("/v1/leases", json!({ "ttl_seconds": 60, "id": id })).await;
    }
    let mut calls = Calls::default();
    calls.post(&server, "native", "/v1/locks/a", &json!({ "wait_seconds": 60, "lease": "8" }));
    until_waiting(&server, "a", 1).await;
    server.call("DELETE", "/v1/leases/8", "").await;
    let (_, status, problem) = calls.next().await;
    assert_eq!((status, &problem["code"]), (404, &json!("lease-not-found")));
    calls.post(&server, "etcd", "/v3/lock/lock", &json!({ "name": "YQ==", "lease": "9" }));
    until_waiting(&server, "a", 1).await;
    server.call("DELETE", "/v1/leases/9", "").await;
    let (_, status, error) = calls.next().await;
    assert_eq!((status, &error["code"]), (500, &json!(2)));
    assert_eq!(error["message"], "mutex: session is expired");
}

#[tokio::test]
async fn the_lease_of_a_waiter_is_renewed_as_long_as_it_waits() {
    let server = Server::start().await;
    lock(&server, "a", json!({ "ttl_seconds": 600 })).await;
    let mut calls = Calls::default();
    calls.post(&server, "waiter", "/v1/locks/a", &json!({ "wait_seconds": 60, "ttl_seconds": 3 }));
    until_waiting(&server, "a", 1).await;
    server.clock.advance(Duration::from_secs(2));
    let renewed = |answer: &Answer| answer.json()["waiters"][0]["remaining_seconds"] == 3;
    server.until("/v1/locks/a", renewed).await;
}

#[tokio::test]
async fn a_drain_ends_every_wait() {
    let mut config = Config::default();
    config.base.drain.delay_ms = 0;
    let mut server = Server::with(config).await;
    lock(&server, "a", json!({})).await;
    let mut calls = Calls::default();
    calls.post(&server, "native", "/v1/locks/a", &json!({ "wait_seconds": 60 }));
    calls.post(&server, "etcd", "/v3/lock/lock", &json!({ "name": "YQ==" }));
    until_waiting(&server, "a", 2).await;
    server.drain().await;
    for _ in 0..2 {
        let (name, status, answer) = calls.next().await;
        assert_eq!(status, 503, "{answer}");
        match name {
            "native" => assert_eq!(answer["code"], "unavailable"),
            _ => assert_eq!(answer["code"], 14, "{answer}"),
        }
    }
    server.restart().await;
    assert_eq!(state(&server, "a").await["waiters"], json!([]), "they had left their places");
}

#[tokio::test]
async fn a_lock_survives_a_restart_with_its_token() {
    let mut server = Server::start().await;
    let held = lock(&server, "a", json!({ "ttl_seconds": 60 })).await.json();
    server.restart().await;
    let holder = state(&server, "a").await["holder"].take();
    assert_eq!(holder["fencing_token"], held["fencing_token"]);
    unlock(&server, "a", &held["lease"]).await;
    assert_eq!(leases(&server).await, 0);
}

fn keyed(server: &Server, key: &str, request: &Value) -> reqwest::RequestBuilder {
    let call = server.request("POST", "/v1/locks/a").header("idempotency-key", key);
    call.body(request.to_string())
}

#[tokio::test]
async fn a_repeated_request_gets_the_same_lock() {
    let mut server = Server::start().await;
    let ask = json!({ "ttl_seconds": 60 });
    let first = server.send(keyed(&server, "k", &ask)).await.json();
    server.restart().await;
    assert_eq!(server.send(keyed(&server, "k", &ask)).await.json(), first);
    let other = server.send(keyed(&server, "k", &json!({ "ttl_seconds": 61 }))).await;
    other.is_problem(422, "idempotency-mismatch");
    // What it got has ended: it is told so, and not given a lock that it did not ask for again.
    unlock(&server, "a", &first["lease"]).await;
    server.send(keyed(&server, "k", &ask)).await.is_problem(404, "lease-not-found");
    assert_eq!(state(&server, "a").await["holder"], Value::Null);
}

#[tokio::test]
async fn repeated_requests_wait_in_one_place_and_one_that_hangs_up_may_come_again() {
    let server = Server::start().await;
    let held = lock(&server, "a", json!({})).await.json();
    let ask = json!({ "wait_seconds": 60 });
    let mut calls = Calls::default();
    for _ in 0..4 {
        calls.start("same", keyed(&server, "k", &ask));
    }
    until_waiting(&server, "a", 1).await;
    let mut gone = Calls::default();
    gone.start("gone", keyed(&server, "k", &ask));
    lock(&server, "a", json!({})).await.is_problem(409, "held");
    drop(gone);
    unlock(&server, "a", &held["lease"]).await;
    let (_, status, first) = calls.next().await;
    assert_eq!(status, 200, "{first}");
    for _ in 0..3 {
        assert_eq!(calls.next().await, ("same", 200, first.clone()));
    }
    assert_eq!(leases(&server).await, 1);
    // Not had in time: nothing is remembered, and the same request may try again.
    let ask = json!({ "wait_seconds": 0 });
    server.send(keyed(&server, "l", &ask)).await.is_problem(409, "held");
    unlock(&server, "a", &first["lease"]).await;
    assert_eq!(server.send(keyed(&server, "l", &ask)).await.status, 200);
}

#[tokio::test]
async fn what_cannot_be_a_lock_is_refused() {
    let server = Server::start().await;
    let long = "n".repeat(513);
    for (name, request) in [
        (&long[..], json!({})),
        ("a", json!({ "ttl_seconds": 0 })),
        ("a", json!({ "ttl_seconds": 9_000_000_001_u64 })),
        ("a", json!({ "ttl_seconds": 5, "lease": "1" })),
        ("a", json!({ "lease": "0" })),
        ("a", json!({ "wait_seconds": 61 })),
        ("a", json!({ "owner": "o".repeat(1025) })),
    ] {
        lock(&server, name, request).await.is_problem(400, "invalid-request");
    }
    lock(&server, "a", json!({ "wait": 5 })).await.is_problem(400, "invalid-json");
    for query in ["", "?lease=", "?lease=0", "?lease=x", "?leese=1"] {
        let answer = server.call("DELETE", &format!("/v1/locks/a{query}"), "").await;
        answer.is_problem(400, "invalid-request");
    }
    let empty = server.post("/v3/lock/unlock", json!({})).await;
    assert_eq!((empty.status, &empty.json()["code"]), (500, &json!(2)));
    assert_eq!(empty.json()["message"], "etcdserver: key is not provided");
}
