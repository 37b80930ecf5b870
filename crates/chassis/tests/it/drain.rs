//! Ending without losing a request, in this process.

use std::time::Duration;

use reqwest::Client;
use telemetry::metrics::Format;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::running;

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn balancers_learn_of_the_end_before_connections_are_refused() {
    let server = running(|base| base.drain.delay_ms = 60_000).await;
    let url = server.url.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(server.stop());
    let client = Client::new();
    let status = async |path: &str| {
        client.get(format!("{url}{path}")).send().await.unwrap().status().as_u16()
    };
    let not_ready = async { while status("/readyz").await != 503 {} };
    timeout(PATIENCE, not_ready).await.expect("readiness fails at once");
    assert_eq!(status("/items/7").await, 200);
    assert_eq!(status("/livez").await, 200);
}

#[tokio::test]
async fn open_streams_and_polls_end_with_the_drain_and_get_a_whole_answer() {
    let server = running(|_| ()).await;
    let url = server.url.clone();
    let client = Client::new();
    let mut events = client.get(format!("{url}/events")).send().await.unwrap();
    assert_eq!(events.chunk().await.unwrap().unwrap(), ": open\n\n");
    let idle = client.get(format!("{url}/items/7")).send().await.unwrap();
    let mut polls = JoinSet::new();
    polls.spawn(client.get(format!("{url}/poll")).send());
    let arrived = async {
        let metrics = || server.context.metrics.encode(Format::OpenMetrics);
        while !metrics().contains("http_server_active_requests 1") {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, arrived).await.expect("the poll arrives");
    timeout(PATIENCE, server.stop()).await.expect("nothing holds the server");
    assert_eq!(events.chunk().await.unwrap().unwrap(), ": draining, reconnect\n\n");
    assert_eq!(events.chunk().await.unwrap(), None);
    let answer = polls.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(answer.headers()["connection"], "close");
    assert_eq!(answer.text().await.unwrap(), "null");
    drop(idle);
    client.get(format!("{url}/items/7")).send().await.unwrap_err();
}
