//! Rows B1 to B5: bodies stream, are bounded, and end with whoever wanted them.

use std::sync::Arc;
use std::time::Duration;

use api::gateway::EndpointHealth;
use futures_util::StreamExt;
use tokio::sync::Notify;

use crate::support::backend::response;
use crate::support::raw::{Raw, status};
use crate::support::{Backend, Reply, eventually, gateway, gateway_with, http, problem, upstream};

#[tokio::test]
async fn b2_each_piece_of_a_stream_arrives_when_it_was_sent() {
    let go: Vec<_> = (0..5).map(|_| Arc::new(Notify::new())).collect();
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                 transfer-encoding: chunked\r\n\r\n";
    let chunk = |n: usize| format!("9\r\ndata: {n}\n\n\r\n").into_bytes();
    let mut pieces = vec![(head.to_vec(), Arc::clone(&go[0]))];
    pieces.extend((1..5).map(|n| (chunk(n), Arc::clone(&go[n]))));
    let pieces = std::sync::Mutex::new(Some(pieces));
    let backend =
        Backend::start(move |_| Reply::Pieces(pieces.lock().unwrap().take().unwrap_or_default()))
            .await;
    let gateway = gateway(&[&backend]).await;
    go[0].notify_one();
    let answer = http().get(format!("{}/broker/events", gateway.url)).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut events = answer.bytes_stream();
    for (n, go) in go.iter().enumerate().skip(1) {
        // The next event is not even written before this one has arrived.
        go.notify_one();
        let event = events.next().await.unwrap().unwrap();
        assert_eq!(event, format!("data: {n}\n\n"));
    }
}

#[tokio::test]
async fn b2_each_piece_of_an_upload_arrives_when_it_was_sent() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backend = Backend::always("").await.renamed(listener.local_addr().unwrap());
    let gateway = gateway(&[&backend]).await;
    let mut raw = Raw::connect(&gateway.url).await;
    raw.send(
        "POST /broker/x HTTP/1.1\r\nhost: gw.test\r\nconnection: close\r\n\
         transfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n",
    )
    .await;
    let (mut upstream, _) = listener.accept().await.unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"first\r\n") {
        assert!(upstream.read_buf(&mut bytes).await.unwrap() > 0);
    }
    // The rest is sent only now that the first piece has arrived.
    raw.send("4\r\nlast\r\n0\r\n\r\n").await;
    while !bytes.ends_with(b"0\r\n\r\n") {
        assert!(upstream.read_buf(&mut bytes).await.unwrap() > 0);
    }
    upstream.write_all(&response("200 OK", "ok")).await.unwrap();
    assert_eq!(status(&raw.read_to_end().await), 200);
}

#[tokio::test]
async fn an_event_stream_ends_with_the_drain() {
    let go = Arc::new(Notify::new());
    go.notify_one();
    let backend = Backend::start(move |_| {
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                      transfer-encoding: chunked\r\n\r\n3\r\n:\n\n\r\n";
        let never = Arc::new(Notify::new());
        Reply::Pieces(vec![(bytes.to_vec(), Arc::clone(&go)), (Vec::new(), never)])
    })
    .await;
    let gateway = gateway(&[&backend]).await;
    let answer = http().get(format!("{}/broker/events", gateway.url)).send().await.unwrap();
    let mut events = answer.bytes_stream();
    assert!(events.next().await.unwrap().is_ok());
    let (end, ()) = tokio::join!(events.next(), gateway.stop());
    assert!(end.is_none(), "it ends as a stream ends: {end:?}");
}

#[tokio::test]
async fn a_long_poll_ends_with_the_drain_and_other_requests_are_finished() {
    let (go, closed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (answer, close) = (Arc::clone(&go), Arc::clone(&closed));
    let backend = Backend::start(move |seen| match seen.request_line().contains("wait_seconds") {
        true => Reply::Hang(Arc::clone(&close)),
        false => Reply::Pieces(vec![(response("200 OK", "done"), Arc::clone(&answer))]),
    })
    .await;
    let gateway = gateway(&[&backend]).await;
    let poll = http().get(format!("{}/broker/x?wait_seconds=30", gateway.url)).send();
    let work = http().post(format!("{}/broker/x", gateway.url)).body("b").send();
    let stop = async {
        eventually("both are there", async || (backend.seen().len() == 2).then_some(())).await;
        let finish = async {
            closed.notified().await;
            go.notify_one();
        };
        tokio::join!(gateway.stop(), finish)
    };
    let (poll, work, _) = tokio::join!(poll, work, stop);
    let poll = poll.unwrap();
    assert_eq!(poll.status(), 503);
    assert_eq!(problem(poll).await.code, "unavailable");
    assert_eq!(work.unwrap().text().await.unwrap(), "done");
}

#[tokio::test]
async fn b3_a_body_past_the_limit_is_refused_whether_or_not_it_says_so() {
    let backend = Backend::always("ok").await;
    let gateway =
        gateway_with(&[&backend], |config| config.base.limits.max_body_bytes = 100_000).await;
    let url = format!("{}/broker/x", gateway.url);
    let sized = http().post(&url).body(vec![b'x'; 100_001]).send().await.unwrap();
    assert_eq!(sized.status(), 413);
    assert_eq!(problem(sized).await.code, "too-large");
    assert_eq!(backend.connections(), 0, "the upstream is not even asked");

    let pieces = (0..200).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 1000]));
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let chunked = http().post(&url).body(body).send().await;
    // The refusal may meet a client that still writes.
    if let Ok(chunked) = chunked {
        assert_eq!(chunked.status(), 413);
        assert_eq!(problem(chunked).await.code, "too-large");
    }
    assert!(backend.seen().is_empty(), "the upstream never gets a whole request");
    let fits = http().post(&url).body(vec![b'x'; 100_000]).send().await.unwrap();
    assert_eq!(fits.status(), 200);
    let view = upstream(&gateway, "broker").await;
    assert_eq!(view.endpoints[0].failures, 0, "a client's mistake is not the endpoint's");
}

#[tokio::test]
async fn b4_a_client_that_leaves_cancels_the_upstream_and_is_no_failure() {
    const CLIENTS: usize = 50;
    let closed = Arc::new(Notify::new());
    let close = Arc::clone(&closed);
    let backend = Backend::start(move |_| Reply::Hang(Arc::clone(&close))).await;
    let gateway = gateway(&[&backend]).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut raw = Raw::connect(&gateway.url).await;
        raw.send("GET /broker/x HTTP/1.1\r\nhost: gw.test\r\n\r\n").await;
        clients.push(raw);
    }
    eventually("all have arrived", async || (backend.seen().len() == CLIENTS).then_some(())).await;
    assert_eq!(upstream(&gateway, "broker").await.endpoints[0].in_flight, CLIENTS as u64);
    drop(clients);
    let endpoint = eventually("nothing is in flight", async || {
        let view = upstream(&gateway, "broker").await;
        (view.endpoints[0].in_flight == 0).then(|| view.endpoints[0].clone())
    })
    .await;
    assert_eq!((endpoint.failures, endpoint.health), (0, EndpointHealth::Healthy));
    closed.notified().await;
    eventually("its connections are closed", async || {
        (upstream(&gateway, "broker").await.endpoints[0].pool.open == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn b5_an_upstream_that_stalls_inside_its_answer_is_cut_off() {
    let go = Arc::new(Notify::new());
    go.notify_one();
    let backend = Backend::start(move |_| {
        let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun".to_vec();
        Reply::Pieces(vec![(begun, Arc::clone(&go)), (Vec::new(), Arc::new(Notify::new()))])
    })
    .await;
    let gateway = gateway_with(&[&backend], |config| config.idle_timeout_seconds = 1).await;
    let answer = http().get(format!("{}/broker/x", gateway.url)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.bytes().await.is_err());
}

#[tokio::test]
async fn b2_a_client_that_stalls_inside_its_body_is_cut_off() {
    let backend = Backend::always("ok").await;
    let gateway =
        gateway_with(&[&backend], |config| config.base.limits.body_timeout_seconds = 1).await;
    let mut raw = Raw::connect(&gateway.url).await;
    raw.send("POST /broker/x HTTP/1.1\r\nhost: gw.test\r\ncontent-length: 9\r\n\r\nbegun").await;
    let answer = raw.read_to_end().await;
    assert_eq!(status(&answer), 408, "{answer}");
    assert_eq!(upstream(&gateway, "broker").await.endpoints[0].failures, 0);
}

/// Bytes that this process has in memory.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Takes and gives any number of bytes without keeping them.
async fn sink_and_source(len: usize) -> std::net::SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    crate::support::backend::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut chunk = vec![0; 64 * 1024];
        let mut taken = 0;
        while taken < len {
            taken += stream.read(&mut chunk).await.unwrap();
        }
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..len / chunk.len() {
            stream.write_all(&chunk).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn b1_a_large_body_needs_no_memory_in_either_direction() {
    const LEN: usize = 64 * 1024 * 1024;
    let address = sink_and_source(LEN).await;
    let backend = Backend::always("").await.renamed(address);
    let gateway =
        gateway_with(&[&backend], |config| config.base.limits.max_body_bytes = 1 << 40).await;
    let piece = bytes::Bytes::from(vec![b'x'; 64 * 1024]);
    let pieces = (0..LEN / piece.len()).map(move |_| Ok::<_, std::io::Error>(piece.clone()));
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let before = resident_bytes();
    let answer = http()
        .post(format!("{}/broker/x", gateway.url))
        .header("content-length", LEN)
        .body(body)
        .timeout(Duration::from_secs(60))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let mut peak = resident_bytes();
    let mut received = 0;
    let mut chunks = answer.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        received += chunk.unwrap().len();
        peak = peak.max(resident_bytes());
    }
    assert_eq!(received, LEN);
    let grown = peak.saturating_sub(before);
    assert!(grown < LEN / 2, "{grown} bytes more than before");
}

#[tokio::test]
async fn a_connection_is_used_again_after_a_whole_answer() {
    let backend = Backend::start(|_| Reply::Bytes(response("200 OK", "ok"))).await;
    let gateway = gateway(&[&backend]).await;
    for _ in 0..20 {
        let answer = http().get(format!("{}/broker/x", gateway.url)).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "ok");
    }
    assert!(backend.connections() <= 2, "{}", backend.connections());
}

#[tokio::test]
async fn p2_a_connection_that_is_old_enough_is_replaced() {
    let backend = Backend::always("ok").await;
    let gateway = gateway_with(&[&backend], |config| config.pool.max_age_seconds = 0).await;
    for _ in 0..3 {
        let answer = http().get(format!("{}/broker/x", gateway.url)).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "ok");
    }
    assert_eq!(backend.connections(), 3);
}
