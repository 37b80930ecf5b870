//! What the accept loop does with peers that are slow, silent, many or modern.

use std::time::Duration;

use axum::Router;
use axum::routing::post;
use chassis::extract::Body;
use reqwest::Client;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::raw::{PATIENCE, REQUEST, Raw};
use crate::running;
use crate::service::{self, Config};

#[tokio::test]
async fn one_byte_at_a_time_does_not_buy_more_time() {
    let server = running(|base| base.limits.header_timeout_seconds = 1).await;
    let mut raw = Raw::connect(&server).await;
    let drip = async {
        for byte in b"GET / HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'y')) {
            if raw.0.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, drip).await.expect("the connection breaks while the head still arrives");
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let server = running(|_| ()).await;
    let mut raw = Raw::connect(&server).await;
    for _ in 0..3 {
        raw.send(REQUEST).await;
        assert_eq!(raw.answer().await.body, "7");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = running(|base| base.limits.idle_timeout_seconds = 1).await;
    let mut raw = Raw::connect(&server).await;
    raw.send(REQUEST).await;
    assert_eq!(raw.answer().await.body, "7");
    assert!(raw.until_closed().await.is_empty());
}

#[tokio::test]
async fn a_stream_may_be_silent_for_longer_than_a_connection_may_be_idle() {
    let server = running(|base| base.limits.idle_timeout_seconds = 1).await;
    let whole = reqwest::get(format!("{}/quiet", server.url)).await.unwrap();
    assert_eq!(whole.text().await.unwrap(), "first,last");
}

#[tokio::test]
async fn http_2_works_without_an_upgrade() {
    let server = running(|_| ()).await;
    let client = Client::builder().http2_prior_knowledge().build().unwrap();
    let response = client.get(format!("{}/items/7", server.url)).send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    assert_eq!(response.text().await.unwrap(), "7");
}

#[tokio::test]
async fn a_connection_beyond_the_bound_waits_for_its_turn() {
    let server = running(|base| base.limits.max_connections = 1).await;
    let mut first = Raw::connect(&server).await;
    first.send(REQUEST).await;
    assert_eq!(first.answer().await.body, "7");
    let mut second = Raw::connect(&server).await;
    second.send(REQUEST).await;
    first.send(REQUEST).await;
    assert_eq!(first.answer().await.body, "7");
    drop(first);
    assert_eq!(second.answer().await.body, "7");
}

#[tokio::test]
async fn a_body_that_stops_arriving_is_given_up() {
    let server = running(|base| base.limits.body_timeout_seconds = 1).await;
    for part in ["", "half"] {
        let mut raw = Raw::connect(&server).await;
        let head = "POST /echo HTTP/1.1\r\nhost: trial\r\ncontent-length: 10\r\n\r\n";
        raw.send(format!("{head}{part}").as_bytes()).await;
        assert_eq!(raw.answer().await.status(), 408, "{part:?}");
    }
}

#[tokio::test]
async fn a_body_is_the_same_in_however_many_pieces_it_comes() {
    let server = running(|_| ()).await;
    let mut raw = Raw::connect(&server).await;
    for len in [0, 1, 10, 16 * 1024, 16 * 1024 + 1, 100_000] {
        let body: String = ('a'..='z').cycle().take(len).collect();
        for at in [0, 1, 9, 5_000, 16 * 1024, len].into_iter().filter(|at| *at <= len) {
            let head =
                format!("POST /echo HTTP/1.1\r\nhost: trial\r\ncontent-length: {len}\r\n\r\n");
            raw.send(head.as_bytes()).await;
            for piece in [&body[..at], &body[at..]] {
                tokio::task::yield_now().await;
                raw.send(piece.as_bytes()).await;
            }
            assert!(raw.answer().await.body == body, "{len} bytes in pieces at {at}");
        }
    }
}

#[tokio::test]
async fn peers_may_stream_without_end() {
    let server = chassis::testing::start(Config::default(), |context| async move {
        let mut service = service::start(context).await?;
        let length = post(|Body(body): Body| async move { body.len().to_string() });
        service.peer = Some(Router::new().route("/length", length));
        Ok(service)
    })
    .await;
    let len = Config::default().base.limits.max_body_bytes as usize + 1;
    let send = async |url: &str, path: &str| {
        Client::new().post(format!("{url}{path}")).body(vec![7; len]).send().await.unwrap()
    };
    let answer = send(&server.peer_url, "/length").await;
    assert_eq!(answer.text().await.unwrap(), len.to_string());
    assert_eq!(send(&server.url, "/echo").await.status(), 413);
}
