//! Rows H1 to H9: which header fields cross the gateway.

use crate::support::raw::{Raw, exchange, get, status};
use crate::support::{Backend, Reply, gateway, gateway_with, http};

#[tokio::test]
async fn h1_h2_connection_fields_end_at_the_gateway_in_both_directions() {
    let backend = Backend::start(|_| {
        Reply::Bytes(
            b"HTTP/1.1 200 OK\r\nconnection: x-back\r\nconnection: keep-alive\r\nx-back: 1\r\n\
              keep-alive: timeout=9\r\nproxy-authenticate: Basic\r\nx-kept: 2\r\n\
              content-length: 2\r\n\r\nok"
                .to_vec(),
        )
    })
    .await;
    let gateway = gateway(&[&backend]).await;
    let request = "GET /broker/x HTTP/1.1\r\nhost: gw.test\r\nconnection: x-one\r\n\
                   connection: close, x-two\r\nx-one: 1\r\nx-two: 2\r\nx-three: 3\r\n\
                   keep-alive: timeout=9\r\nproxy-connection: keep-alive\r\n\
                   proxy-authorization: Basic eA==\r\nupgrade: h2c\r\n\r\n";
    let answer = exchange(&gateway.url, request).await;
    let seen = backend.only();
    for gone in [
        "x-one",
        "x-two",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "connection",
        "upgrade",
    ] {
        assert!(seen.header(gone).is_empty(), "{gone}: {}", seen.head);
    }
    assert_eq!(seen.header("x-three"), ["3"]);
    for gone in ["x-back", "keep-alive: timeout", "proxy-authenticate"] {
        assert!(!answer.contains(gone), "{gone}: {answer}");
    }
    assert!(answer.contains("x-kept: 2"), "{answer}");
}

#[tokio::test]
async fn h3_a_client_cannot_have_our_fields_removed() {
    let backend = Backend::always("ok").await;
    let gateway = gateway(&[&backend]).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = format!(
        "GET /broker/x HTTP/1.1\r\nhost: gw.test\r\n\
         connection: close, x-forwarded-for, authorization, traceparent, host\r\n\
         authorization: Bearer t\r\ntraceparent: {trace}\r\n\r\n"
    );
    let answer = exchange(&gateway.url, request).await;
    assert_eq!(status(&answer), 200);
    let seen = backend.only();
    assert_eq!(seen.header("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.header("authorization"), ["Bearer t"]);
    assert_eq!(seen.header("host"), ["gw.test"]);
    let [traceparent] = seen.header("traceparent")[..] else { panic!("{}", seen.head) };
    assert_eq!(traceparent.split('-').nth(1), trace.split('-').nth(1));
    assert!(answer.contains("x-trace-id: 0af7651916cd43dd8448eb211c80319c"), "{answer}");
}

#[tokio::test]
async fn h4_te_says_trailers_or_nothing() {
    let backend = Backend::always("ok").await;
    let gateway = gateway(&[&backend]).await;
    let te = "te: gzip, trailers\r\n";
    exchange(&gateway.url, get("/broker/x", te)).await;
    exchange(&gateway.url, get("/broker/x", "te: gzip\r\n")).await;
    let seen = backend.seen();
    assert_eq!(seen[0].header("te"), ["trailers"]);
    assert!(seen[1].header("te").is_empty());
}

#[tokio::test]
async fn h5_trailers_cross_in_both_directions() {
    let backend = Backend::start(|_| {
        Reply::Bytes(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
              2\r\nok\r\n0\r\nx-sum: 7\r\nconnection: close\r\n\r\n"
                .to_vec(),
        )
    })
    .await;
    let gateway = gateway(&[&backend]).await;
    let request = "POST /broker/x HTTP/1.1\r\nhost: gw.test\r\nte: trailers\r\n\
                   connection: te, close\r\ntrailer: x-up\r\ntransfer-encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n0\r\nx-up: 9\r\n\r\n";
    let answer = exchange(&gateway.url, request).await;
    let seen = backend.only();
    assert_eq!(seen.header("trailer"), ["x-up"]);
    let body = String::from_utf8(seen.body).unwrap();
    assert!(body.ends_with("0\r\nx-up: 9\r\n\r\n"), "{body:?}");
    assert!(answer.contains("trailer: x-sum"), "{answer}");
    assert!(answer.ends_with("0\r\nx-sum: 7\r\n\r\n"), "{answer:?}");
}

#[tokio::test]
async fn h6_what_a_client_claims_about_itself_is_replaced() {
    let backend = Backend::always("ok").await;
    let gateway = gateway(&[&backend]).await;
    let claims = "forwarded: for=10.9.9.9\r\nx-forwarded-for: 10.9.9.9\r\nx-real-ip: 10.9.9.9\r\n\
                  x-forwarded-proto: https\r\nx-forwarded-host: evil.test\r\n\
                  x-quartet-forwarded-by: broker-9\r\n";
    exchange(&gateway.url, get("/broker/x", claims)).await;
    let seen = backend.only();
    assert!(!seen.head.contains("10.9.9.9"), "{}", seen.head);
    assert!(!seen.head.contains("x-quartet-forwarded-by"), "{}", seen.head);
    assert_eq!(seen.header("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.header("x-forwarded-host"), ["gw.test"]);
    assert_eq!(seen.header("x-forwarded-proto"), ["http"]);
}

#[tokio::test]
async fn h7_an_upload_that_will_be_refused_is_not_asked_for() {
    let backend = Backend::always("ok").await;
    let gateway = gateway_with(&[&backend], |config| {
        config.base.limits.max_body_bytes = 1000;
    })
    .await;
    let post = |len: usize| {
        format!(
            "POST /broker/x HTTP/1.1\r\nhost: gw.test\r\nexpect: 100-continue\r\n\
             connection: close\r\ncontent-length: {len}\r\n\r\n"
        )
    };
    let refused = exchange(&gateway.url, post(1001)).await;
    assert_eq!(status(&refused), 413, "{refused}");
    assert!(!refused.contains(" 100 "), "{refused}");
    assert!(backend.seen().is_empty());

    let mut raw = Raw::connect(&gateway.url).await;
    raw.send(post(5)).await;
    assert!(raw.read_head().await.starts_with("HTTP/1.1 100 "));
    raw.send("hello").await;
    assert_eq!(status(&raw.read_to_end().await), 200);
    let seen = backend.only();
    assert!(seen.header("expect").is_empty(), "{}", seen.head);
    assert_eq!(seen.body, b"hello");
}

#[tokio::test]
async fn h9_encoded_content_is_not_touched() {
    let bytes: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 255, 0, 1];
    let backend = Backend::start(move |_| {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
            bytes.len()
        );
        Reply::Bytes([head.as_bytes(), bytes].concat())
    })
    .await;
    let gateway = gateway(&[&backend]).await;
    let answer = http()
        .get(format!("{}/broker/x", gateway.url))
        .header("accept-encoding", "gzip")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    assert_eq!(&answer.bytes().await.unwrap()[..], bytes);
    assert_eq!(backend.only().header("accept-encoding"), ["gzip"]);
}

#[tokio::test]
async fn who_answered_and_in_which_trace_stays_visible() {
    let backend = Backend::start(|seen| {
        let trace = seen.header("traceparent")[0].split('-').nth(1).unwrap().to_owned();
        Reply::Bytes(
            format!(
                "HTTP/1.1 200 OK\r\nx-quartet-node: broker-7\r\nx-trace-id: {trace}\r\n\
                 content-length: 0\r\n\r\n"
            )
            .into_bytes(),
        )
    })
    .await;
    let gateway = gateway(&[&backend]).await;
    let answer = http().get(format!("{}/broker/x", gateway.url)).send().await.unwrap();
    assert_eq!(answer.headers()["x-quartet-node"], "broker-7");
    let seen = backend.only();
    let trace = answer.headers().get_all("x-trace-id").iter().collect::<Vec<_>>();
    assert_eq!(trace, [seen.header("traceparent")[0].split('-').nth(1).unwrap()]);
    let own = http().get(format!("{}/v1/methods", gateway.url)).send().await.unwrap();
    assert_eq!(own.headers()["x-quartet-node"], "gateway-1");
}

#[tokio::test]
async fn the_deadline_shrinks_on_its_way() {
    let backend = Backend::always("ok").await;
    let gateway = gateway(&[&backend]).await;
    exchange(&gateway.url, get("/broker/x", "x-deadline-ms: 5000\r\n")).await;
    exchange(&gateway.url, get("/broker/x", "")).await;
    exchange(&gateway.url, get("/broker/x", "accept: text/event-stream\r\n")).await;
    let seen = backend.seen();
    let left = |index: usize| {
        seen[index].header("x-deadline-ms").first().map(|left| left.parse::<u64>().unwrap())
    };
    assert!((1..5000).contains(&left(0).unwrap()));
    assert!((1..75_000).contains(&left(1).unwrap()), "ours, when the client has none");
    assert_eq!(left(2), None, "an event stream has no end");
    let late = exchange(&gateway.url, get("/broker/x", "x-deadline-ms: 0\r\n")).await;
    assert_eq!(status(&late), 504);
    let wrong = exchange(&gateway.url, get("/broker/x", "x-deadline-ms: soon\r\n")).await;
    assert_eq!(status(&wrong), 400);
    assert_eq!(backend.seen().len(), 3);
}
