//! Rows U1 to U3: a tunnel begins when both sides have agreed on it.

use crate::support::raw::{Raw, get, status};
use crate::support::{Backend, Reply, eventually, gateway, gateway_with, upstream};

const UPGRADE: &str = "GET /broker/ws HTTP/1.1\r\nhost: gw.test\r\nconnection: keep-alive, Upgrade\r\n\
                       upgrade: websocket\r\nsec-websocket-key: x\r\n\r\n";

fn switch(protocol: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n\
         sec-websocket-accept: y\r\n\r\n"
    )
    .into_bytes()
}

#[tokio::test]
async fn u1_bytes_flow_both_ways_after_an_agreed_switch() {
    let backend = Backend::start(|_| Reply::ThenEcho(switch("WebSocket"))).await;
    let gateway = gateway(&[&backend]).await;
    let mut raw = Raw::connect(&gateway.url).await;
    raw.send(UPGRADE).await;
    let head = raw.read_head().await;
    assert_eq!(status(&head), 101);
    for field in ["connection: upgrade", "upgrade: WebSocket", "sec-websocket-accept: y"] {
        assert!(head.contains(field), "{field}: {head}");
    }
    for message in ["first.", "\u{0}\u{1}GET / HTTP/1.1\r\n\r\n."] {
        raw.send(message).await;
        assert_eq!(raw.read_until(".").await, message.split_inclusive('.').next().unwrap());
        if message.len() > 10 {
            raw.read_until(".").await;
        }
    }
    let seen = backend.only();
    assert_eq!(seen.header("connection"), ["upgrade"]);
    assert_eq!(seen.header("upgrade"), ["websocket"]);
    assert_eq!(seen.header("sec-websocket-key"), ["x"]);
    drop(raw);
    eventually("the tunnel ends with the client", async || {
        (upstream(&gateway, "broker").await.endpoints[0].pool.open == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn u1_without_a_101_the_connection_still_speaks_http() {
    let backend = Backend::always("no tunnel").await;
    let gateway = gateway(&[&backend]).await;
    let mut raw = Raw::connect(&gateway.url).await;
    raw.send(UPGRADE).await;
    assert_eq!(status(&raw.read_until("no tunnel").await), 200);
    // CVE-2026-2833 elsewhere: these bytes went to the upstream as they were.
    raw.send(get("/nowhere", "")).await;
    assert_eq!(status(&raw.read_to_end().await), 404);
    assert_eq!(backend.seen().len(), 1);
}

#[tokio::test]
async fn u2_a_switch_that_was_not_asked_for_is_a_bad_gateway() {
    let backend = Backend::start(|_| Reply::ThenEcho(switch("other"))).await;
    let gateway = gateway(&[&backend]).await;
    for request in [UPGRADE.to_owned(), get("/broker/x", "")] {
        let mut raw = Raw::connect(&gateway.url).await;
        raw.send(request).await;
        assert_eq!(status(&raw.read_head().await), 502);
    }
    assert_eq!(backend.seen().len(), 2, "nothing is repeated");
    eventually("its connections are closed", async || {
        (upstream(&gateway, "broker").await.endpoints[0].pool.open == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn u3_an_upgrade_is_not_repeated_and_ends_when_it_is_idle() {
    let backend = Backend::start(|seen| match seen.index {
        0 => Reply::status("503 Service Unavailable", ""),
        _ => Reply::ThenEcho(switch("websocket")),
    })
    .await;
    let gateway = gateway_with(&[&backend], |config| config.idle_timeout_seconds = 1).await;
    let mut raw = Raw::connect(&gateway.url).await;
    raw.send(UPGRADE).await;
    assert_eq!(status(&raw.read_head().await), 503);
    assert_eq!(backend.seen().len(), 1);
    let mut raw = Raw::connect(&gateway.url).await;
    raw.send(UPGRADE).await;
    assert_eq!(status(&raw.read_head().await), 101);
    assert_eq!(raw.read_to_end().await, "");
}
