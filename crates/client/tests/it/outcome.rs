//! What a failed call says about its effect.

use std::time::Duration;

use client::Outcome;
use client::http::{Client, Config};
use http::Method;

use crate::peer::{Peer, Step, answer_with, client, nowhere, ok, problem};

#[tokio::test]
async fn a_refusal_is_final_and_carries_everything_the_service_said() {
    let body = r#"{"code":"queue-full","detail":"wait or raise the capacity"}"#;
    let refusal = answer_with(429, "x-trace-id: abc\r\n", body);
    let peer = Peer::start([refusal]).await;
    let error = client(&[&peer]).call(Method::PUT, "/x").send().await.unwrap_err();
    assert_eq!(error.status.unwrap(), 429);
    assert_eq!((&*error.code, &*error.detail), ("queue-full", "wait or raise the capacity"));
    assert_eq!((error.trace_id.as_deref(), error.outcome), (Some("abc"), Outcome::NotDone));
    assert!(error.is_transient());
    assert_eq!(peer.seen().len(), 1);
}

#[tokio::test]
async fn an_earlier_attempt_that_may_have_worked_is_not_forgotten() {
    let peer = Peer::start([Step::HangUp, problem(503, "no-leader")]).await;
    let error = client(&[&peer]).call(Method::PUT, "/x").send().await.unwrap_err();
    assert_eq!((&*error.code, error.outcome), ("no-leader", Outcome::Unknown));
    let only_refused = Peer::start([problem(503, "no-leader")]).await;
    let error = client(&[&only_refused]).call(Method::PUT, "/x").send().await.unwrap_err();
    assert_eq!(error.outcome, Outcome::NotDone);
}

#[tokio::test]
async fn a_read_is_never_half_done() {
    let peer = Peer::start([Step::HangUp]).await;
    let error = client(&[&peer]).call(Method::GET, "/x").send().await.unwrap_err();
    assert_eq!((&*error.code, error.outcome), ("indeterminate", Outcome::NotDone));
}

#[tokio::test]
async fn silence_ends_with_the_deadline() {
    let peer = Peer::start([Step::Hang]).await;
    let call = client(&[&peer]).call(Method::POST, "/x").timeout(Duration::from_millis(100));
    let error = call.send().await.unwrap_err();
    assert_eq!((&*error.code, error.outcome), ("indeterminate", Outcome::Unknown));
    assert!(error.to_string().contains("did not answer in time"), "{error}");
}

#[tokio::test]
async fn nobody_there_is_certainly_not_done() {
    let client = Client::new(Config::default(), [nowhere().await]).unwrap();
    let error = client.call(Method::POST, "/x").send().await.unwrap_err();
    assert_eq!((&*error.code, error.outcome), ("unavailable", Outcome::NotDone));
    assert!(error.to_string().contains("is it running"), "{error}");
}

#[tokio::test]
async fn an_answer_too_large_to_keep_is_refused() {
    let peer = Peer::start([ok(&"x".repeat(2000))]).await;
    let config = Config { max_reply_bytes: 1000, ..Config::default() };
    let client = Client::new(config, [peer.url()]).unwrap();
    let error = client.call(Method::GET, "/x").send().await.unwrap_err();
    assert!(error.to_string().contains("larger than 1000 bytes"), "{error}");
}

#[tokio::test]
async fn a_mistake_in_the_request_is_found_before_it_is_sent() {
    let peer = Peer::start([ok("")]).await;
    let client = client(&[&peer]);
    let error = client.call(Method::GET, "/x").header("x-key", "a\nb").send().await.unwrap_err();
    assert_eq!(&*error.code, "invalid-request");
    assert!(peer.seen().is_empty());
    for bad in ["https://a", "http://a/?q", "ftp://a", "http://user@a"] {
        assert!(Client::new(Config::default(), [bad.parse().unwrap()]).is_err(), "{bad}");
    }
    assert!(Client::new(Config::default(), []).is_err());
}
