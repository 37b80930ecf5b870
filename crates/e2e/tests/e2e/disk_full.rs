//! A full disk refuses what is new, and says so; what frees space goes on, and nothing is lost.
//!
//! Each service gets a small file system of its own, which takes root to mount.

use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::load::until;
use crate::node::{Node, ok};

/// Room for the first segments of a log, and for their reserve.
const DISK: &str = "size=256m";
const BODY_BYTES: usize = 1 << 20;
/// More than fits, so that a disk that never fills up fails the test instead of hanging it.
const SENDS_MAX: usize = 5_000;

/// A mounted file system, until it is dropped.
struct Disk {
    mounted_at: PathBuf,
}

impl Disk {
    /// `None`, with a reason printed, where mounting is not allowed.
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).expect("the mount point");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(at);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        if !mounted {
            println!("skipped: cannot mount a tmpfs; this test takes root");
            return None;
        }
        Some(Self { mounted_at: at.to_owned() })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the service may not have ended yet.
        let unmounted = Command::new("umount").arg("-l").arg(&self.mounted_at).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "the tmpfs is still mounted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_broker_still_delivers_acks_and_deletes() {
    let mut broker = Node::prepared("broker", "");
    let Some(_disk) = Disk::mount(&broker.data_dir()) else { return };
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
    let Some(_disk) = Disk::mount(&coordinator.data_dir()) else { return };
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
