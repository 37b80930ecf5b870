//! A really started coordinator on a free port, with a directory and a clock of its own.

use chassis::clock::Clock;
use chassis::testing::{Running, try_start};
use coordinator::Config;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use tempfile::TempDir;

/// Where every test's clock starts.
const START_MS: u64 = 1_700_000_000_000;

pub(crate) struct Server {
    running: Option<Running<Config>>,
    pub(crate) clock: Clock,
    config: Config,
    dir: TempDir,
    http: Client,
}

/// What a request was answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {:?}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Checks that this is a problem document with this code.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.json()["code"], code, "{}", self.text());
        assert!(self.json()["trace_id"].is_string());
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Config::default()).await
    }

    pub(crate) async fn with(mut config: Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        config.base.data_dir = dir.path().to_owned();
        let clock = Clock::manual(START_MS);
        let running = try_start(config.clone(), clock.clone(), coordinator::start).await.unwrap();
        Self { running: Some(running), clock, config, dir, http: Client::new() }
    }

    /// Ends the service without a drain and starts it again on the same directory.
    pub(crate) async fn restart(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort().await;
        }
        let start = try_start(self.config.clone(), self.clock.clone(), coordinator::start);
        self.running = Some(start.await.unwrap());
    }

    /// Ends the service as SIGTERM does.
    pub(crate) async fn drain(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }

    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.running.as_ref().unwrap().url)
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.http.request(method, self.url(path))
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, body: response.bytes().await.unwrap().to_vec() }
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: impl Into<String>) -> Answer {
        let body: String = body.into();
        let request = self.request(method, path);
        self.send(if body.is_empty() { request } else { request.body(body) }).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "").await
    }

    pub(crate) async fn put(&self, path: &str, body: &str) -> Answer {
        self.call("PUT", path, body).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, body.to_string()).await
    }

    /// Repeats a question until the answer suits, for at most ten seconds.
    pub(crate) async fn until(&self, path: &str, suits: impl Fn(&Answer) -> bool) -> Answer {
        for _ in 0..400 {
            let answer = self.get(path).await;
            if suits(&answer) {
                return answer;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        panic!("GET {path} never answered what was waited for")
    }
}
