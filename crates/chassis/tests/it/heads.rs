//! Heads that never become a request, and what is told to whoever sent them.

use api::headers;
use api::problem::ProblemDetails;

use crate::raw::{Answer, REQUEST, Raw};
use crate::running;

#[track_caller]
fn check(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status(), status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some(headers::PROBLEM_JSON), "{answer:?}");
    assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
    assert_eq!(answer.header(headers::NODE), Some("trial-1"), "{answer:?}");
    assert!(answer.header("date").is_some(), "{answer:?}");
    let details: ProblemDetails = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((details.status, details.code.as_str()), (status, code));
    assert_eq!(details.trace_id.as_deref(), answer.header(headers::TRACE_ID));
    assert_eq!(details.trace_id.unwrap().len(), 32);
}

fn malformed() -> Vec<(Vec<u8>, u16, &'static str)> {
    let long = [b"GET / HTTP/1.1\r\nx: ".as_slice(), &[b'y'; 128 * 1024]].concat();
    let target = [b"GET /".as_slice(), &[b'y'; 128 * 1024], b" HTTP/1.1\r\n\r\n"].concat();
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200)).into_bytes();
    let two = b"POST /echo HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx".to_vec();
    vec![
        (b"GARBAGE\r\n\r\n".to_vec(), 400, "invalid-request"),
        (b"\x16\x03\x01\x00\x05hello".to_vec(), 400, "invalid-request"),
        (b"GET / HTTP/1.1\r\na b: c\r\n\r\n".to_vec(), 400, "invalid-request"),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n".to_vec(), 400, "invalid-request"),
        (b"GET /items?match=orders.> HTTP/1.1\r\n\r\n".to_vec(), 400, "invalid-request"),
        (two, 400, "invalid-request"),
        (long, 431, "head-too-large"),
        (target, 431, "head-too-large"),
        (many, 431, "head-too-large"),
    ]
}

#[tokio::test]
async fn a_head_that_cannot_be_read_is_answered_with_a_problem() {
    let server = running(|_| ()).await;
    for (head, status, code) in malformed() {
        let mut raw = Raw::connect(&server).await;
        raw.send(&head).await;
        check(&raw.answer().await, status, code);
        assert!(raw.until_closed().await.is_empty());
    }
}

#[tokio::test]
async fn so_is_one_after_a_request_or_right_behind_it() {
    let server = running(|_| ()).await;
    for (head, status, code) in malformed() {
        let mut raw = Raw::connect(&server).await;
        raw.send(REQUEST).await;
        assert_eq!(raw.answer().await.body, "7");
        raw.send(&head).await;
        check(&raw.answer().await, status, code);
    }
    let mut raw = Raw::connect(&server).await;
    raw.send(&[REQUEST, b"GARBAGE\r\n\r\n"].concat()).await;
    let text = String::from_utf8(raw.until_closed().await).unwrap();
    let (first, second) = text.split_once("\r\n\r\n7").unwrap();
    assert!(first.starts_with("HTTP/1.1 200") && second.starts_with("HTTP/1.1 400"), "{text}");
    assert!(second.contains("\"code\":\"invalid-request\""), "{text}");
}

#[tokio::test]
async fn a_head_that_takes_too_long_is_answered_with_a_problem() {
    let server = running(|base| base.limits.header_timeout_seconds = 1).await;
    for beginning in [&b"P"[..], b"PRI * HT", b"GET /items/7 HT", b"GET / HTTP/1.1\r\nx: y"] {
        let mut raw = Raw::connect(&server).await;
        raw.send(beginning).await;
        check(&raw.answer().await, 408, "request-timeout");
        assert!(raw.until_closed().await.is_empty());
    }
    // Nobody asked anything: an answer would be taken for that to the next request.
    assert!(Raw::connect(&server).await.until_closed().await.is_empty());
}

#[tokio::test]
async fn what_a_service_says_is_not_touched_whatever_it_looks_like() {
    let server = running(|_| ()).await;
    let lookalike = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    for body in [lookalike.to_owned(), lookalike.repeat(20_000)] {
        let mut raw = Raw::connect(&server).await;
        let head = format!("POST /echo HTTP/1.1\r\ncontent-length: {}\r\n\r\n", body.len());
        for _ in 0..3 {
            raw.send(head.as_bytes()).await;
            raw.send(body.as_bytes()).await;
            assert!(raw.answer().await.body == body);
        }
    }
}
