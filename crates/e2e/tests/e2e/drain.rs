//! SIGTERM: long polls, streams and idle connections end, and the process with them.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::node::{Node, PATIENCE, ok};

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_everything_open_drains() {
    let mut broker = Node::start("broker").await;
    ok(broker.put("/v1/topics/t").json(&json!({}))).await;
    ok(broker.put("/v1/queues/q").json(&json!({}))).await;
    let stream =
        ok(broker.get("/v1/topics/t/messages?from=latest").header("accept", "text/event-stream"))
            .await;
    let poll = broker.post("/v1/queues/q/receive").json(&json!({ "wait_seconds": 60 }));
    let mut polls = JoinSet::new();
    polls.spawn(poll.send());
    let idle = idle_connection(broker.port()).await;
    drained(&mut broker).await;
    // The stream ended; the poll got an answer or a closed connection, and did not wait its minute.
    let _ = timeout(PATIENCE, stream.bytes()).await.expect("the stream ends");
    let _ = timeout(PATIENCE, polls.join_next()).await.expect("the poll ends");
    drop(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_with_a_watch_drains() {
    let mut coordinator = Node::start("coordinator").await;
    let watch =
        ok(coordinator.get("/v1/watch?prefix=a").header("accept", "text/event-stream")).await;
    let idle = idle_connection(coordinator.port()).await;
    drained(&mut coordinator).await;
    let _ = timeout(PATIENCE, watch.bytes()).await.expect("the watch ends");
    drop(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_drain_with_an_idle_connection() {
    for service in ["replica", "gateway"] {
        let mut node = Node::start(service).await;
        let idle = idle_connection(node.port()).await;
        drained(&mut node).await;
        drop(idle);
    }
}

/// A clean exit. `terminate` fails when it takes longer than patience allows.
async fn drained(node: &mut Node) {
    let status = node.terminate().await;
    assert!(status.success(), "{} {status}\n{}", node.service(), node.log());
}

/// A connection that has had one answer and asks nothing more.
async fn idle_connection(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    timeout(Duration::from_secs(10), stream.read_exact(&mut head)).await.unwrap().unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    stream
}
