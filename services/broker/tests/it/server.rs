//! A broker under test and what to ask it.

use broker::Config;
use chassis::testing::Running;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) struct Broker {
    running: Running<Config>,
    dir: TempDir,
    client: Client,
}

impl Broker {
    pub(crate) async fn start() -> Self {
        Self::start_with(Config::default()).await
    }

    pub(crate) async fn start_with(config: Config) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), config).await
    }

    async fn start_in(dir: TempDir, mut config: Config) -> Self {
        config.base.data_dir = dir.path().to_owned();
        config.broker.max_message_bytes = 100_000;
        config.broker.max_batch_messages = 1_000;
        let running = chassis::testing::start(config, broker::start).await;
        Self { running, dir, client: Client::new() }
    }

    /// Another process on the same directory.
    pub(crate) async fn restart(self) -> Self {
        let Self { running, dir, .. } = self;
        running.stop().await;
        Self::start_in(dir, Config::default()).await
    }

    pub(crate) async fn stop(self) {
        self.running.stop().await;
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.running.url))
    }

    /// A JSON request that must succeed.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let response = self.request(method, path).json(&body).send().await.unwrap();
        read(response).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Value {
        self.call(Method::PUT, path, body).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        self.call(Method::POST, path, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        read(self.request(Method::GET, path).send().await.unwrap()).await
    }

    /// Asks until the answer is as wanted, for at most twenty seconds.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) {
        let asking = async {
            while !wanted(&self.get(path).await) {
                tokio::task::yield_now().await;
            }
        };
        let twenty = std::time::Duration::from_secs(20);
        tokio::time::timeout(twenty, asking).await.expect("it comes to be within twenty seconds");
    }

    /// Asks until it is answered with this status, for at most twenty seconds.
    pub(crate) async fn until_status(&self, method: Method, path: &str, status: u16) {
        let asking = async {
            while self.request(method.clone(), path).send().await.unwrap().status() != status {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let twenty = std::time::Duration::from_secs(20);
        tokio::time::timeout(twenty, asking).await.expect("it comes to be within twenty seconds");
    }

    /// Publishes or sends one raw body.
    pub(crate) async fn raw(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let request = self.request(Method::POST, path).body(body.to_owned());
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.send().await.unwrap()
    }

    /// Sends text to a queue, one message each.
    pub(crate) async fn send(&self, queue: &str, bodies: &[&str]) {
        for body in bodies {
            let response = self.raw(&format!("/v1/queues/{queue}/messages"), &[], body).await;
            assert_eq!(response.status(), 201);
        }
    }

    /// What a receive or pull hands out.
    pub(crate) async fn take(&self, path: &str, max: u32, wait_seconds: f64) -> Vec<Value> {
        let body = json!({ "max": max, "wait_seconds": wait_seconds });
        let mut taken = self.post(path, body).await;
        serde_json::from_value(taken["messages"].take()).unwrap()
    }

    /// Acks, nacks or extends; the results in order.
    pub(crate) async fn settle(&self, path: &str, messages: &[Value], more: Value) -> Vec<String> {
        let ids: Vec<_> = messages.iter().map(|message| message["ack_id"].clone()).collect();
        let mut body = json!({ "ack_ids": ids });
        if let Value::Object(more) = more {
            body.as_object_mut().unwrap().extend(more);
        }
        let settled = self.post(path, body).await;
        let results = settled["results"].as_array().unwrap().iter();
        results.map(|result| result["result"].as_str().unwrap().to_owned()).collect()
    }
}

/// The JSON of an answer that must be a success.
pub(crate) async fn read(response: Response) -> Value {
    let (status, url) = (response.status(), response.url().to_string());
    let text = response.text().await.unwrap();
    assert!(status.is_success(), "{url}: {status} {text}");
    if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
}

/// The code of an answer that must be a problem document with this status.
pub(crate) async fn problem(response: Response, status: u16) -> Value {
    let (actual, url) = (response.status(), response.url().to_string());
    let content_type = response.headers().get("content-type").cloned();
    let text = response.text().await.unwrap();
    assert_eq!(actual, status, "{url}: {text}");
    assert_eq!(content_type.unwrap(), "application/problem+json", "{url}");
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{url}: {text}");
    assert!(problem["trace_id"].is_string(), "{url}: {text}");
    problem
}

/// The texts of messages, in order.
pub(crate) fn data(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["data"].as_str().unwrap()).collect()
}
