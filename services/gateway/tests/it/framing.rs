//! Rows F1 to F8: one message is one message on both sides.

use crate::support::backend::response;
use crate::support::raw::{Raw, exchange, get, status};
use crate::support::{Backend, Reply, gateway, http};

#[tokio::test]
async fn f1_a_request_with_two_framings_has_one_upstream_and_ends_the_connection() {
    let backend = Backend::always("ok").await;
    let gateway = gateway(&[&backend]).await;
    let hidden = "0\r\n\r\nGET /broker/hidden HTTP/1.1\r\nhost: gw.test\r\n\r\n";
    let both = [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
    ];
    for (index, framing) in both.into_iter().enumerate() {
        let request =
            format!("POST /broker/shown HTTP/1.1\r\nhost: gw.test\r\n{framing}\r\n{hidden}");
        let answer = exchange(&gateway.url, request).await;
        assert!(matches!(status(&answer), 200 | 400), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "a second request was served: {answer}");
        let seen = backend.seen();
        assert!(seen.len() <= index + 1, "{seen:?}");
        for request in &seen {
            assert!(!request.head.contains("hidden"), "{}", request.head);
            let framings =
                request.header("content-length").len() + request.header("transfer-encoding").len();
            assert_eq!(framings, 1, "{}", request.head);
        }
    }
}

#[tokio::test]
async fn f2_a_transfer_coding_that_is_not_chunked_last_is_refused() {
    let backend = Backend::always("ok").await;
    let gateway = gateway(&[&backend]).await;
    for (version, coding) in [("1.1", "gzip"), ("1.1", "chunked, gzip"), ("1.0", "chunked")] {
        let request = format!(
            "POST /broker/x HTTP/{version}\r\nhost: gw.test\r\ntransfer-encoding: {coding}\r\n\r\n\
             0\r\n\r\nGET /broker/hidden HTTP/1.1\r\nhost: gw.test\r\n\r\n"
        );
        let answer = exchange(&gateway.url, request).await;
        assert_eq!(status(&answer), 400, "{coding}: {answer}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{answer}");
    }
    assert!(backend.seen().is_empty());
}

#[tokio::test]
async fn f3_a_length_is_said_once_and_is_a_number() {
    let backend = Backend::always("ok").await;
    let gateway = gateway(&[&backend]).await;
    let post = |lengths: &str| {
        format!(
            "POST /broker/x HTTP/1.1\r\nhost: gw.test\r\nconnection: close\r\n{lengths}\r\nhello"
        )
    };
    for bad in [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5, 6\r\n",
        "content-length: +5\r\n",
        "content-length: -5\r\n",
        "content-length: 0x5\r\n",
        "content-length: 5 5\r\n",
        "content-length: five\r\n",
    ] {
        let answer = exchange(&gateway.url, post(bad)).await;
        assert_eq!(status(&answer), 400, "{bad}: {answer}");
    }
    assert!(backend.seen().is_empty());
    let twice = post("content-length: 5\r\ncontent-length: 5\r\n");
    assert_eq!(status(&exchange(&gateway.url, twice).await), 200);
    let seen = backend.only();
    assert_eq!((seen.header("content-length"), &seen.body[..]), (vec!["5"], &b"hello"[..]));
}

#[tokio::test]
async fn f4_a_response_with_two_framings_is_read_as_chunks_and_ends_its_connection() {
    let backend = Backend::start(|_| {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n";
        Reply::Bytes(format!("{head}5\r\nhello\r\n0\r\n\r\n").into_bytes())
    })
    .await;
    let gateway = gateway(&[&backend]).await;
    for _ in 0..2 {
        let answer = http().get(format!("{}/broker/x", gateway.url)).send().await.unwrap();
        assert_eq!(answer.headers().get("content-length"), None);
        assert_eq!(answer.text().await.unwrap(), "hello");
    }
    assert_eq!(backend.connections(), 2);
}

#[tokio::test]
async fn f5_a_response_that_is_cut_off_is_cut_off_for_the_client() {
    let cut = [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n20\r\nhello",
    ];
    for response in cut {
        let backend = Backend::start(|_| Reply::ThenClose(response.as_bytes().to_vec())).await;
        let gateway = gateway(&[&backend]).await;
        let answer = http().get(format!("{}/broker/x", gateway.url)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.bytes().await.is_err(), "it ended as if it was complete: {response}");
        let raw = exchange(&gateway.url, get("/broker/x", "")).await;
        assert!(!raw.ends_with("0\r\n\r\n"), "{raw}");
        // What has begun is never sent again.
        assert_eq!(backend.seen().len(), 2, "{response}");
    }
}

#[tokio::test]
async fn f6_an_early_answer_does_not_turn_the_body_into_requests() {
    let backend = Backend::early(|seen| match seen.request_line().contains("/x ") {
        true => Reply::ThenClose(response("413 Payload Too Large", "no")),
        false => Reply::ok("after"),
    })
    .await;
    let gateway = gateway(&[&backend]).await;
    let hidden = "GET /broker/hidden HTTP/1.1\r\nhost: gw.test\r\n\r\n".repeat(4000);
    let len = hidden.len();
    let mut raw = Raw::connect(&gateway.url).await;
    let head = format!("POST /broker/x HTTP/1.1\r\nhost: gw.test\r\ncontent-length: {len}\r\n\r\n");
    raw.send(head).await;
    assert_eq!(status(&raw.read_head().await), 413);
    // The rest of the body is either drained or the connection ends; a request after it is
    // served only in the first case.
    raw.try_send(hidden).await;
    raw.try_send(get("/broker/after", "")).await;
    let rest = raw.read_to_end().await;
    assert!(rest.matches("HTTP/1.1 ").count() <= 1, "a part of the body was served: {rest}");
    assert!(backend.seen().iter().all(|seen| !seen.head.contains("hidden")));
}

#[tokio::test]
async fn f6_a_refusal_of_the_gateway_itself_does_neither() {
    let backend = Backend::always("ok").await;
    let gateway = gateway(&[&backend]).await;
    let hidden = "GET /broker/hidden HTTP/1.1\r\nhost: gw.test\r\n\r\n".repeat(2000);
    let len = hidden.len();
    let refused =
        format!("POST /nowhere HTTP/1.1\r\nhost: gw.test\r\ncontent-length: {len}\r\n\r\n{hidden}");
    let mut raw = Raw::connect(&gateway.url).await;
    raw.try_send(refused).await;
    let answer = raw.read_to_end().await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert_eq!(status(&answer), 404);
    assert!(backend.seen().is_empty());
}

#[tokio::test]
async fn f7_versions_are_translated() {
    let backend = Backend::always("ok").await;
    let gateway = gateway(&[&backend]).await;
    let old = "GET /broker/old HTTP/1.0\r\nhost: old.test\r\n\r\n";
    let answer = exchange(&gateway.url, old).await;
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    assert!(!answer.to_ascii_lowercase().contains("transfer-encoding"), "{answer}");

    let h2 = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(
        ["a", "b"].map(Ok::<_, std::io::Error>),
    ));
    let url = format!("{}/broker/new", gateway.url);
    let answer = h2.post(url).body(body).send().await.unwrap();
    assert_eq!((answer.version(), answer.status().as_u16()), (http::Version::HTTP_2, 200));
    let seen = &backend.seen()[1];
    assert_eq!(seen.request_line(), "POST /new HTTP/1.1");
    assert_eq!(seen.header("transfer-encoding"), ["chunked"]);
    assert_eq!(seen.header("host"), [gateway.url.strip_prefix("http://").unwrap()]);
    assert_eq!(backend.seen()[0].header("host"), ["old.test"]);
}

#[tokio::test]
async fn f8_answers_without_a_body_keep_their_length_and_the_connection() {
    let backend = Backend::start(|seen| {
        Reply::Bytes(match seen.request_line().split(' ').nth(1).unwrap() {
            "/head" => b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n".to_vec(),
            "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
            "/304" => b"HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\n\r\n".to_vec(),
            _ => b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlast".to_vec(),
        })
    })
    .await;
    let gateway = gateway(&[&backend]).await;
    let mut raw = Raw::connect(&gateway.url).await;
    for (method, path, code) in [("HEAD", "head", 200), ("GET", "204", 204), ("GET", "304", 304)] {
        raw.send(format!("{method} /broker/{path} HTTP/1.1\r\nhost: gw.test\r\n\r\n")).await;
        let head = raw.read_head().await;
        assert_eq!(status(&head), code);
        assert_eq!(head.contains("content-length: 1234"), path == "head", "{head}");
    }
    raw.send(get("/broker/last", "")).await;
    let last = raw.read_to_end().await;
    assert!(last.ends_with("\r\n\r\nlast"), "{last}");
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn an_upstream_that_answers_nonsense_is_a_bad_gateway() {
    let backend = Backend::start(|_| Reply::ThenClose(b"SSH-2.0-OpenSSH\r\n".to_vec())).await;
    let gateway = gateway(&[&backend]).await;
    let answer = http().get(format!("{}/broker/x", gateway.url)).send().await.unwrap();
    assert_eq!(answer.status(), 502);
    assert_eq!(crate::support::problem(answer).await.code, "bad-gateway");
}

#[tokio::test]
async fn h8_an_interim_answer_is_not_the_answer() {
    let backend = Backend::start(|_| {
        Reply::Bytes(
            b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
                .to_vec(),
        )
    })
    .await;
    let gateway = gateway(&[&backend]).await;
    let answer = http().get(format!("{}/broker/x", gateway.url)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.unwrap(), "ok");
}
