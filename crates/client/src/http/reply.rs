//! Answers.

use std::time::Duration;

use api::headers;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use super::{Lines, attempt};
use crate::Error;

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    /// A header's value, if it is there and is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The trace this call belongs to.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        self.header(headers::TRACE_ID)
    }

    /// Reads the body as JSON.
    ///
    /// # Errors
    ///
    /// When it is something else: the call was done, its answer cannot be read.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let mut unread =
                Error::bad_answer("the answer is not the JSON that was expected").because(error);
            unread.status = Some(self.status);
            unread.trace_id = self.trace_id().map(Into::into);
            unread
        })
    }
}

/// An answer whose body is still coming.
#[derive(Debug)]
pub struct Streaming {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: reqwest::Response,
    idle: Duration,
}

impl Streaming {
    pub(super) const fn new(
        status: StatusCode,
        headers: HeaderMap,
        body: reqwest::Response,
        idle: Duration,
    ) -> Self {
        Self { status, headers, body, idle }
    }

    /// How long to wait for the next piece before the stream counts as dead.
    #[must_use]
    pub fn idle_timeout(self, idle: Duration) -> Self {
        Self { idle, ..self }
    }

    /// The trace this call belongs to.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        self.headers.get(headers::TRACE_ID)?.to_str().ok()
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    ///
    /// When the connection broke, or was silent for too long.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        attempt::chunk(&mut self.body, self.idle).await
    }

    /// Reads it as one JSON document a line.
    #[must_use]
    pub fn lines<T: DeserializeOwned>(self) -> Lines<T> {
        Lines::new(self)
    }
}
