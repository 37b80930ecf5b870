//! One call, and what it means that it ended so.

use std::time::Duration;

use reqwest::header::{ETAG, HeaderMap};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use sim::history::Outcome;

use crate::cluster::Door;

/// How long a client waits. About an election: a run that waits longer does little else while a
/// member is cut off.
const TIMEOUT: Duration = Duration::from_secs(1);

impl Door {
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).timeout(TIMEOUT)
    }
}

/// How a call ended.
pub(super) enum Answer {
    /// With a status. The text is there if it came whole.
    Given { status: u16, headers: HeaderMap, text: Option<String> },
    /// It never left.
    NeverSent,
    /// It was sent; nothing else is known.
    Unanswered,
}

pub(super) async fn send(request: RequestBuilder) -> Answer {
    match request.send().await {
        Ok(response) => {
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            Answer::Given { status, headers, text: response.text().await.ok() }
        }
        Err(error) if error.is_connect() => Answer::NeverSent,
        Err(_) => Answer::Unanswered,
    }
}

impl Answer {
    /// The status and the body of an answer that came whole.
    pub(super) fn whole(&self) -> Option<(u16, &str)> {
        match self {
            Self::Given { status, text: Some(text), .. } => Some((*status, text)),
            _ => None,
        }
    }

    /// The JSON of a success.
    pub(super) fn success(&self) -> Option<Value> {
        let (status, text) = self.whole()?;
        (200..300).contains(&status).then(|| serde_json::from_str(text).ok()).flatten()
    }

    /// The revision of the key that was read.
    pub(super) fn etag(&self) -> Option<u64> {
        let Self::Given { headers, .. } = self else { return None };
        headers.get(ETAG)?.to_str().ok()?.trim_matches('"').parse().ok()
    }

    /// The store's revision when it was asked.
    pub(super) fn revision(&self) -> Option<u64> {
        let Self::Given { headers, .. } = self else { return None };
        headers.get("x-revision")?.to_str().ok()?.parse().ok()
    }

    /// What an answer means that is none of those that the caller knows.
    pub(super) fn refusal<R>(&self) -> Outcome<R> {
        match self {
            // Each of these codes says that nothing was done.
            Self::NeverSent | Self::Given { status: 400 | 404 | 413 | 429 | 503 | 507, .. } => {
                Outcome::Failed
            }
            Self::Given { .. } | Self::Unanswered => Outcome::Unknown,
        }
    }
}
