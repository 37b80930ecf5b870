//! Durable Streams: what the conformance suite cannot see, above all restarts and several brokers.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::Value;

use crate::server::Broker;
use crate::trio::Trio;

const OFFSET: &str = "stream-next-offset";
const TEXT: [(&str, &str); 1] = [("content-type", "text/plain")];

async fn ask(
    broker: &Broker,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response {
    let request = broker.request(method, path).body(body.to_owned());
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.send().await.unwrap()
}

async fn status(
    broker: &Broker,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> u16 {
    ask(broker, method, path, headers, body).await.status().as_u16()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_stream_and_its_producers_survive_a_restart() {
    let broker = Broker::start().await;
    let by = |seq: &'static str| {
        [TEXT[0], ("producer-id", "p"), ("producer-epoch", "3"), ("producer-seq", seq)]
    };
    assert_eq!(status(&broker, Method::PUT, "/streams/a/b", &TEXT, "zero").await, 201);
    for (seq, body) in [("0", "one"), ("1", "two")] {
        assert_eq!(status(&broker, Method::POST, "/streams/a/b", &by(seq), body).await, 200);
    }
    assert_eq!(status(&broker, Method::PUT, "/streams/gone", &TEXT, "x").await, 201);
    assert_eq!(status(&broker, Method::DELETE, "/streams/gone", &[], "").await, 204);
    let tag = header(&ask(&broker, Method::GET, "/streams/a/b", &[], "").await, "etag").to_owned();

    let broker = broker.restart().await;
    let read = ask(&broker, Method::GET, "/streams/a/b", &[], "").await;
    assert_eq!((header(&read, "etag"), header(&read, "content-type")), (&*tag, "text/plain"));
    let tail = header(&read, OFFSET).to_owned();
    assert_eq!(read.text().await.unwrap(), "zeroonetwo");
    let again = ask(&broker, Method::POST, "/streams/a/b", &by("1"), "two").await;
    assert_eq!((again.status().as_u16(), header(&again, OFFSET)), (204, &*tail));
    assert_eq!(status(&broker, Method::POST, "/streams/a/b", &by("3"), "four").await, 409);
    assert_eq!(status(&broker, Method::GET, "/streams/gone", &[], "").await, 404);
    let closing = [("stream-closed", "true")];
    assert_eq!(status(&broker, Method::POST, "/streams/a/b", &closing, "").await, 204);

    let broker = broker.restart().await;
    let end = ask(&broker, Method::GET, &format!("/streams/a/b?offset={tail}"), &[], "").await;
    assert_eq!((end.status().as_u16(), header(&end, "stream-closed")), (200, "true"));
    assert_eq!(status(&broker, Method::POST, "/streams/a/b", &TEXT, "five").await, 409);
    broker.stop().await;
}

/// Enough is written that the log is compacted around what stays.
#[tokio::test]
async fn a_stream_is_read_back_after_the_log_around_it_is_gone() {
    let broker = Broker::start().await;
    assert_eq!(status(&broker, Method::PUT, "/streams/stays", &TEXT, "first,").await, 201);
    let large = "x".repeat(900_000);
    for _ in 0..25 {
        assert_eq!(status(&broker, Method::PUT, "/streams/goes", &TEXT, &large).await, 201);
        assert_eq!(status(&broker, Method::DELETE, "/streams/goes", &[], "").await, 204);
    }
    assert_eq!(status(&broker, Method::POST, "/streams/stays", &TEXT, "last").await, 204);
    let broker = broker.restart().await;
    let read = ask(&broker, Method::GET, "/streams/stays", &[], "").await;
    assert_eq!(read.text().await.unwrap(), "first,last");
    broker.stop().await;
}

#[tokio::test]
async fn a_long_stream_is_read_in_parts() {
    let broker = Broker::start().await;
    assert_eq!(status(&broker, Method::PUT, "/streams/long", &TEXT, "").await, 201);
    let part = "y".repeat(400_000);
    for _ in 0..8 {
        assert_eq!(status(&broker, Method::POST, "/streams/long", &TEXT, &part).await, 204);
    }
    let (mut offset, mut bytes, mut parts) = ("-1".to_owned(), 0, 0);
    loop {
        let path = format!("/streams/long?offset={offset}");
        let read = ask(&broker, Method::GET, &path, &[], "").await;
        offset = header(&read, OFFSET).to_owned();
        let is_last = header(&read, "stream-up-to-date") == "true";
        bytes += read.bytes().await.unwrap().len();
        parts += 1;
        if is_last {
            break;
        }
    }
    assert_eq!((bytes, parts), (8 * part.len(), 3));
    let within = "/streams/long?offset=0000000000000001_0000000000000007";
    assert_eq!(status(&broker, Method::GET, within, &[], "").await, 400);
    let beyond = "/streams/long?offset=0000000000000009_0000000003200000";
    assert_eq!(status(&broker, Method::GET, beyond, &[], "").await, 400);
    broker.stop().await;
}

#[tokio::test]
async fn what_is_not_supported_is_said() {
    let broker = Broker::start().await;
    let fork = [("stream-forked-from", "/streams/a")];
    for (method, path, headers, wanted) in [
        (Method::PUT, "/streams/f", &fork[..], 501),
        (Method::PUT, "/streams/__ds/subscriptions/s", &[], 501),
        (Method::GET, "/streams/__ds/jwks.json", &[], 501),
        (Method::PUT, "/streams/a//b", &TEXT, 400),
        (Method::PATCH, "/streams/a", &TEXT, 405),
        (Method::GET, "/streams/", &[], 404),
        (Method::POST, "/streams/none", &TEXT, 404),
        (Method::GET, "/streams/none?offset=x", &[], 400),
    ] {
        let answer = ask(&broker, method.clone(), path, headers, "x").await;
        assert_eq!(answer.status().as_u16(), wanted, "{method} {path}");
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff", "{method} {path}");
        let answer: Value = answer.json().await.unwrap();
        assert!(answer["error"]["code"].is_string(), "{method} {path}: {answer}");
        assert!(answer["error"]["message"].is_string(), "{method} {path}: {answer}");
    }
    let long = format!("/streams/{}", "a".repeat(1_025));
    assert_eq!(status(&broker, Method::PUT, &long, &TEXT, "").await, 400);
    let large = "x".repeat(9 << 20);
    assert_eq!(status(&broker, Method::PUT, "/streams/large", &TEXT, &large).await, 413);
    broker.stop().await;
}

#[tokio::test]
async fn a_stream_expires_when_nobody_uses_it_and_not_before() {
    let broker = Broker::start().await;
    let idle = [TEXT[0], ("stream-ttl", "1")];
    for name in ["read", "left"] {
        assert_eq!(
            status(&broker, Method::PUT, &format!("/streams/{name}"), &idle, "x").await,
            201
        );
    }
    // Whoever waits keeps it alive, for more than its time.
    let waits = ask(&broker, Method::GET, "/streams/read?offset=now&live=long-poll", &[], "");
    let appends = async {
        broker.until_status(Method::HEAD, "/streams/left", 404).await;
        let body = ask(&broker, Method::POST, "/streams/read", &TEXT, "y").await;
        assert_eq!(body.status(), 204);
    };
    let (waited, ()) = tokio::join!(waits, appends);
    assert_eq!(waited.status(), 200);
    assert_eq!(waited.text().await.unwrap(), "y");
    // A restart begins its time anew, and ends it nevertheless.
    let broker = broker.restart().await;
    broker.until_status(Method::HEAD, "/streams/read", 404).await;
    assert_eq!(status(&broker, Method::PUT, "/streams/read", &TEXT, "").await, 201);
    broker.stop().await;
}

/// Reads events until one has this text.
async fn events_until(response: &mut Response, wanted: &str) -> String {
    let mut text = String::new();
    let reading = async {
        while !text.contains(wanted) {
            let piece = response.chunk().await.unwrap();
            text.push_str(std::str::from_utf8(&piece.expect("it goes on")).unwrap());
        }
    };
    let read = tokio::time::timeout(Duration::from_secs(20), reading).await;
    assert!(read.is_ok(), "`{wanted}` did not come: {text}");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn any_broker_takes_any_request() {
    let trio = Trio::start().await;
    let put = |node: usize, path: &str| {
        trio.request(node, Method::PUT, path).header(TEXT[0].0, TEXT[0].1).send()
    };
    let post = |node: usize, path: &str, body: &str| {
        let request = trio.request(node, Method::POST, path).header(TEXT[0].0, TEXT[0].1);
        request.body(body.to_owned()).send()
    };
    for number in 0..12 {
        let path = format!("/streams/chat/{number}");
        assert_eq!(put(number % 3, &path).await.unwrap().status(), 201);
        // Wherever it is created again, it is there.
        assert_eq!(put((number + 1) % 3, &path).await.unwrap().status(), 200);
        for node in 0..3 {
            assert_eq!(post(node, &path, &node.to_string()).await.unwrap().status(), 204);
        }
        for node in 0..3 {
            let read = trio.request(node, Method::GET, &path).send().await.unwrap();
            assert_eq!(read.text().await.unwrap(), "012");
        }
    }
    // A reader at one broker hears of what comes in at another, and of the end.
    let path = "/streams/chat/0";
    let mut live =
        trio.request(2, Method::GET, &format!("{path}?offset=-1&live=sse")).send().await.unwrap();
    events_until(&mut live, "data:012\n").await;
    assert_eq!(post(1, path, "next").await.unwrap().status(), 204);
    events_until(&mut live, "data:next\n").await;
    let closed = trio.request(0, Method::POST, path).header("stream-closed", "true").send().await;
    assert_eq!(closed.unwrap().status(), 204);
    events_until(&mut live, "\"streamClosed\":true").await;
    assert_eq!(live.chunk().await.unwrap(), None, "the connection ends with the stream");
    let deleted = trio.request(1, Method::DELETE, path).send().await.unwrap();
    assert_eq!(deleted.status(), 204);
    for node in 0..3 {
        let read = trio.request(node, Method::GET, path).send().await.unwrap();
        assert_eq!(read.status(), 404);
    }
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_that_was_answered_is_lost_with_a_broker() {
    let mut trio = Trio::start().await;
    let streams: Vec<_> = (0..8).map(|number| format!("/streams/s{number}")).collect();
    for path in &streams {
        let put = trio.request(0, Method::PUT, path).header(TEXT[0].0, TEXT[0].1).send().await;
        assert_eq!(put.unwrap().status(), 201);
    }
    for turn in 0..10 {
        if turn == 5 {
            trio.nodes[1].kill().await;
        }
        for path in &streams {
            let node = if turn % 2 == 0 { 0 } else { 2 };
            // Numbered, so that an unknown outcome may be tried again.
            let append = || {
                trio.request(node, Method::POST, path)
                    .header(TEXT[0].0, TEXT[0].1)
                    .header("producer-id", "p")
                    .header("producer-epoch", "0")
                    .header("producer-seq", turn)
                    .body(turn.to_string())
                    .send()
            };
            let mut last = 0;
            for _ in 0..200 {
                last = append().await.unwrap().status().as_u16();
                if matches!(last, 200 | 204) {
                    break;
                }
                assert!(matches!(last, 503 | 504), "{last}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert!(matches!(last, 200 | 204), "{path}: {last}");
        }
    }
    trio.nodes[1].start().await;
    for path in &streams {
        for node in 0..3 {
            let read = trio.request(node, Method::GET, path).send().await.unwrap();
            assert_eq!(read.text().await.unwrap(), "0123456789", "{path} at {node}");
        }
    }
    trio.stop().await;
}
