//! Watches that are taken up again where they broke off.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;
use sim::watch::{Event, Watched};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::cluster::Door;
use crate::member::POLL;

/// A stream that says nothing for so long is given up for another member's.
pub(super) const SILENCE: Duration = Duration::from_secs(2);
/// Longer than a run.
pub(super) const NEVER: Duration = Duration::from_secs(3600);

/// Follows a prefix from the first revision on, over all reconnects, through the revision that
/// `goal` names in the end.
pub(crate) async fn follow(
    name: String,
    doors: Vec<Door>,
    prefix: &str,
    mut goal: watch::Receiver<Option<u64>>,
) -> Watched {
    let mut watched =
        Watched { name, prefix: prefix.to_owned(), from: 1, through: 0, events: Vec::new() };
    for door in doors.iter().cycle() {
        // What came of a revision that was not completed comes again.
        watched.events.retain(|event| event.revision <= watched.through);
        read(door, &mut watched, &mut goal).await;
        if is_there(&watched, &goal) {
            break;
        }
        sleep(POLL).await;
    }
    watched
}

pub(super) fn is_there(watched: &Watched, goal: &watch::Receiver<Option<u64>>) -> bool {
    goal.borrow().is_some_and(|goal| goal <= watched.through)
}

/// One stream, until it ends or the goal is reached.
async fn read(door: &Door, watched: &mut Watched, goal: &mut watch::Receiver<Option<u64>>) {
    let path = format!("/v1/watch?prefix={}&from_revision={}", watched.prefix, watched.from);
    let mut request = door.request(Method::GET, &path).timeout(NEVER);
    if 0 < watched.through {
        request = request.header("last-event-id", watched.through);
    }
    let Some(mut stream) = open(request).await else { return };
    let mut buffer = Vec::new();
    while !is_there(watched, goal) {
        let Some(piece) = piece(&mut stream, goal).await else { return };
        buffer.extend_from_slice(&piece);
        while let Some(end) = buffer.windows(2).position(|two| two == b"\n\n") {
            let message: Vec<u8> = buffer.drain(..end + 2).collect();
            take(watched, &String::from_utf8_lossy(&message));
        }
    }
}

/// A stream that has begun.
pub(super) async fn open(request: RequestBuilder) -> Option<Response> {
    let stream = timeout(SILENCE, request.send()).await.ok()?.ok()?;
    stream.status().is_success().then_some(stream)
}

/// What comes next; nothing when the goal has moved meanwhile, `None` at the stream's end.
pub(super) async fn piece(
    stream: &mut Response,
    goal: &mut watch::Receiver<Option<u64>>,
) -> Option<Vec<u8>> {
    tokio::select! {
        piece = timeout(SILENCE, next(stream)) => piece.ok().flatten(),
        Ok(()) = goal.changed() => Some(Vec::new()),
    }
}

pub(super) async fn next(stream: &mut Response) -> Option<Vec<u8>> {
    stream.chunk().await.ok().flatten().map(|piece| piece.to_vec())
}

fn take(watched: &mut Watched, message: &str) {
    let field = |name: &str| {
        message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let data: Value =
        field("data").and_then(|data| serde_json::from_str(data).ok()).unwrap_or_default();
    match field("event") {
        Some("put" | "delete") => {
            let text = |name: &str| data[name].as_str().map(str::to_owned);
            watched.events.push(Event {
                revision: data["revision"].as_u64().expect("a revision"),
                key: text("key").expect("a key"),
                value: text("value"),
            });
        }
        Some("bookmark") | None => {}
        Some(other) => panic!("{} got {other}: {data}", watched.name),
    }
    if let Some(id) = field("id") {
        watched.through = id.parse().expect("an id is a revision");
    }
}
