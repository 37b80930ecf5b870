//! A damaged log is reported by file and offset, and nothing of it is skipped or served.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::node::{Node, ok};

const WRITES: u32 = 50;

#[tokio::test]
async fn a_damaged_log_of_the_coordinator_is_reported() {
    let coordinator = Node::start("coordinator").await;
    for number in 0..WRITES {
        ok(coordinator.put(&format!("/v1/kv/key-{number}")).body("a value of some length")).await;
    }
    check(coordinator).await;
}

#[tokio::test]
async fn a_damaged_log_of_the_broker_is_reported() {
    let broker = Node::start("broker").await;
    ok(broker.put("/v1/topics/t").json(&json!({}))).await;
    for number in 0..WRITES {
        ok(broker.post("/v1/topics/t/messages").json(&format!("message {number}"))).await;
    }
    check(broker).await;
}

#[tokio::test]
async fn a_damaged_log_of_the_replica_is_reported() {
    let replica = Node::start("replica").await;
    for number in 0..WRITES {
        ok(replica.put(&format!("/v1/kv/key-{number}")).body("a value of some length")).await;
    }
    check(replica).await;
}

/// Kills the node, flips a bit in the middle of what it has written, and starts it again.
async fn check(mut node: Node) {
    // No goodbye: nothing of the log may be made superfluous by a snapshot.
    node.kill().await;
    let file = damage(&node.data_dir());
    node.spawn();
    let name = file.file_name().and_then(|name| name.to_str()).expect("segments have plain names");
    let said = match node.ended_or_started().await {
        Ok(status) => {
            assert!(!status.success(), "it ended as if nothing had happened");
            node.log()
        }
        // Alive, so that an operator can look; not ready, so that nobody is served.
        Err((status, said)) => {
            assert_eq!(status, 503, "{}: {said}", node.service());
            said + &node.log()
        }
    };
    let line = said.lines().find(|line| line.contains(name));
    let line = line.unwrap_or_else(|| panic!("nothing names {name}: {said}"));
    let after = line.split(name).nth(1).unwrap_or_default();
    assert!(after.contains(|c: char| c.is_ascii_digit()), "no offset: {line}");
}

/// Flips a bit in the middle of the written part of the largest file of the log.
fn damage(directory: &Path) -> PathBuf {
    let mut files = Vec::new();
    collect(directory, &mut files);
    let (written, file) = files
        .into_iter()
        .filter(|file| {
            file.components().any(|part| part.as_os_str() == "wal" || part.as_os_str() == "log")
        })
        .map(|file| (written(&file), file))
        .max()
        .expect("there is a log");
    let mut bytes = fs::read(&file).unwrap();
    // Frames are padded with zeros, which mean nothing.
    let at = (written / 2..written).find(|&at| bytes[at] != 0).expect("the last byte is not zero");
    bytes[at] ^= 0x10;
    fs::write(&file, bytes).unwrap();
    file
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// Segments are preallocated: what follows the last byte that is not zero has never been written.
fn written(file: &Path) -> usize {
    let bytes = fs::read(file).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}
