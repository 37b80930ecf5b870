//! The paths that every server has.

use std::sync::Arc;

use reqwest::{Client, StatusCode};
use serde_json::Value;
use telemetry::trace::TraceContext;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use crate::running;
use crate::service::{self, Config};

async fn get(url: &str, path: &str) -> (StatusCode, String) {
    let response = Client::new().get(format!("{url}{path}")).send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}

#[tokio::test]
async fn a_service_that_starts_lives_but_is_not_ready() {
    let (told, listen) = oneshot::channel();
    let go_on = Arc::new(Notify::new());
    let waiting = Arc::clone(&go_on);
    let mut tasks = JoinSet::new();
    tasks.spawn(chassis::testing::start(Config::default(), async move |context| {
        let _ = told.send(context.listen);
        waiting.notified().await;
        service::start(context).await
    }));
    let url = format!("http://{}", listen.await.unwrap());
    assert_eq!(get(&url, "/livez").await.0, 200);
    let (status, text) = get(&url, "/readyz").await;
    assert_eq!(status, 503);
    assert!(text.contains("[-]started failed: the service is starting"), "{text}");
    let (status, text) = get(&url, "/items/7").await;
    assert_eq!(status, 503);
    assert!(text.contains("\"code\":\"unavailable\""), "{text}");
    go_on.notify_one();
    let _server = tasks.join_next().await.unwrap().unwrap();
    assert_eq!(get(&url, "/readyz").await, (StatusCode::OK, "ok\n".into()));
    assert_eq!(get(&url, "/items/7").await, (StatusCode::OK, "7".into()));
}

#[tokio::test]
async fn readiness_names_what_is_missing() {
    let server = running(|_| ()).await;
    let leader = server.context.health.check("leader", "no leader is known");
    let (status, text) = get(&server.url, "/readyz?verbose").await;
    assert_eq!(status, 503);
    assert!(
        text.contains("[+]started ok") && text.contains("[-]leader failed: no leader is known")
    );
    assert_eq!(get(&server.url, "/readyz/started").await.0, 200);
    assert_eq!(get(&server.url, "/readyz/leader").await.0, 503);
    assert_eq!(get(&server.url, "/readyz/nothing").await.0, 404);
    assert_eq!(get(&server.url, "/livez").await.0, 200);
    let request = Client::new().get(format!("{}/readyz", server.url));
    let response = request.header("accept", "application/json").send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["ready"], false);
    leader.pass();
    assert_eq!(get(&server.url, "/readyz").await.0, 200);
}

#[tokio::test]
async fn the_api_describes_itself() {
    let server = running(|_| ()).await;
    let (_, text) = get(&server.url, "/openapi.json").await;
    let document: Value = serde_json::from_str(&text).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."), "{text}");
    assert!(document["paths"]["/readyz"].is_object(), "{text}");
    let (status, page) = get(&server.url, "/docs").await;
    assert_eq!(status, 200);
    assert!(page.contains("/readyz") && !page.contains("//"), "{page}");
    let (_, version) = get(&server.url, "/version").await;
    assert!(version.contains("quartet-trial") && version.contains("trial-1"), "{version}");
}

#[tokio::test]
async fn a_request_can_be_followed_from_its_trace_id_to_the_metrics() {
    let recorder = telemetry::testing::record();
    let server = running(|_| ()).await;
    let caller = TraceContext { sampled: true, ..TraceContext::random() };
    let request = Client::new().get(format!("{}/items/7", server.url));
    let request = request.header("traceparent", caller.to_string()).bearer_auth("hunter2");
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["x-trace-id"], caller.trace_id.to_string());

    let spans = recorder.trace(caller.trace_id);
    assert_eq!(spans.len(), 1, "{spans:?}");
    assert_eq!(spans[0].name, "GET /items/{id}");
    assert_eq!(spans[0].parent, Some(caller.span_id));
    assert!(!format!("{spans:?}").contains("hunter2"), "{spans:?}");

    let (_, text) = get(&server.url, "/metrics").await;
    assert!(text.contains(&format!("# {{trace_id=\"{}\"}}", caller.trace_id)), "{text}");
    assert!(text.ends_with("# EOF\n"));
    let request = Client::new().get(format!("{}/metrics", server.url));
    let classic = request.header("accept", "text/plain").send().await.unwrap();
    assert!(classic.headers()["content-type"].to_str().unwrap().contains("version=0.0.4"));
    assert!(!classic.text().await.unwrap().contains("trace_id"));
}

#[tokio::test]
async fn a_call_made_in_a_handler_carries_the_trace_and_what_is_left_of_the_deadline() {
    let server = running(|_| ()).await;
    let caller = TraceContext::random();
    let request = Client::new().get(format!("{}/hop", server.url));
    let request = request.header("traceparent", caller.to_string());
    let response = request.header("x-request-timeout", "10s").send().await.unwrap();
    let seen: Value = response.json().await.unwrap();
    let trace_id = caller.trace_id.to_string();
    assert!(seen["traceparent"].as_str().unwrap().contains(&trace_id), "{seen}");
    let left: u64 = seen["x-deadline-ms"].as_str().unwrap().parse().unwrap();
    assert!((1..=10_000).contains(&left), "{seen}");
}
