//! A started gateway, upstreams that record what reaches them, and clients that see raw bytes.

pub(crate) mod backend;
pub(crate) mod etcd;
pub(crate) mod raw;

use std::collections::BTreeMap;
use std::time::Duration;

use chassis::testing::Running;
use gateway::{Config, Endpoints};

pub(crate) use backend::{Backend, Reply};

/// Nothing in these tests takes this long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway whose service `broker` is these backends.
pub(crate) async fn gateway(backends: &[&Backend]) -> Running<Config> {
    gateway_with(backends, |_| ()).await
}

/// The same with other settings.
pub(crate) async fn gateway_with(
    backends: &[&Backend],
    change: impl FnOnce(&mut Config),
) -> Running<Config> {
    let endpoints = backends.iter().map(|backend| backend.url.clone()).collect();
    let mut config = Config {
        upstreams: BTreeMap::from([("broker".to_owned(), Endpoints { endpoints })]),
        ..Config::default()
    };
    // Retries must not depend on how many tests share a second.
    config.retry_budget.floor_per_second = 1000;
    change(&mut config);
    chassis::testing::start(config, gateway::start).await
}

/// An HTTP client that neither follows, retries nor decodes.
pub(crate) fn http() -> reqwest::Client {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

/// What `/v1/upstreams` says of the only endpoint, or of all.
pub(crate) async fn upstream(
    gateway: &Running<Config>,
    service: &str,
) -> api::gateway::UpstreamView {
    let url = format!("{}/v1/upstreams", gateway.url);
    let text = http().get(url).send().await.unwrap().text().await.unwrap();
    let list: api::gateway::UpstreamList = serde_json::from_str(&text).unwrap();
    list.upstreams.into_iter().find(|upstream| upstream.service == service).unwrap()
}

/// Polls until `look` finds something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let look = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// The problem document of a response.
pub(crate) async fn problem(response: reqwest::Response) -> api::problem::ProblemDetails {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let text = response.text().await.unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
