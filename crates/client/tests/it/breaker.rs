//! Which endpoints are called.

use std::sync::Arc;

use client::Outcome;
use client::http::{Client, Config};
use http::Method;
use tokio::sync::watch;

use crate::peer::{Peer, client, nowhere, ok, problem};

#[tokio::test]
async fn a_dead_endpoint_is_left_alone_after_a_few_failures() {
    let client = Client::new(Config::default(), [nowhere().await]).unwrap();
    let mut codes = Vec::new();
    for _ in 0..4 {
        let call = client.call(Method::GET, "/x").timeout(std::time::Duration::from_millis(300));
        let error = call.send().await.unwrap_err();
        assert_eq!(error.outcome, Outcome::NotDone);
        codes.push(error.code);
    }
    assert_eq!((&*codes[0], &*codes[3]), ("unavailable", "breaker-open"));
}

#[tokio::test]
async fn a_gateway_without_an_upstream_is_itself_well() {
    let peer = Peer::start([problem(503, "no-endpoint")]).await;
    let client = client(&[&peer]);
    for _ in 0..5 {
        let error = client.call(Method::POST, "/broker").send().await.unwrap_err();
        assert_eq!(&*error.code, "no-endpoint");
    }
    assert!(5 <= peer.seen().len(), "its breaker stayed closed");
}

#[tokio::test]
async fn a_new_endpoint_gets_calls_at_once_and_a_removed_one_none() {
    let old = Peer::start([ok("old")]).await;
    let new = Peer::start([ok("new")]).await;
    let (publish, source) = watch::channel(Arc::new(vec![]));
    let client = Client::following(Config::default(), source).unwrap();
    let error = client.call(Method::GET, "/x").send().await.unwrap_err();
    assert_eq!(&*error.code, "no-endpoint");
    publish.send_replace(Arc::new(vec![old.url()]));
    assert_eq!(client.call(Method::GET, "/x").send().await.unwrap().body, "old");
    publish.send_replace(Arc::new(vec![new.url()]));
    assert_eq!(client.call(Method::GET, "/x").send().await.unwrap().body, "new");
    assert_eq!(client.endpoints(), [new.url()]);
}

#[tokio::test]
async fn a_base_url_may_have_a_path() {
    let peer = Peer::start([ok("")]).await;
    for base in ["broker", "broker/"] {
        let base = peer.url().join(base).unwrap();
        let client = Client::new(Config::default(), [base]).unwrap();
        client.call(Method::GET, "/v1/topics").send().await.unwrap();
    }
    assert!(peer.seen().iter().all(|request| request.line == "GET /broker/v1/topics HTTP/1.1"));
}
