//! A damaged log is reported by file and offset, and nothing of it is skipped or served.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::load::until;
use crate::node::{Node, ok};

const WRITES: u32 = 50;
const VALUE: &str = "a value of some length";
/// What the log writes in units of, and what ends each batch.
const SECTOR: usize = 512;
const TRAILER: usize = 32;

#[tokio::test]
async fn a_damaged_log_of_the_coordinator_is_reported() {
    check(with_keys("coordinator").await).await;
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
    check(with_keys("replica").await).await;
}

/// A log at rest has an empty batch behind the last one that says something: so damage there does
/// not look like a write that was cut short.
#[tokio::test]
async fn damage_in_the_last_acknowledged_write_is_not_taken_for_a_torn_one() {
    let mut coordinator = with_keys("coordinator").await;
    let file = newest_file(&coordinator.data_dir());
    until("the last batch is followed by an empty one", || {
        let bytes = fs::read(&file).unwrap();
        let trailer = written(&bytes) - TRAILER;
        let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let empty =
            number(trailer + 8) == SECTOR as u32 && number(trailer + 12) == number(trailer + 16);
        async move { empty }
    })
    .await;
    coordinator.kill().await;
    let mut bytes = fs::read(&file).unwrap();
    // The last byte before the empty batch ends the trailer of a write that was acknowledged.
    let at = written(&bytes) - SECTOR - 1;
    bytes[at] ^= 0x10;
    fs::write(&file, bytes).unwrap();
    reported(&mut coordinator, &file).await;
}

/// Bytes that mean nothing cost nothing, and are reported all the same.
#[tokio::test]
async fn flipped_padding_is_logged_and_everything_served() {
    let mut coordinator = with_keys("coordinator").await;
    coordinator.kill().await;
    let file = newest_file(&coordinator.data_dir());
    let mut bytes = fs::read(&file).unwrap();
    let end = written(&bytes);
    let padding = (end / 2..end).find(|&at| bytes[at..at + 64] == [0; 64]).expect("some padding");
    for at in [padding + 32, end + 100_000] {
        bytes[at] ^= 0x10;
    }
    fs::write(&file, bytes).unwrap();
    coordinator.restart().await;
    let name = file.file_name().unwrap().to_str().unwrap();
    until("the damage is logged", || async {
        let log = coordinator.log();
        log.contains("the log is damaged") && log.contains(name)
    })
    .await;
    for number in 0..WRITES {
        let value = ok(coordinator.get(&format!("/v1/kv/key-{number}"))).await;
        assert_eq!(value.text().await.unwrap(), VALUE);
    }
}

async fn with_keys(service: &'static str) -> Node {
    let node = Node::start(service).await;
    for number in 0..WRITES {
        ok(node.put(&format!("/v1/kv/key-{number}")).body(VALUE)).await;
    }
    node
}

/// Kills the node, flips a bit in the middle of what it has written, and starts it again.
async fn check(mut node: Node) {
    // No goodbye: nothing of the log may be made superfluous by a snapshot.
    node.kill().await;
    let file = damage(&node.data_dir());
    reported(&mut node, &file).await;
}

/// The next start names the file and the offset, and serves nothing of it.
async fn reported(node: &mut Node, file: &Path) {
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

/// Flips a bit in the middle of the written part of the log.
fn damage(directory: &Path) -> PathBuf {
    let file = newest_file(directory);
    let mut bytes = fs::read(&file).unwrap();
    let written = written(&bytes);
    // Frames are padded with zeros, which mean nothing.
    let at = (written / 2..written).find(|&at| bytes[at] != 0).expect("the last byte is not zero");
    bytes[at] ^= 0x10;
    fs::write(&file, bytes).unwrap();
    file
}

/// The file of the log with the most in it.
fn newest_file(directory: &Path) -> PathBuf {
    let mut files = Vec::new();
    collect(directory, &mut files);
    let files = files.into_iter().filter(|file| {
        file.components().any(|part| part.as_os_str() == "wal" || part.as_os_str() == "log")
    });
    let files = files.map(|file| (written(&fs::read(&file).unwrap()), file));
    files.max().expect("there is a log").1
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
fn written(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}
