//! Random calls answered by us and by a real etcd, side by side.
//!
//! Needs the binary `etcd` (Debian: `etcd-server`) and says so when it is skipped.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use sim::Rng;

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

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
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
        (0..rng.range(0..3)).map(|_| op(rng, newest, depth)).collect()
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

/// Without what names the server.
fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for name in ["cluster_id", "member_id", "raft_term"] {
                fields.remove(name);
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
