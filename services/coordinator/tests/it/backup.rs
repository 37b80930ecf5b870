//! A backup is taken while others write, and brought back by the program itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::process::{self, Process};
use crate::server::Server;

async fn everything(url: &str, revision: u64) -> Value {
    let path = format!("{url}/v1/kv?prefix=&limit=10000&revision={revision}");
    let text = reqwest::get(path).await.unwrap().text().await.unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["kvs"].take()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_the_store_at_one_revision() {
    let server = Server::start().await;
    for at in 0..100 {
        server.put(&format!("/v1/kv/before{at}"), &"v".repeat(3000)).await;
    }
    let lease = server.post("/v1/leases", json!({ "ttl_seconds": 60 })).await.json();
    let lease = lease["id"].as_str().unwrap().to_owned();
    server.put(&format!("/v1/kv/leased?lease={lease}"), "v").await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (server, stop) = (&server, stop.clone());
        async move {
            let mut at = 0;
            while !stop.load(Ordering::SeqCst) {
                // Two keys at once: a backup has both or none.
                let put = |name| json!({ "put": { "key": format!("{name}/{at}"), "value": "v" } });
                let txn = json!({ "then": [put("left"), put("right")] });
                assert_eq!(server.post("/v1/txn", txn).await.status, 200);
                at += 1;
            }
            at
        }
    };
    let backups = {
        let (server, stop) = (&server, stop.clone());
        async move {
            let mut newest = None;
            for _ in 0..5 {
                newest = Some(server.get("/v1/snapshot").await);
            }
            stop.store(true, Ordering::SeqCst);
            newest.unwrap()
        }
    };
    let (written, backup) = tokio::join!(writer, backups);
    assert!(0 < written, "there was a load");
    assert_eq!(backup.status, 200);
    let revision: u64 = backup.header("x-revision").parse().unwrap();
    let sum = backup.body[backup.body.len() - 32..].iter().map(|byte| format!("{byte:02x}"));
    assert_eq!(backup.header("x-checksum-sha256"), sum.collect::<String>());

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup");
    std::fs::write(&file, &backup.body).unwrap();
    restore(dir.path(), &["--data-dir", "exact"]);
    restore(dir.path(), &["--data-dir", "bumped", "--bump-revision", "1000000"]);

    let expected = everything(&server.url(""), revision).await;
    let (exact, url) = start(dir.path(), "exact");
    assert_eq!(everything(&url, revision).await, expected);
    let cluster = json_of(&url, "/v1/cluster").await;
    assert_eq!(cluster["revision"], revision);
    let original = server.get("/v1/cluster").await.json();
    assert_ne!(cluster["cluster_id"], original["cluster_id"]);
    let old = json_of(&url, "/v1/kv/before0?meta=true&revision=2").await;
    assert_eq!(old["mod_revision"], 2, "history is there");
    let leases = json_of(&url, &format!("/v1/leases/{lease}")).await;
    assert_eq!(leases["keys"], json!(["leased"]));
    drop(exact);

    let (_bumped, url) = start(dir.path(), "bumped");
    let now = revision + 1_000_000;
    assert_eq!(everything(&url, now).await, expected);
    // Whoever saw the old cluster go on after the backup must not take this one for its future.
    let watch = reqwest::get(format!("{url}/v1/watch?prefix=&from_revision={}", revision + 5));
    assert_eq!(watch.await.unwrap().status(), 410);
    let body =
        json!({ "create_request": { "key": "AA==", "range_end": "AA==", "start_revision": 2 } });
    let request = reqwest::Client::new().post(format!("{url}/v3/watch")).body(body.to_string());
    let mut lines = crate::stream::Lines::open(request).await;
    assert_eq!(lines.message().await["created"], true);
    assert_eq!(lines.message().await["compact_revision"], now.to_string());
    let client = reqwest::Client::new();
    let put = client.put(format!("{url}/v1/kv/new")).body("v").send().await.unwrap();
    let put: Value = serde_json::from_str(&put.text().await.unwrap()).unwrap();
    assert_eq!(put["revision"], now + 1);
}

#[track_caller]
fn restore(dir: &std::path::Path, arguments: &[&str]) {
    let mut command = process::command(dir);
    let output = command.args(["restore", "--from", "backup"]).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
}

fn start(dir: &std::path::Path, data_dir: &str) -> (Process, String) {
    let (port, peer) = (process::free_port(), process::free_port());
    let mut command = process::command(dir);
    command.args(["--data-dir", data_dir, "--listen", &format!("127.0.0.1:{port}")]);
    command.args(["--peer-listen", &format!("127.0.0.1:{peer}")]);
    (Process::start(command).0, format!("http://127.0.0.1:{port}"))
}

async fn json_of(url: &str, path: &str) -> Value {
    let text = reqwest::get(format!("{url}{path}")).await.unwrap().text().await.unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn what_is_there_is_not_overwritten_and_what_is_damaged_not_restored() {
    let server = Server::start().await;
    server.put("/v1/kv/a", "1").await;
    let backup = server.get("/v1/snapshot").await.body;
    let dir = tempfile::tempdir().unwrap();
    let refused = |file: &[u8], data_dir: &str, text: &str| {
        std::fs::write(dir.path().join("backup"), file).unwrap();
        let mut command = process::command(dir.path());
        command.args(["restore", "--from", "backup", "--data-dir", data_dir]);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(text), "{said}");
    };
    std::fs::create_dir(dir.path().join("full")).unwrap();
    std::fs::write(dir.path().join("full/file"), "x").unwrap();
    refused(&backup, "full", "is not empty");
    let mut damaged = backup.clone();
    damaged[20] ^= 1;
    refused(&damaged, "new", "checksum");
    refused(&backup[..backup.len() - 5], "new", "checksum");
    refused(b"something else", "new", "not a backup");
    assert!(!dir.path().join("new").exists(), "nothing is left behind");
}
