//! Answers that are ready before the request's body was read.

use reqwest::Client;
use tokio::task::JoinSet;

use crate::raw::{REQUEST, Raw};
use crate::running;

const SIZES: [usize; 8] = [0, 1, 1_000, 16 * 1024, 65_536, 65_537, 300_000, 9_000_000];

#[tokio::test]
async fn a_pooled_client_never_meets_a_closing_connection() {
    let server = running(|_| ()).await;
    let client = Client::builder().http1_only().build().unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..4 {
        let (client, url) = (client.clone(), server.url.clone());
        tasks.spawn(async move {
            for round in 0..40 {
                let size = SIZES[(task + round) % SIZES.len()];
                for (path, status) in [("nowhere", 404), ("items/7", 405), ("sum", 415)] {
                    let request = client.post(format!("{url}/{path}")).body(vec![b'x'; size]);
                    let request = request.header("content-type", "text/plain");
                    let expected = if size > 8 * 1024 * 1024 { 413 } else { status };
                    let answer = request.send().await.unwrap_or_else(|error| {
                        panic!("{size} bytes to /{path}: {error:?}");
                    });
                    assert_eq!(answer.status(), expected, "{size} bytes to /{path}");
                    let text = answer.text().await.unwrap();
                    assert!(text.contains("\"trace_id\""), "{text}");
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn a_small_rest_is_read_and_the_connection_goes_on() {
    let server = running(|_| ()).await;
    let mut raw = Raw::connect(&server).await;
    for framing in ["content-length: 60000\r\n\r\n", "transfer-encoding: chunked\r\n\r\nea60\r\n"] {
        raw.send(format!("POST /nowhere HTTP/1.1\r\nhost: trial\r\n{framing}").as_bytes()).await;
        raw.send(&[b'x'; 60_000]).await;
        if framing.contains("chunked") {
            raw.send(b"\r\n0\r\n\r\n").await;
        }
        let answer = raw.answer().await;
        assert_eq!((answer.status(), answer.header("connection")), (404, None), "{answer:?}");
        raw.send(REQUEST).await;
        assert_eq!(raw.answer().await.body, "7");
    }
}

#[tokio::test]
async fn a_large_rest_ends_the_connection_and_the_answer_says_so() {
    let server = running(|_| ()).await;
    for version in ["1.0", "1.1"] {
        let mut raw = Raw::connect(&server).await;
        let head = format!(
            "POST /nowhere HTTP/{version}\r\nhost: trial\r\nconnection: keep-alive\r\n\
             content-length: 5000000\r\n\r\n"
        );
        raw.send(head.as_bytes()).await;
        // All of it is sent before the answer is looked at: a reset would overtake the answer.
        raw.send(&vec![b'x'; 5_000_000]).await;
        let answer = raw.answer().await;
        assert_eq!(answer.status(), 404);
        assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
        assert!(raw.until_closed().await.is_empty());
    }
}

#[tokio::test]
async fn a_rest_that_does_not_come_is_not_waited_for() {
    let server = running(|_| ()).await;
    let mut raw = Raw::connect(&server).await;
    raw.send(b"POST /nowhere HTTP/1.1\r\nhost: trial\r\ncontent-length: 10\r\n\r\nhalf").await;
    let answer = raw.answer().await;
    assert_eq!((answer.status(), answer.header("connection")), (404, Some("close")));
}

#[tokio::test]
async fn a_client_that_asks_first_is_not_told_to_go_on_for_nothing() {
    let server = running(|_| ()).await;
    let mut raw = Raw::connect(&server).await;
    let head = "POST /nowhere HTTP/1.1\r\nhost: trial\r\nexpect: 100-continue\r\n\
                content-length: 10\r\n\r\n";
    raw.send(head.as_bytes()).await;
    let answer = raw.answer().await;
    assert_eq!((answer.status(), answer.header("connection")), (404, Some("close")));
}
