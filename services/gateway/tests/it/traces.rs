//! What a trace shows of a request through the gateway.

use telemetry::metrics::Format;
use telemetry::trace::{TraceContext, TraceId};

use crate::support::{Backend, Reply, eventually, gateway, http};

#[tokio::test]
async fn every_attempt_is_a_span_between_the_server_and_the_upstream() {
    let recorder = telemetry::testing::record();
    let backend = Backend::start(|seen| match seen.index {
        0 => Reply::status("503 Service Unavailable", ""),
        _ => Reply::ok("ok"),
    })
    .await;
    let gateway = gateway(&[&backend]).await;
    let trace_id = TraceId::random();
    let parent = TraceContext { sampled: true, trace_id, ..TraceContext::random() };
    let answer = http()
        .get(format!("{}/broker/v1/topics", gateway.url))
        .header("traceparent", parent.to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["x-trace-id"], trace_id.to_string());
    assert_eq!(answer.text().await.unwrap(), "ok");
    let spans = eventually("all spans have ended", async || {
        let spans = recorder.trace(trace_id);
        (spans.len() == 3).then_some(spans)
    })
    .await;
    let server = spans.iter().find(|span| span.kind == "server").unwrap();
    let attempts: Vec<_> = spans.iter().filter(|span| span.kind == "client").collect();
    assert_eq!(server.parent, Some(parent.span_id));
    let seen = backend.seen();
    for (index, attempt) in attempts.iter().enumerate() {
        assert_eq!(attempt.parent, Some(server.context.span_id));
        let resent = attempt.attributes.get("http.request.resend_count").map(String::as_str);
        assert_eq!(resent, [None, Some("1")][index]);
        assert_eq!(attempt.attributes["server.port"], backend.address.port().to_string());
        assert_eq!(attempt.failed, index == 0);
        // The upstream's own span will be a child of this attempt.
        assert_eq!(seen[index].header("traceparent"), [attempt.context.to_string()]);
    }
}

#[tokio::test]
async fn every_attempt_is_measured() {
    let backend = Backend::start(|seen| match seen.index {
        0 => Reply::status("503 Service Unavailable", ""),
        _ => Reply::ok("ok"),
    })
    .await;
    let gateway = gateway(&[&backend]).await;
    let answer = http().get(format!("{}/broker/v1/topics", gateway.url)).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "ok");
    let text = gateway.context.metrics.encode(Format::OpenMetrics);
    for (status, error) in [("503", "503"), ("200", "")] {
        let line = format!(
            "http_client_request_duration_seconds_count{{http_request_method=\"GET\",\
             server_address=\"127.0.0.1\",server_port=\"{}\",\
             http_response_status_code=\"{status}\",error_type=\"{error}\"}} 1\n",
            backend.address.port()
        );
        assert!(text.contains(&line), "{line} in\n{text}");
    }
}
