//! What is sent again, where, and with what.

use client::Outcome;
use client::http::{Client, Config, Path};
use http::Method;
use telemetry::metrics::{Format, Registry};
use telemetry::testing::record;
use telemetry::trace::{InSpan as _, Span};

use crate::peer::{Peer, Step, answer_with, client, nowhere, ok, problem};

#[tokio::test]
async fn a_read_goes_to_another_endpoint_when_one_is_busy() {
    let busy = Peer::start([problem(503, "overloaded")]).await;
    let well = Peer::start([ok("fine")]).await;
    let client = client(&[&busy, &well]);
    for _ in 0..10 {
        let reply = client.call(Method::GET, "/x").send().await.unwrap();
        assert_eq!(reply.body, "fine");
    }
    assert_eq!(well.seen().len(), 10);
    for request in well.seen() {
        // A repetition says so; the first attempt leaves retrying to the next hop.
        let attempt = request.header("x-attempt");
        assert!(matches!(attempt, None | Some("2")), "{attempt:?}");
    }
}

#[tokio::test]
async fn the_deadline_travels_and_shrinks() {
    let peer = Peer::start([Step::HangUp, ok("fine")]).await;
    client(&[&peer]).call(Method::GET, "/x").send().await.unwrap();
    let left: Vec<u64> = peer
        .seen()
        .iter()
        .map(|request| request.header("x-deadline-ms").unwrap().parse().unwrap())
        .collect();
    assert_eq!(left.len(), 2);
    assert!(left[1] <= left[0] && left[0] <= 15_000, "{left:?}");
}

#[tokio::test]
async fn a_write_that_was_never_sent_goes_to_another_endpoint() {
    let peer = Peer::start([ok("stored")]).await;
    let urls = [nowhere().await, peer.url()];
    for _ in 0..5 {
        let client = Client::new(Config::default(), urls.clone()).unwrap();
        let reply = client.call(Method::POST, "/x").body("text/plain", "m").send().await;
        assert_eq!(reply.unwrap().body, "stored");
    }
    assert_eq!(peer.seen().len(), 5);
}

#[tokio::test]
async fn a_write_that_may_have_arrived_is_not_sent_again_unless_it_has_a_key() {
    let peer = Peer::start([Step::HangUp, Step::HangUp, ok("stored")]).await;
    let client = client(&[&peer]);
    let error = client.call(Method::POST, "/x").body("text/plain", "m").send().await.unwrap_err();
    assert_eq!((&*error.code, error.outcome), ("indeterminate", Outcome::Unknown));
    assert_eq!(peer.seen().len(), 1);
    let keyed = client.call(Method::POST, "/x").body("text/plain", "m").idempotency_key("k-1");
    assert_eq!(keyed.send().await.unwrap().body, "stored");
    let seen = peer.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen[1..].iter().all(|request| request.header("idempotency-key") == Some("k-1")));
    assert!(seen.iter().all(|request| request.body == "m"));
}

#[tokio::test]
async fn a_refusal_before_anything_was_done_is_no_reason_to_give_up() {
    let peer = Peer::start([problem(503, "no-leader"), ok("stored")]).await;
    let call = client(&[&peer]).call(Method::POST, "/x").body("text/plain", "m");
    assert_eq!(call.send().await.unwrap().body, "stored");
    // A 503 of somebody else promises nothing.
    let proxy = Peer::start([answer_with(503, "", "busy"), ok("stored")]).await;
    let call = client(&[&proxy]).call(Method::POST, "/x").body("text/plain", "m");
    assert_eq!(call.send().await.unwrap_err().outcome, Outcome::Unknown);
    assert_eq!(proxy.seen().len(), 1);
}

#[tokio::test]
async fn half_an_answer_is_no_answer() {
    let half = Step::Send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".into());
    let peer = Peer::start([half, ok("the whole")]).await;
    let reply = client(&[&peer]).call(Method::GET, "/x").send().await.unwrap();
    assert_eq!(reply.body, "the whole");
}

#[tokio::test]
async fn attempts_are_few() {
    let peer = Peer::start([Step::HangUp]).await;
    client(&[&peer]).call(Method::GET, "/x").send().await.unwrap_err();
    assert_eq!(peer.seen().len(), 3);
}

#[tokio::test]
async fn every_attempt_is_a_span_below_the_request() {
    let recorder = record();
    let peer = Peer::start([Step::HangUp, ok("fine")]).await;
    let client = client(&[&peer]);
    let request = Span::server("GET /outer").start();
    let path = Path::fill("/v1/topics/{topic}", &["flights"]).unwrap();
    client.call(Method::GET, path).send().in_span(&request).await.unwrap();
    let context = request.context();
    request.end();
    let spans = recorder.trace(context.trace_id);
    let attempts: Vec<_> = spans.iter().filter(|span| span.kind == "client").collect();
    assert_eq!(attempts.len(), 2);
    assert!(attempts.iter().all(|span| span.parent == Some(context.span_id)));
    assert!(attempts.iter().all(|span| span.name == "GET /v1/topics/{topic}"));
    assert!(attempts[0].failed && !attempts[1].failed);
    assert_eq!(attempts[1].attributes["http.request.resend_count"], "1");
    assert_eq!(attempts[1].attributes["http.response.status_code"], "200");
    let seen = peer.seen();
    for (request, span) in seen.iter().zip(attempts) {
        let traceparent = request.header("traceparent").unwrap();
        assert!(traceparent.contains(&span.context.span_id.to_string()), "{traceparent}");
    }
}

#[tokio::test]
async fn every_attempt_is_measured_with_its_outcome() {
    let registry = Registry::default();
    telemetry::register_client_metrics(&registry);
    let peer = Peer::start([Step::HangUp, ok("fine"), problem(404, "key-not-found")]).await;
    let client = client(&[&peer]);
    client.call(Method::GET, "/x").send().await.unwrap();
    client.call(Method::PUT, "/x").send().await.unwrap_err();
    let port = peer.url().port().unwrap();
    let text = registry.encode(Format::OpenMetrics);
    for (method, status, error) in
        [("GET", "", "connection_lost"), ("GET", "200", ""), ("PUT", "404", "404")]
    {
        let line = format!(
            "http_client_request_duration_seconds_count{{http_request_method=\"{method}\",\
             server_address=\"127.0.0.1\",server_port=\"{port}\",\
             http_response_status_code=\"{status}\",error_type=\"{error}\"}} 1\n"
        );
        assert!(text.contains(&line), "{line} in\n{text}");
    }
}

#[tokio::test]
async fn a_peer_that_names_a_date_is_waited_for() {
    let date = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let busy = |until: &str| {
        let headers = format!("{date}retry-after: Sun, 06 Nov 1994 {until} GMT\r\n");
        answer_with(503, &headers, r#"{"code":"overloaded","detail":"later"}"#)
    };
    let peer = Peer::start([busy("08:49:37"), ok("fine"), busy("09:49:37")]).await;
    let client = client(&[&peer]);
    assert_eq!(client.call(Method::GET, "/x").send().await.unwrap().body, "fine");
    // An hour is more than the call has: its caller is told, and nobody waits.
    let error = client.call(Method::GET, "/x").send().await.unwrap_err();
    assert_eq!(error.retry_after, Some(std::time::Duration::from_secs(3600)));
    assert_eq!(peer.seen().len(), 3);
}
