//! Watches, on both faces.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::server::Server;
use crate::stream::Lines;

#[tokio::test]
async fn a_watch_tells_every_change_in_order_and_resumes() {
    let server = Server::start().await;
    server.put("/v1/kv/a/1", "old").await;
    let mut watch = Lines::open(server.request("GET", "/v1/watch?prefix=a/&prev=true")).await;
    let bookmark = watch.event().await;
    assert_eq!((bookmark.name.as_str(), bookmark.id), ("bookmark", Some(2)));

    server.put("/v1/kv/a/1", "new").await;
    server.put("/v1/kv/b", "unseen").await;
    server.call("DELETE", "/v1/kv/a/1", "").await;
    let put = watch.change().await;
    assert_eq!((put.name.as_str(), put.id, &put.data["value"]), ("put", Some(3), &json!("new")));
    assert_eq!(put.data["prev"]["value"], "old");
    let delete = watch.change().await;
    assert_eq!((delete.name.as_str(), delete.id), ("delete", Some(5)));
    assert_eq!(delete.data.get("value"), None);

    let resumed = server.request("GET", "/v1/watch?prefix=a/").header("last-event-id", "3");
    assert_eq!(Lines::open(resumed).await.change().await.id, Some(5));
}

#[tokio::test]
async fn only_the_last_change_of_a_revision_has_an_id() {
    let server = Server::start().await;
    let both = json!({ "then": [{ "put": { "key": "b", "value": "" } },
                                { "put": { "key": "a", "value": "" } }] });
    server.post("/v1/txn", both).await;
    let mut watch = Lines::open(server.request("GET", "/v1/watch?prefix=&from_revision=1")).await;
    let (first, second) = (watch.change().await, watch.change().await);
    assert_eq!((first.id, &first.data["key"]), (None, &json!("b")));
    assert_eq!((second.id, &second.data["key"]), (Some(2), &json!("a")));
}

#[tokio::test]
async fn a_watch_of_compacted_history_is_refused_with_the_oldest_revision() {
    let server = Server::start().await;
    for value in ["1", "2", "3"] {
        server.put("/v1/kv/k", value).await;
    }
    server.post("/v1/compact", json!({ "revision": 3 })).await;
    let refused = server.get("/v1/watch?key=k&from_revision=2").await;
    refused.is_problem(410, "compacted");
    assert_eq!(refused.json()["oldest_revision"], 3);
    let mut watch = Lines::open(server.request("GET", "/v1/watch?key=k&from_revision=3")).await;
    assert_eq!(watch.change().await.id, Some(3));
}

fn create(key: &str, more: Value) -> String {
    let mut request = more;
    request["key"] = json!(key);
    json!({ "create_request": request }).to_string()
}

const ALL: &str = "AA==";

#[tokio::test]
async fn a_stream_carries_many_watches_each_complete() {
    let server = Server::start().await;
    let body = create("YQ==", json!({})) + &create(ALL, json!({ "range_end": ALL, "watch_id": 9 }));
    let mut stream = Lines::open(server.request("POST", "/v3/watch").body(body)).await;
    assert_eq!(stream.message().await, json!({ "created": true }));
    assert_eq!(stream.message().await, json!({ "watch_id": "9", "created": true }));
    server.put("/v1/kv/a", "1").await;
    server.put("/v1/kv/b", "2").await;
    let mut seen = (Vec::new(), Vec::new());
    while seen.0.is_empty() || seen.1.len() < 2 {
        let message = stream.message().await;
        let events = message["events"].as_array().unwrap();
        let keys = events.iter().map(|event| event["kv"]["key"].as_str().unwrap().to_owned());
        if message.get("watch_id").is_none() { seen.0.extend(keys) } else { seen.1.extend(keys) }
    }
    assert_eq!(seen, (vec!["YQ==".to_owned()], vec!["YQ==".to_owned(), "Yg==".to_owned()]));
}

#[tokio::test]
async fn a_watch_that_cannot_be_says_why_and_the_stream_goes_on() {
    let server = Server::start().await;
    let body = create("Yg==", json!({ "range_end": "YQ==" }))
        + &create("YQ==", json!({ "watch_id": 5 }))
        + &create("YQ==", json!({ "watch_id": "5" }))
        + r#"{"cancel_request":{"watch_id":5}}"#
        + &create("YQ==", json!({}));
    let mut stream = Lines::open(server.request("POST", "/v3/watch").body(body)).await;
    let refused = |reason: &str| json!({ "watch_id": "-1", "created": true, "canceled": true, "cancel_reason": reason });
    assert_eq!(stream.message().await, refused("mvcc: watcher range is empty"));
    assert_eq!(stream.message().await, json!({ "watch_id": "5", "created": true }));
    let duplicate = "mvcc: duplicate watch ID provided on the WatchStream";
    assert_eq!(stream.message().await, refused(duplicate));
    assert_eq!(stream.message().await, json!({ "watch_id": "5", "canceled": true }));
    assert_eq!(stream.message().await["created"], true);
}

/// etcd bug 15220: progress overtook events.
#[tokio::test]
async fn progress_comes_after_everything_up_to_it() {
    let server = Server::start().await;
    for at in 0..50 {
        server.put(&format!("/v1/kv/{at}"), "v").await;
    }
    let body = create(ALL, json!({ "range_end": ALL, "start_revision": 2 }))
        + r#"{"progress_request":{}}"#;
    let mut stream = Lines::open(server.request("POST", "/v3/watch").body(body)).await;
    let mut events = 0;
    loop {
        let message = stream.message().await;
        if message["watch_id"] == "-1" {
            break;
        }
        events += message["events"].as_array().map_or(0, Vec::len);
    }
    assert_eq!(events, 50);
}

/// One message per revision unless fragments were asked for, and then marked as such.
#[tokio::test]
async fn a_big_revision_is_split_only_into_fragments() {
    let server = Server::start().await;
    let value = "x".repeat(400 << 10);
    let put = |key: &str| json!({ "put": { "key": key, "value": value } });
    let txn = json!({ "then": [put("a"), put("b"), put("c")] });
    assert_eq!(server.post("/v1/txn", txn).await.status, 200);
    for (fragment, messages) in [(false, 1), (true, 2)] {
        let request = json!({ "range_end": ALL, "start_revision": 2, "fragment": fragment });
        let request = server.request("POST", "/v3/watch").body(create(ALL, request));
        let mut stream = Lines::open(request).await;
        stream.message().await;
        let mut events = 0;
        for at in 1..=messages {
            let message = stream.message().await;
            events += message["events"].as_array().unwrap().len();
            assert_eq!(message.get("fragment").is_some(), at < messages);
        }
        assert_eq!(events, 3);
    }
}

/// etcd bug 17529: a stream full of watches on one stream, and a reader that begins late.
#[tokio::test]
async fn many_watches_of_one_stream_lose_nothing() {
    const WATCHES: usize = 200;
    const CHANGES: u64 = 20;
    let server = Server::start().await;
    let body: String =
        (0..WATCHES).map(|_| create("aw==", json!({ "start_revision": 1 }))).collect();
    let mut stream = Lines::open(server.request("POST", "/v3/watch").body(body)).await;
    for _ in 0..CHANGES {
        server.put("/v1/kv/k", "v").await;
    }
    let mut seen = vec![Vec::new(); WATCHES];
    while seen.iter().any(|revisions| revisions.len() < CHANGES as usize) {
        let message = stream.message().await;
        let id = message.get("watch_id").map_or(0, |id| id.as_str().unwrap().parse().unwrap());
        for event in message["events"].as_array().into_iter().flatten() {
            let revision = event["kv"]["mod_revision"].as_str().unwrap().parse::<u64>().unwrap();
            seen[id].push(revision);
        }
    }
    let all: Vec<u64> = (2..2 + CHANGES).collect();
    assert!(seen.iter().all(|revisions| *revisions == all));
}

/// Every put at its own revision, and now and then several keys at one.
async fn write(server: &Server, rounds: u64) {
    for round in 0..rounds {
        server.put(&format!("/v1/kv/crowd/{}", round % 7), &format!("value {round}")).await;
        let both = json!({ "then": [{ "put": { "key": "crowd/x", "value": "1" } },
                                    { "put": { "key": "aside", "value": "2" } },
                                    { "put": { "key": "crowd/y", "value": "3" } }] });
        server.post("/v1/txn", both).await;
    }
}

/// Watchers of one prefix share what they are told; each still hears all of it, from wherever it
/// begins, as one does that is alone with its range.
#[tokio::test]
async fn a_crowd_is_told_what_one_alone_is_told() {
    const ROUNDS: u64 = 40;
    let server = Server::start().await;
    let end = 1 + 2 * ROUNDS;
    let write = write(&server, ROUNDS);
    let crowd = (0..24).map(async |number: u64| {
        // Some begin in the future, some resume in the middle of what others are told at once.
        let request = server.request("GET", "/v1/watch?prefix=crowd/&from_revision=1");
        let begin = if number.is_multiple_of(3) { 0 } else { number };
        let request = match begin {
            0 => request,
            seen => request.header("last-event-id", seen.to_string()),
        };
        let mut watch = Lines::open(request).await;
        let mut told = Vec::new();
        while told.last().and_then(|(id, ..): &Told| *id) != Some(end) {
            let event = watch.change().await;
            told.push((event.id, event.name, event.data));
        }
        (begin, told)
    });
    let (told, ()) = tokio::join!(futures_util::future::join_all(crowd), write);
    let mut alone =
        Lines::open(server.request("GET", "/v1/watch?prefix=crowd/&from_revision=1&prev=true"))
            .await;
    let mut all: Vec<Told> = Vec::new();
    while all.last().and_then(|(id, ..)| *id) != Some(end) {
        let mut event = alone.change().await;
        event.data.as_object_mut().unwrap().remove("prev");
        all.push((event.id, event.name, event.data));
    }
    for (begin, told) in told {
        let revision = |(_, _, data): &&Told| data["revision"].as_u64().unwrap();
        let expected: Vec<_> = all.iter().filter(|event| begin < revision(event)).collect();
        assert_eq!(told.iter().collect::<Vec<_>>(), expected, "behind {begin}");
    }
}

type Told = (Option<u64>, String, Value);

/// The same on streams of the etcd face, with several watches each.
#[tokio::test]
async fn streams_of_equal_watches_are_each_told_everything() {
    const ROUNDS: u64 = 30;
    let server = Server::start().await;
    let encoded = |key: &str| STANDARD.encode(key);
    let range = |start: u64| json!({ "range_end": encoded("crowd0"), "start_revision": start, "prev_kv": start == 9 });
    let write = write(&server, ROUNDS);
    let streams = (0..12).map(async |_| {
        let starts = [1, 5, 5, 9];
        let body: String =
            starts.iter().map(|start| create(&encoded("crowd/"), range(*start))).collect();
        let mut stream = Lines::open(server.request("POST", "/v3/watch").body(body)).await;
        let mut seen = vec![Vec::new(); starts.len()];
        let end = Some(1 + 2 * ROUNDS);
        while seen.iter().any(|seen: &Vec<u64>| seen.last().copied() != end) {
            let message = stream.message().await;
            let id = message.get("watch_id").map_or(0, |id| id.as_str().unwrap().parse().unwrap());
            for event in message["events"].as_array().into_iter().flatten() {
                let revision = event["kv"]["mod_revision"].as_str().unwrap();
                seen[id].push(revision.parse::<u64>().unwrap());
            }
        }
        seen
    });
    let (seen, ()) = tokio::join!(futures_util::future::join_all(streams), write);
    // One change at even revisions, two at odd ones.
    let expected = |start: u64| -> Vec<u64> {
        let revisions = start.max(2)..=1 + 2 * ROUNDS;
        revisions.flat_map(|it| vec![it; if it % 2 == 0 { 1 } else { 2 }]).collect()
    };
    for seen in seen {
        assert_eq!(seen, [expected(1), expected(5), expected(5), expected(9)]);
    }
}
