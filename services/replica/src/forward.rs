//! Passing a request on to the primary: one hop, with the caller's deadline and trace.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use api::headers;
use bytes::Bytes;
use chassis::StartError;
use client::http::{Client, Config, Path, Query, Reply};
use client::{Outcome, Url};
use http::{HeaderMap, Method, header};
use resilience::retry::Repeat;

use crate::config::Member;

/// Headers that decide what a request means. The rest belongs to this hop.
const PASSED_ON: [&str; 7] = [
    "accept",
    "content-type",
    "if-match",
    "if-none-match",
    headers::IDEMPOTENCY_KEY,
    headers::SESSION,
    "user-agent",
];

/// The ways to the other members.
#[derive(Clone)]
pub(crate) struct Forward {
    node: String,
    members: BTreeMap<String, Client>,
}

/// A request as it came.
pub(crate) struct Passing {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Forward {
    pub(crate) fn new(node: &str, members: &[Member]) -> Result<Self, StartError> {
        let mut clients = BTreeMap::new();
        for member in members {
            let failed = |error: String| {
                StartError::new(format!("replication.members: `{}`: {error}", member.url))
            };
            let url: Url = member.url.parse().map_err(|error| failed(format!("{error}")))?;
            let client =
                Client::new(Config::default(), [url]).map_err(|error| failed(error.to_string()))?;
            clients.insert(member.name.clone(), client);
        }
        Ok(Self { node: node.to_owned(), members: clients })
    }

    /// Whether a peer has passed this on to us: then it goes no further.
    pub(crate) fn is_passed_on(headers: &HeaderMap) -> bool {
        headers.contains_key(headers::FORWARDED_BY)
    }

    /// Sends the request to `primary`. Never twice: the caller knows whether that is safe.
    pub(crate) async fn send(
        &self,
        primary: &str,
        passing: Passing,
        left: Duration,
    ) -> Result<Reply, client::Error> {
        let Some(client) = self.members.get(primary) else {
            let detail = format!("the primary `{primary}` is not a member of this node's group");
            let code = api::problem::Code::NoLeader;
            return Err(client::Error::local(code, Outcome::NotDone, detail));
        };
        let mut call = client
            .call(passing.method, Path::encoded(passing.path))
            .query(Query::raw(passing.query.unwrap_or_default()))
            .header(headers::FORWARDED_BY, &self.node)
            .timeout(left)
            .repeat(Repeat::Unsafe);
        let sent = PASSED_ON.iter().filter(|name| **name != header::CONTENT_TYPE.as_str());
        for name in sent {
            call = call.maybe_header(name, text(&passing.headers, name));
        }
        let content_type = text(&passing.headers, header::CONTENT_TYPE.as_str());
        call = match content_type {
            Some(content_type) => call.body(content_type, passing.body),
            None if passing.body.is_empty() => call,
            None => call.body("application/octet-stream", passing.body),
        };
        call.send().await
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// What is left of `until` at `now`.
pub(crate) fn left(until: Instant, now: Instant) -> Duration {
    until.saturating_duration_since(now)
}
