//! A full disk refuses what is new, and says so; what frees space goes on, and nothing is lost.
//!
//! Each service gets a small file system of its own, which takes root to mount.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;

use e2e::Disk;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::load::until;
use crate::node::{Node, ok, prepared_pair};

/// Room for the first segments of a log, and for their reserve.
const DISK: &str = "size=256m";
/// And for the tables of an engine.
const LARGE_DISK: &str = "size=512m";
const BODY_BYTES: usize = 1 << 20;
/// More than fits, so that a disk that never fills up fails the test instead of hanging it.
const SENDS_MAX: usize = 5_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_broker_still_delivers_acks_and_deletes() {
    let mut broker = Node::prepared("broker", "");
    let Some(_disk) = Disk::mount(&broker.data_dir(), DISK) else { return };
    broker.restart().await;
    ok(broker.put("/v1/queues/full").json(&json!({}))).await;
    let stored = fill(|_| broker.post("/v1/queues/full/messages").body(vec![7; BODY_BYTES])).await;

    let take = broker.post("/v1/queues/full/receive").json(&json!({ "max": 3 }));
    let taken: Value = ok(take).await.json().await.unwrap();
    let messages = taken["messages"].as_array().unwrap();
    assert!(!messages.is_empty(), "reads go on");
    let ack_ids: Vec<&Value> = messages.iter().map(|message| &message["ack_id"]).collect();
    let ack = broker.post("/v1/queues/full/ack").json(&json!({ "ack_ids": ack_ids }));
    let acked: Value = ok(ack).await.json().await.unwrap();
    assert!(!acked.to_string().contains("late"), "{acked}");

    broker.kill().await;
    broker.restart_degraded().await;
    let queue: Value = ok(broker.get("/v1/queues/full")).await.json().await.unwrap();
    let left = stored - messages.len();
    assert_eq!(queue["stats"]["messages"], left, "acked means acked, stored means stored");
    // The log looks for room first: until it knows that there is none, it says so.
    let broker = &broker;
    until("the queue is deleted", || async move {
        let delete = broker.client().delete(broker.url("/v1/queues/full"));
        delete.send().await.expect("an answer").status().is_success()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_coordinator_still_reads_and_deletes() {
    let mut coordinator = Node::prepared("coordinator", "");
    let Some(_disk) = Disk::mount(&coordinator.data_dir(), DISK) else { return };
    coordinator.restart().await;
    let stored =
        fill(|n| coordinator.put(&format!("/v1/kv/full/{n:04}")).body(vec![7; BODY_BYTES])).await;

    let last = ok(coordinator.get(&format!("/v1/kv/full/{:04}", stored - 1))).await;
    assert_eq!(last.bytes().await.unwrap().len(), BODY_BYTES);
    ok(coordinator.client().delete(coordinator.url("/v1/kv/full/0000"))).await;
    let gone = coordinator.get("/v1/kv/full/0000").send().await.unwrap();
    assert_eq!(gone.status(), 404);

    coordinator.kill().await;
    coordinator.restart_degraded().await;
    let last = ok(coordinator.get(&format!("/v1/kv/full/{:04}", stored - 1))).await;
    assert_eq!(last.bytes().await.unwrap().len(), BODY_BYTES);
}

/// Neither the log nor the engine of the primary has room, while its replica has.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_primary_still_reads_and_deletes_and_goes_on_when_there_is_space() {
    let (mut primary, mut replica) = prepared_pair();
    let Some(disk) = Disk::mount(&primary.data_dir(), LARGE_DISK) else { return };
    primary.restart().await;
    replica.restart().await;
    let mut kept = Kept::default();
    kept.put(&primary, 0..1_500).await;

    disk.fill();
    refused(&primary).await;
    kept.check(&primary).await;
    // Each delete is an entry that the engine has to store: at some time it cannot.
    let mut deleted = 0;
    while !readiness(&primary).await.contains("waits for space") {
        assert!(deleted < 1_000, "the engine never runs out of space");
        kept.delete(&primary, deleted..deleted + 50).await;
        deleted += 50;
    }
    kept.check(&primary).await;
    refused(&primary).await;

    primary.kill().await;
    primary.restart_degraded().await;
    kept.check(&primary).await;
    kept.delete(&primary, deleted..deleted + 10).await;
    refused(&primary).await;

    disk.clear();
    let url = primary.url("/v1/kv/kept/9999");
    until("a write is taken again, without a restart", || {
        let put = primary.client().put(&url).body("9999");
        async move { put.send().await.expect("an answer").status().is_success() }
    })
    .await;
    kept.put(&primary, 2_000..2_100).await;
    same_state(&primary, &replica).await;
    kept.check(&primary).await;
    kept.check(&replica).await;
}

/// A replica without room falls behind, and catches up by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_replica_catches_up_when_there_is_space() {
    let (mut primary, mut replica) = prepared_pair();
    let Some(disk) = Disk::mount(&replica.data_dir(), LARGE_DISK) else { return };
    primary.restart().await;
    replica.restart().await;
    let mut kept = Kept { query: "?ack=async", ..Kept::default() };
    kept.put(&primary, 0..200).await;

    disk.fill();
    let mut next = 200;
    while !readiness(&replica).await.contains("waits for space") {
        assert!(next < 20_000, "the engine never runs out of space");
        kept.put(&primary, next..next + 100).await;
        next += 100;
    }
    let old = ok(replica.get("/v1/kv/kept/0")).await;
    assert_eq!(old.text().await.unwrap(), "0");
    replica.kill().await;
    replica.restart_degraded().await;
    kept.put(&primary, next..next + 100).await;

    disk.clear();
    same_state(&primary, &replica).await;
    kept.check(&replica).await;
    replica.ready().await;
}

/// With neither a spare nor room for one, groups cannot start. They do as soon as there is.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_broker_cannot_start_it_starts_when_there_is_space() {
    const QUEUES: usize = 200;
    let mut broker = Node::prepared("broker", "");
    let Some(disk) = Disk::mount(&broker.data_dir(), DISK) else { return };
    broker.restart().await;
    for number in 0..QUEUES {
        ok(broker.put(&format!("/v1/queues/q{number}")).json(&json!({}))).await;
        ok(broker.post(&format!("/v1/queues/q{number}/messages")).json(&number)).await;
    }
    // Most of the segment: what is left of it is no room.
    for _ in 0..40 {
        let url = broker.url("/v1/queues/q0/messages");
        // Refused as overloaded while the next segment is being reserved.
        until("a message is taken", || {
            let send = broker.client().post(&url).body(vec![7; BODY_BYTES]);
            async move { send.send().await.expect("an answer").status().is_success() }
        })
        .await;
    }
    broker.kill().await;
    for file in fs::read_dir(broker.data_dir().join("wal")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "spare") {
            fs::remove_file(path).unwrap();
        }
    }
    disk.fill();
    broker.spawn();
    let url = broker.url("/readyz?verbose");
    until("it says that it waits for space", || {
        let ask = broker.client().get(&url);
        async move {
            let Ok(answer) = ask.send().await else { return false };
            let said = answer.text().await.unwrap_or_default();
            said.contains("the disk is full") && said.contains("every second")
        }
    })
    .await;

    disk.clear();
    broker.ready().await;
    for number in 0..QUEUES {
        let take = broker.post(&format!("/v1/queues/q{number}/receive")).json(&json!({}));
        let taken: Value = ok(take).await.json().await.unwrap();
        assert_eq!(taken["messages"][0]["data"], number, "{taken}");
    }
}

/// Keys whose value is their number, as acknowledged.
#[derive(Default)]
struct Kept {
    present: BTreeSet<usize>,
    deleted: BTreeSet<usize>,
    query: &'static str,
}

impl Kept {
    async fn put(&mut self, node: &Node, numbers: Range<usize>) {
        for number in numbers {
            let put = node.put(&format!("/v1/kv/kept/{number}{}", self.query));
            ok(put.body(number.to_string())).await;
            self.present.insert(number);
        }
    }

    async fn delete(&mut self, node: &Node, numbers: Range<usize>) {
        for number in numbers {
            let key = node.url(&format!("/v1/kv/kept/{number}{}", self.query));
            ok(node.client().delete(key)).await;
            self.present.remove(&number);
            self.deleted.insert(number);
        }
    }

    async fn check(&self, node: &Node) {
        for number in &self.present {
            let value = ok(node.get(&format!("/v1/kv/kept/{number}"))).await;
            assert_eq!(value.text().await.unwrap(), number.to_string());
        }
        for number in &self.deleted {
            let gone = node.get(&format!("/v1/kv/kept/{number}")).send().await.unwrap();
            assert_eq!(gone.status(), 404, "{number}");
        }
    }
}

/// A new value is refused, with what to do.
async fn refused(node: &Node) {
    let url = node.url("/v1/kv/refused");
    until("a write is refused", || {
        let put = node.client().put(&url).body(vec![7; BODY_BYTES]);
        async move {
            let answer = put.send().await.expect("an answer");
            if answer.status().is_success() {
                return false;
            }
            let problem: Value = answer.json().await.expect("a problem");
            assert_eq!((&problem["status"], &problem["code"]), (&json!(507), &json!("disk-full")));
            assert!(problem["detail"].as_str().unwrap().contains("free space"), "{problem}");
            true
        }
    })
    .await;
}

async fn readiness(node: &Node) -> String {
    node.get("/readyz?verbose").send().await.expect("an answer").text().await.unwrap()
}

/// Both have carried out the same entries, to the same effect.
async fn same_state(primary: &Node, replica: &Node) {
    until("both have the same state", || async move {
        let (one, two) = (status(primary).await, status(replica).await);
        one["applied_index"] == two["applied_index"] && one["digest"] == two["digest"]
    })
    .await;
}

async fn status(node: &Node) -> Value {
    ok(node.get("/v1/replication")).await.json().await.unwrap()
}

/// Sends until the disk is full. Returns how many were acknowledged.
async fn fill(request: impl Fn(usize) -> RequestBuilder) -> usize {
    let mut stored = 0;
    for _ in 0..SENDS_MAX {
        let answer = request(stored).send().await.expect("an answer");
        let status = answer.status();
        if status.is_success() {
            stored += 1;
            continue;
        }
        let problem: Value = answer.json().await.expect("a problem");
        // While the next segment is being reserved.
        if problem["code"] == "overloaded" {
            continue;
        }
        assert_eq!((status.as_u16(), &problem["code"]), (507, &json!("disk-full")), "{problem}");
        return stored;
    }
    panic!("the disk is never full");
}

/// Its ready message and its warnings go to standard error, and writing there must not end it.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_log_takes_nothing_starts_and_drains() {
    for service in ["coordinator", "broker", "replica", "gateway"] {
        let settings = "log.format = \"text\"\nlog.level = \"debug\"";
        let mut node = Node::prepared(service, settings);
        node.gag();
        node.restart().await;
        assert!(node.terminate().await.success(), "{service} ended badly");
    }
}
