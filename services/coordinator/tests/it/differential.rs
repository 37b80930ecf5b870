//! Random calls answered by us and by a real etcd, side by side.
//!
//! Needs the binary `etcd` (Debian: `etcd-server`) and says so when it is skipped.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use sim::Rng;

use crate::process::free_port;
use crate::server::Server;

struct Etcd {
    child: Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// `None` if there is no etcd here.
async fn start_etcd() -> Option<Etcd> {
    let dir = tempfile::tempdir().unwrap();
    let (url, peer) =
        (format!("http://127.0.0.1:{}", free_port()), format!("http://127.0.0.1:{}", free_port()));
    let child = Command::new("etcd")
        .args(["--name", "m1", "--data-dir"])
        .arg(dir.path())
        .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("m1={peer}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let etcd = Etcd { child, url, _dir: dir };
    for _ in 0..200 {
        let health = reqwest::get(format!("{}/health", etcd.url)).await;
        if health.is_ok_and(|health| health.status() == 200) {
            return Some(etcd);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("etcd did not become healthy");
}

/// One random call: path and body.
fn call(rng: &mut Rng, newest: u64) -> (&'static str, Value) {
    match rng.range(0..10) {
        0..=2 => ("/v3/kv/put", put(rng)),
        3..=5 => ("/v3/kv/range", range(rng, newest)),
        6 => ("/v3/kv/deleterange", delete(rng)),
        7 | 8 => ("/v3/kv/txn", txn(rng, newest, 2)),
        // Etcd takes a compaction of revision 0 once; it means nothing.
        _ => ("/v3/kv/compaction", json!({ "revision": rng.range(1..newest + 2) })),
    }
}

fn key(rng: &mut Rng) -> Value {
    json!(["YQ==", "YWE=", "Yg==", "YmI=", "Yw=="][rng.index(5)])
}

fn end(rng: &mut Rng) -> Value {
    json!(["", "", "AA==", "Yg==", "Yw=="][rng.index(5)])
}

fn flag(rng: &mut Rng) -> bool {
    rng.chance(1, 3)
}

fn put(rng: &mut Rng) -> Value {
    let ignore = rng.chance(1, 8);
    let value = if ignore { json!("") } else { json!(["", "MQ==", "Mg==", "Mw=="][rng.index(4)]) };
    json!({ "key": key(rng), "value": value, "prev_kv": flag(rng), "ignore_value": ignore })
}

fn range(rng: &mut Rng, newest: u64) -> Value {
    let revision = if flag(rng) { rng.range(0..newest + 2) } else { 0 };
    json!({
        "key": key(rng), "range_end": end(rng), "limit": rng.range(0..4), "revision": revision,
        "sort_order": rng.range(0..3), "sort_target": ([0, 2, 3][rng.index(3)]),
        "keys_only": flag(rng), "count_only": rng.chance(1, 8),
        "min_mod_revision": if flag(rng) { rng.range(0..newest + 1) } else { 0 },
        "max_create_revision": if flag(rng) { rng.range(0..newest + 1) } else { 0 },
    })
}

fn delete(rng: &mut Rng) -> Value {
    json!({ "key": key(rng), "range_end": end(rng), "prev_kv": flag(rng) })
}

fn txn(rng: &mut Rng, newest: u64, depth: u32) -> Value {
    let compares: Vec<Value> = (0..rng.range(0..3)).map(|_| compare(rng, newest)).collect();
    let ops = |rng: &mut Rng| -> Vec<Value> {
        let mut ops: Vec<Value> = (0..rng.range(0..3)).map(|_| op(rng, newest, depth)).collect();
        // Etcd lets a later nested transaction delete what an earlier one puts; we refuse it.
        if let [first, second] = &ops[..]
            && first["request_txn"].to_string().contains("request_put")
            && second["request_txn"].to_string().contains("request_delete_range")
        {
            ops.pop();
        }
        ops
    };
    let (success, failure) = (ops(rng), ops(rng));
    json!({ "compare": compares, "success": success, "failure": failure })
}

fn compare(rng: &mut Rng, newest: u64) -> Value {
    let (target, field, operand) = match rng.range(0..4) {
        0 => ("VERSION", "version", json!(rng.range(0..4))),
        1 => ("CREATE", "create_revision", json!(rng.range(0..newest + 1))),
        2 => ("MOD", "mod_revision", json!(rng.range(0..newest + 1))),
        _ => ("VALUE", "value", json!(["", "MQ==", "Mg=="][rng.index(3)])),
    };
    json!({ "target": target, "result": rng.range(0..4), "key": key(rng), "range_end": end(rng),
            field: operand })
}

fn op(rng: &mut Rng, newest: u64, depth: u32) -> Value {
    match rng.range(0..4) {
        0 => json!({ "request_put": put(rng) }),
        1 => json!({ "request_range": range(rng, newest) }),
        2 => {
            // Etcd does not see that a range without an end holds a key that is put; we refuse it.
            let mut delete = delete(rng);
            if delete["range_end"] == "AA==" {
                delete["range_end"] = json!("");
            }
            json!({ "request_delete_range": delete })
        }
        _ if depth == 0 => json!({ "request_put": put(rng) }),
        _ => json!({ "request_txn": txn(rng, newest, depth - 1) }),
    }
}

/// Without what names the server, and in order.
fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for name in ["cluster_id", "member_id", "raft_term"] {
                fields.remove(name);
            }
            // Etcd lists them as its map happens to be.
            if let Some(Value::Array(alarms)) = fields.get_mut("alarms") {
                alarms.sort_by_key(Value::to_string);
            }
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

#[tokio::test]
async fn random_calls_are_answered_as_by_etcd() {
    for seed in sim::seeds(1) {
        let Some(etcd) = start_etcd().await else {
            println!("skipped: there is no `etcd` on PATH (Debian: apt-get install etcd-server)");
            return;
        };
        ask_both(&etcd, &Server::start().await, seed).await;
    }
}

/// Users, roles and alarms: as random, in an order that makes most of them meet something.
fn administration(rng: &mut Rng) -> (&'static str, Value) {
    let name = |rng: &mut Rng| ["u", "v", "root"][rng.index(3)];
    let role = |rng: &mut Rng| ["r", "s", "root"][rng.index(3)];
    match rng.range(0..16) {
        // The cheapest password: etcd takes a tenth of a second for each.
        0 => ("/v3/auth/user/add", json!({ "name": name(rng), "password": "p" })),
        1 => ("/v3/auth/user/delete", json!({ "name": name(rng) })),
        2 => ("/v3/auth/user/get", json!({ "name": name(rng) })),
        3 => ("/v3/auth/user/list", json!({})),
        4 => ("/v3/auth/user/grant", json!({ "user": name(rng), "role": role(rng) })),
        5 => ("/v3/auth/user/revoke", json!({ "name": name(rng), "role": role(rng) })),
        6 | 7 => ("/v3/auth/role/add", json!({ "name": role(rng) })),
        8 => ("/v3/auth/role/delete", json!({ "role": role(rng) })),
        9 => ("/v3/auth/role/get", json!({ "role": role(rng) })),
        10 => ("/v3/auth/role/list", json!({})),
        11 | 12 => {
            let kind = ["READ", "WRITE", "READWRITE"][rng.index(3)];
            let perm = json!({ "permType": kind, "key": key(rng), "range_end": end(rng) });
            ("/v3/auth/role/grant", json!({ "name": role(rng), "perm": perm }))
        }
        13 => {
            let body = json!({ "role": role(rng), "key": key(rng), "range_end": end(rng) });
            ("/v3/auth/role/revoke", body)
        }
        14 => {
            // With two kinds at a time etcd forgets the older one: here CORRUPT has a test of its own.
            let kind = "NOSPACE";
            let action = ["GET", "ACTIVATE", "DEACTIVATE", "DEACTIVATE"][rng.index(4)];
            let body = json!({ "action": action, "alarm": kind, "memberID": rng.range(0..3) });
            ("/v3/maintenance/alarm", body)
        }
        _ => ("/v3/maintenance/transfer-leadership", json!({ "targetID": rng.range(0..3) })),
    }
}

/// 3.4 answers alarms without a header, and code 9 with another status than 3.5.
fn of_3_4(path: &str, status: u16, ours: &mut Value) -> u16 {
    if path == "/v3/maintenance/alarm"
        && let Some(fields) = ours.as_object_mut()
    {
        fields.remove("header");
    }
    if status == 400 && ours["code"] == 9 { 412 } else { status }
}

#[tokio::test]
async fn users_roles_and_alarms_are_kept_as_by_etcd() {
    for seed in sim::seeds(1) {
        let Some(etcd) = start_etcd().await else {
            println!("skipped: there is no `etcd` on PATH (Debian: apt-get install etcd-server)");
            return;
        };
        let (server, mut rng, http) =
            (Server::start().await, Rng::new(seed), reqwest::Client::new());
        for step in 0..300 {
            let (path, body) = match rng.chance(1, 4) {
                // Etcd lets puts in nested transactions through when there is no space.
                true => match call(&mut rng, 2) {
                    ("/v3/kv/txn", _) => ("/v3/kv/txn", txn(&mut rng, 2, 0)),
                    call => call,
                },
                false => administration(&mut rng),
            };
            let request = http.post(format!("{}{path}", etcd.url)).body(body.to_string());
            let theirs = request.send().await.unwrap();
            let their_status = theirs.status().as_u16();
            let mut theirs: Value = serde_json::from_str(&theirs.text().await.unwrap()).unwrap();
            let answer = server.post(path, body.clone()).await;
            let mut ours = answer.json();
            let our_status = of_3_4(path, answer.status, &mut ours);
            strip(&mut ours);
            strip(&mut theirs);
            let at = format!("seed {seed}, step {step}: {path} {body}");
            assert_eq!((our_status, &ours), (their_status, &theirs), "{at}");
        }
    }
}

/// A user's calls, with the rights of a few keys.
#[tokio::test]
async fn a_user_may_do_here_what_it_may_do_at_etcd() {
    for seed in sim::seeds(1) {
        let Some(etcd) = start_etcd().await else {
            println!("skipped: there is no `etcd` on PATH (Debian: apt-get install etcd-server)");
            return;
        };
        let (server, mut rng) = (Server::start().await, Rng::new(seed));
        let mut sides = Vec::new();
        for url in [etcd.url.clone(), server.url("")] {
            sides.push((url.clone(), token_of_a_user(&url).await));
        }
        for step in 0..300 {
            let (path, body) = match rng.range(0..4) {
                0 => ("/v3/kv/put", put(&mut rng)),
                1 => ("/v3/kv/range", range(&mut rng, 2)),
                2 => ("/v3/kv/deleterange", delete(&mut rng)),
                _ => ("/v3/kv/txn", txn(&mut rng, 2, 0)),
            };
            // Etcd lets a put in a transaction show what was there without asking who reads.
            let body: Value = serde_json::from_str(
                &body.to_string().replace("\"prev_kv\":true", "\"prev_kv\":false"),
            )
            .unwrap();
            let mut answers = Vec::new();
            for (url, token) in &sides {
                let request = reqwest::Client::new().post(format!("{url}{path}"));
                let request = request.header("authorization", token).body(body.to_string());
                let answer = request.send().await.unwrap();
                let status = answer.status().as_u16();
                let mut json: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
                strip(&mut json);
                answers.push((status, json));
            }
            assert_eq!(answers[0], answers[1], "seed {seed}, step {step}: {path} {body}");
        }
    }
}

/// Turns authentication on, with a user that may read a to b and write aa to c.
async fn token_of_a_user(url: &str) -> String {
    let perm = |kind, key, end| json!({ "permType": kind, "key": key, "range_end": end });
    let mut token = String::new();
    for (path, body) in [
        ("user/add", json!({ "name": "root", "password": "p" })),
        ("role/add", json!({ "name": "root" })),
        ("user/grant", json!({ "user": "root", "role": "root" })),
        ("user/add", json!({ "name": "u", "password": "p" })),
        ("role/add", json!({ "name": "r" })),
        ("role/grant", json!({ "name": "r", "perm": perm("READ", "YQ==", "Yg==") })),
        ("role/grant", json!({ "name": "r", "perm": perm("WRITE", "YWE=", "Yg==") })),
        ("role/grant", json!({ "name": "r", "perm": perm("WRITE", "Yg==", "Yw==") })),
        ("user/grant", json!({ "user": "u", "role": "r" })),
        ("enable", json!({})),
        ("authenticate", json!({ "name": "u", "password": "p" })),
    ] {
        let request = reqwest::Client::new().post(format!("{url}/v3/auth/{path}"));
        let answer = request.body(body.to_string()).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        token = answer["token"].as_str().unwrap_or_default().to_owned();
    }
    token
}

async fn ask_both(etcd: &Etcd, server: &Server, seed: u64) {
    let mut rng = Rng::new(seed);
    let http = reqwest::Client::new();
    let mut newest = 1;
    for step in 0..600 {
        let (path, body) = call(&mut rng, newest);
        let request = http.post(format!("{}{path}", etcd.url)).body(body.to_string());
        let theirs = request.send().await.unwrap();
        let their_status = theirs.status().as_u16();
        let mut theirs: Value = serde_json::from_str(&theirs.text().await.unwrap()).unwrap();
        let ours = server.post(path, body.clone()).await;
        let (our_status, mut ours) = (ours.status, ours.json());
        strip(&mut ours);
        strip(&mut theirs);
        let at = format!("seed {seed}, step {step}: {path} {body}");
        assert_eq!((our_status, &ours), (their_status, &theirs), "{at}");
        if let Some(revision) = ours["header"]["revision"].as_str() {
            newest = revision.parse().unwrap();
        }
    }
}

/// Calls that do not wait, on leases that both servers know: keys, revisions and refusals are the
/// same. `l` is `bA==`, `l/64` is `bC82NA==`, `e/64` is `ZS82NA==`.
fn line_calls() -> Vec<(&'static str, Value)> {
    let leader = |rev: u64| json!({ "name": "ZQ==", "key": "ZS82NA==", "rev": rev, "lease": 100 });
    let campaign = |value: &str| json!({ "name": "ZQ==", "lease": 100, "value": value });
    let name = json!({ "name": "ZQ==" });
    vec![
        ("/v3/lease/grant", json!({ "TTL": 600, "ID": 100 })),
        ("/v3/lock/lock", json!({ "name": "bA==", "lease": 99 })),
        ("/v3/lock/lock", json!({ "name": "bA==", "lease": 100 })),
        ("/v3/lock/lock", json!({ "name": "bA==", "lease": 100 })),
        ("/v3/lock/unlock", json!({ "key": "bC82NQ==" })),
        ("/v3/lock/unlock", json!({})),
        ("/v3/kv/range", json!({ "key": "AA==", "range_end": "AA==" })),
        ("/v3/lock/unlock", json!({ "key": "bC82NA==" })),
        ("/v3/lock/lock", json!({ "lease": 100 })),
        ("/v3/lock/lock", json!({ "name": "bA==", "lease": 100 })),
        ("/v3/election/leader", name.clone()),
        ("/v3/election/campaign", json!({ "name": "ZQ==", "lease": 99 })),
        ("/v3/election/campaign", campaign("djE=")),
        ("/v3/election/leader", name.clone()),
        ("/v3/election/campaign", campaign("djE=")),
        ("/v3/election/campaign", campaign("djI=")),
        ("/v3/election/leader", name.clone()),
        ("/v3/election/proclaim", json!({ "leader": leader(1), "value": "djM=" })),
        ("/v3/election/proclaim", json!({ "leader": leader(6), "value": "djM=" })),
        ("/v3/election/proclaim", json!({ "value": "djM=" })),
        ("/v3/election/leader", name.clone()),
        ("/v3/election/resign", json!({})),
        ("/v3/election/resign", json!({ "leader": leader(1) })),
        ("/v3/election/resign", json!({ "leader": leader(6) })),
        ("/v3/election/resign", json!({ "leader": leader(6) })),
        ("/v3/election/leader", name),
        ("/v3/kv/range", json!({ "key": "AA==", "range_end": "AA==" })),
        ("/v3/lease/revoke", json!({ "ID": 100 })),
        ("/v3/kv/range", json!({ "key": "AA==", "range_end": "AA==" })),
    ]
}

#[tokio::test]
async fn locks_and_elections_are_answered_as_by_etcd() {
    let Some(etcd) = start_etcd().await else {
        println!("skipped: there is no `etcd` on PATH (Debian: apt-get install etcd-server)");
        return;
    };
    let (server, http) = (Server::start().await, reqwest::Client::new());
    for (step, (path, body)) in line_calls().into_iter().enumerate() {
        let request = http.post(format!("{}{path}", etcd.url)).body(body.to_string());
        let theirs = request.send().await.unwrap();
        let their_status = theirs.status().as_u16();
        let mut theirs: Value = serde_json::from_str(&theirs.text().await.unwrap()).unwrap();
        let ours = server.post(path, body.clone()).await;
        let (our_status, mut ours) = (ours.status, ours.json());
        strip(&mut ours);
        strip(&mut theirs);
        assert_eq!((our_status, &ours), (their_status, &theirs), "step {step}: {path} {body}");
    }
}
