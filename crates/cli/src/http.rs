//! One HTTP exchange with a service. No retries here: a person at a terminal wants the first answer.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use client::http::{Client, Config, Events, Path, Query, Reply};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longer than any wait a service takes part in, unless a request says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Connections to every service that was asked. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Http {
    clients: Arc<Mutex<BTreeMap<String, Client>>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: &'static str,
    url: String,
    headers: Vec<(Cow<'static, str>, String)>,
    content_type: Option<Cow<'static, str>>,
    body: Vec<u8>,
    timeout: Duration,
}

/// An answer with a status below 400.
#[derive(Debug)]
pub(crate) struct Response(Reply);

/// Nobody answered, or somebody said no: then `status` is there.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct HttpError {
    pub(crate) status: Option<u16>,
    /// The body, where it is more than a problem document.
    pub(crate) answer: Option<Vec<u8>>,
    text: String,
}

impl Http {
    /// Sends one request, once.
    pub(crate) async fn send(&self, request: Request) -> Result<Response, HttpError> {
        let Request { method, url, headers, content_type, body, timeout } = request;
        let (origin, path, query) = parts(&url);
        let client = self.client(origin)?;
        let method = method.parse().expect("methods are constants of this crate");
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let query = pairs.fold(Query::new(), |query, (name, value)| query.encoded(name, value));
        let mut call = client.call(method, Path::encoded(path)).query(query).timeout(timeout);
        for (name, value) in headers {
            call = call.header(&name, &value);
        }
        if !body.is_empty() {
            call = call.body(content_type.as_deref().unwrap_or("application/octet-stream"), body);
        }
        call.send().await.map(Response).map_err(|error| HttpError::new(&error))
    }

    /// Sends, and reads the answer as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, request: Request) -> anyhow::Result<T> {
        let url = request.url.clone();
        let response = self.send(request).await?;
        response.parse().with_context(|| format!("{url} answered something else than expected"))
    }

    /// Follows a stream of events, across broken connections.
    pub(crate) async fn events(&self, url: &str) -> Result<Events, HttpError> {
        let (origin, path, _query) = parts(url);
        let method = "GET".parse().expect("it is a method");
        let call = self.client(origin)?.call(method, Path::encoded(path));
        Events::open(call).await.map_err(|error| HttpError::new(&error))
    }

    fn client(&self, origin: &str) -> Result<Client, HttpError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(origin) {
            return Ok(client.clone());
        }
        let base = client::Url::parse(origin).map_err(|error| HttpError {
            status: None,
            answer: None,
            text: format!("`{origin}` is not a URL: {error}"),
        })?;
        let client = Client::new(config(), [base]).map_err(|error| HttpError::new(&error))?;
        clients.insert(origin.to_owned(), client.clone());
        Ok(client)
    }
}

/// A breaker would answer in place of the service, which the commands want to hear itself.
fn config() -> Config {
    let mut config = Config { timeout: TIMEOUT, ..Config::default() };
    config.retry.retries_max = 0;
    config.breaker.consecutive_failures = u32::MAX;
    config.breaker.min_volume = u32::MAX;
    config
}

/// `http://host:port`, `/path`, `a=1&b=2`.
fn parts(url: &str) -> (&str, &str, &str) {
    let (url, query) = url.split_once('?').unwrap_or((url, ""));
    let authority = url.find("://").map_or(0, |at| at + 3);
    let path = url[authority..].find('/').map_or(url.len(), |at| authority + at);
    (&url[..path], &url[path..], query)
}

impl HttpError {
    fn new(error: &client::Error) -> Self {
        let mut text = error.detail.to_string();
        let status = error.status.map(|status| status.as_u16());
        match status {
            Some(status) => {
                let _ = write!(text, " ({status} {})", error.code);
            }
            None => text.push_str(" `quartet up` starts a local cluster."),
        }
        if let Some(trace) = &error.trace_id {
            let _ = write!(text, "\ntrace {trace}");
        }
        Self { status, answer: error.answer().map(|body| body.to_vec()), text }
    }
}

impl Request {
    pub(crate) fn new(method: &'static str, url: impl Into<String>) -> Self {
        Self {
            method,
            url: url.into(),
            headers: Vec::new(),
            content_type: None,
            body: Vec::new(),
            timeout: TIMEOUT,
        }
    }

    pub(crate) fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    pub(crate) fn put(url: impl Into<String>) -> Self {
        Self::new("PUT", url)
    }

    pub(crate) fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url)
    }

    pub(crate) fn delete(url: impl Into<String>) -> Self {
        Self::new("DELETE", url)
    }

    pub(crate) fn header(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
    ) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn header_if(self, name: &'static str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.header(name, value),
            None => self,
        }
    }

    pub(crate) fn body(
        mut self,
        content_type: impl Into<Cow<'static, str>>,
        body: impl Into<Vec<u8>>,
    ) -> Self {
        self.content_type = Some(content_type.into());
        self.body = body.into();
        self
    }

    pub(crate) fn json<T: Serialize>(self, value: &T) -> Self {
        let body = serde_json::to_vec(value).expect("our own types have string keys only");
        self.body("application/json", body)
    }

    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.0.header(name)
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.0.body
    }

    pub(crate) fn parse<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_slice(&self.0.body)
    }
}

/// One segment of a path, or a value of a query, percent-encoded.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

/// Like [`encode`], for keys: a slash separates segments and stays.
pub(crate) fn encode_key(key: &str) -> String {
    key.split('/').map(encode).collect::<Vec<_>>().join("/")
}

/// `?a=1&b=2` of the values that are there; empty if none is.
pub(crate) fn query(pairs: &[(&str, Option<String>)]) -> String {
    let given: Vec<String> = pairs
        .iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", encode(value.as_deref()?))))
        .collect();
    if given.is_empty() { String::new() } else { format!("?{}", given.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_cannot_hold_is_escaped() {
        assert_eq!(encode("a/b c%"), "a%2Fb%20c%25");
        assert_eq!(encode_key("a/b c"), "a/b%20c");
    }

    #[test]
    fn a_query_holds_only_what_is_given() {
        assert_eq!(query(&[("a", None)]), "");
        assert_eq!(
            query(&[("a", Some("1".into())), ("b", None), ("c", Some("&".into()))]),
            "?a=1&c=%26"
        );
    }

    #[test]
    fn a_url_is_taken_apart() {
        assert_eq!(parts("http://a:1/b/c?d=1"), ("http://a:1", "/b/c", "d=1"));
        assert_eq!(parts("http://a:1"), ("http://a:1", "", ""));
    }
}
