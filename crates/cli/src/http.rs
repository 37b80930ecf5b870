//! One HTTP exchange with a service. No retries here: a person at a terminal wants the first answer.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Longer than any wait a service takes part in, unless a request says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A pool of connections. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Http {
    inner: reqwest::Client,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: &'static str,
    url: String,
    headers: Vec<(Cow<'static, str>, String)>,
    body: Vec<u8>,
    timeout: Duration,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    headers: reqwest::header::HeaderMap,
}

/// Nobody answered, or somebody said no.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// What to do stands in the text; the cause is in `source()`.
    #[error("cannot reach {url}; is it running? `quartet up` starts a local cluster")]
    Unreachable {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("{text}")]
    Refused { status: u16, code: String, text: String },
}

impl Http {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let inner = reqwest::Client::builder().no_proxy().build().context("cannot set up HTTP")?;
        Ok(Self { inner })
    }

    /// Any answer is an answer, whatever its status.
    pub(crate) async fn send(&self, request: Request) -> Result<Response, HttpError> {
        let Request { method, url, headers, body, timeout } = request;
        let unreachable = |source| HttpError::Unreachable { url: url.clone(), source };
        let method = method.parse().expect("methods are constants of this crate");
        let mut builder = self.inner.request(method, &url).timeout(timeout).body(body);
        for (name, value) in headers {
            builder = builder.header(&*name, value);
        }
        let response = builder.send().await.map_err(unreachable)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.map_err(unreachable)?.to_vec();
        Ok(Response { status, body, headers })
    }

    /// Like [`Self::send`], but a status of 400 and above is an error with the service's own text.
    pub(crate) async fn call(&self, request: Request) -> Result<Response, HttpError> {
        let response = self.send(request).await?;
        if response.status < 400 { Ok(response) } else { Err(response.refusal()) }
    }

    /// Calls, and reads the answer as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, request: Request) -> anyhow::Result<T> {
        let url = request.url.clone();
        let response = self.call(request).await?;
        response.parse().with_context(|| format!("{url} answered something else than expected"))
    }
}

impl Request {
    pub(crate) fn new(method: &'static str, url: impl Into<String>) -> Self {
        Self { method, url: url.into(), headers: Vec::new(), body: Vec::new(), timeout: TIMEOUT }
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

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn json<T: Serialize>(self, value: &T) -> Self {
        let body = serde_json::to_vec(value).expect("our own types have string keys only");
        self.header("content-type", "application/json").body(body)
    }

    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn parse<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_slice(&self.body)
    }

    /// The problem document as one text, or whatever the body says.
    pub(crate) fn refusal(&self) -> HttpError {
        let problem: Value = self.parse().unwrap_or_default();
        let field = |name: &str| problem.get(name).and_then(Value::as_str);
        let code = field("code").unwrap_or_default().to_owned();
        let mut text = match field("detail").or(field("title")) {
            Some(detail) => detail.to_owned(),
            None => String::from_utf8_lossy(&self.body).trim().to_owned(),
        };
        let _ = write!(text, " ({}{}{code})", self.status, if code.is_empty() { "" } else { " " });
        if let Some(trace) = field("trace_id").or(self.header("x-trace-id")) {
            let _ = write!(text, "\ntrace {trace}");
        }
        HttpError::Refused { status: self.status, code, text }
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
    fn a_problem_document_becomes_one_text() {
        let body = br#"{"detail":"wait","code":"queue-full","trace_id":"abc"}"#.to_vec();
        let response = Response { status: 429, body, headers: reqwest::header::HeaderMap::new() };
        assert_eq!(response.refusal().to_string(), "wait (429 queue-full)\ntrace abc");
    }
}
