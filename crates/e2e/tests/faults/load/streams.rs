//! Watches over `/v3` that are taken up again where they broke off.

use reqwest::Method;
use serde_json::{Value, json};
use sim::watch::{Event, Watched};
use tokio::sync::watch;
use tokio::time::sleep;

use super::etcd::{decode, number, prefix};
use super::watchers::{NEVER, is_there, open, piece};
use crate::cluster::Door;
use crate::member::POLL;

/// Like [`super::watchers::follow`]. All events of a revision come in one message, so what came
/// whole is complete.
pub(super) async fn follow(
    name: String,
    doors: Vec<Door>,
    below: &str,
    mut goal: watch::Receiver<Option<u64>>,
) -> Watched {
    let mut watched =
        Watched { name, prefix: below.to_owned(), from: 1, through: 0, events: Vec::new() };
    for door in doors.iter().cycle() {
        read(door, &mut watched, &mut goal).await;
        if is_there(&watched, &goal) {
            break;
        }
        sleep(POLL).await;
    }
    watched
}

/// One stream, until it ends or the goal is reached.
async fn read(door: &Door, watched: &mut Watched, goal: &mut watch::Receiver<Option<u64>>) {
    let (key, range_end) = prefix(&watched.prefix);
    let create = json!({ "create_request": {
        "key": key, "range_end": range_end, "start_revision": (watched.through + 1).to_string(),
    } });
    let request = door.request(Method::POST, "/v3/watch").timeout(NEVER).json(&create);
    let Some(mut stream) = open(request).await else { return };
    let mut buffer = Vec::new();
    while !is_there(watched, goal) {
        let Some(piece) = piece(&mut stream, goal).await else { return };
        buffer.extend_from_slice(&piece);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let message: Value = serde_json::from_slice(&line).expect("a line is a message");
            // The node goes down, or lost its leader: another one knows on.
            let Some(result) = message.get("result") else { return };
            assert!(result["canceled"].is_null(), "{} got {message}", watched.name);
            take(watched, result);
        }
    }
}

fn take(watched: &mut Watched, result: &Value) {
    for event in result["events"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let kv = &event["kv"];
        let is_put = event["type"].is_null();
        let revision = number(&kv["mod_revision"]);
        let value = is_put.then(|| decode(&kv["value"]));
        watched.events.push(Event { revision, key: decode(&kv["key"]), value });
        watched.through = watched.through.max(revision);
    }
}
