//! Answers that come in pieces.

use client::http::{Event, Events};
use http::Method;
use serde_json::Value;

use crate::peer::{Peer, Step, client, problem};

fn stream(body: &str) -> Step {
    Step::Send(format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{body}"))
}

fn event(id: &str, data: &str) -> Event {
    Event { id: id.into(), event: "message".into(), data: data.into() }
}

#[tokio::test]
async fn events_go_on_where_they_broke() {
    let first = stream("id: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 3\ndata: cut o");
    let second = stream("id: 3\ndata: c\n\n");
    let gone = problem(410, "compacted");
    let peer = Peer::start([first, problem(503, "unavailable"), second, gone]).await;
    let call = client(&[&peer]).call(Method::GET, "/v1/watch");
    let mut events = Events::open(call).await.unwrap();
    for (id, data) in [("1", "a"), ("2", "b"), ("3", "c")] {
        assert_eq!(events.next().await.unwrap(), event(id, data));
    }
    assert_eq!(&*events.next().await.unwrap_err().code, "compacted");
    let seen = peer.seen();
    let resumed: Vec<_> = seen.iter().map(|request| request.header("last-event-id")).collect();
    assert_eq!(resumed[0], None);
    assert_eq!(resumed.last().unwrap(), &Some("3"));
    assert!(resumed[1..resumed.len() - 1].iter().all(|id| *id == Some("2")));
    assert_eq!(seen[0].header("accept"), Some("text/event-stream"));
    assert_eq!(seen[0].header("x-deadline-ms"), None, "a stream outlives the call's deadline");
}

#[tokio::test]
async fn lines_come_one_by_one_and_a_cut_is_an_error() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let cut = Step::Send(format!("{head}9\r\n{{\"a\":1}}\n{{\r\n"));
    let peer = Peer::start([cut]).await;
    let call = client(&[&peer]).call(Method::GET, "/v1/snapshot");
    let mut lines = call.stream().await.unwrap().lines::<Value>();
    assert_eq!(lines.next().await.unwrap().unwrap()["a"], 1);
    lines.next().await.unwrap_err();
    assert!(lines.next().await.unwrap().is_none());
}
