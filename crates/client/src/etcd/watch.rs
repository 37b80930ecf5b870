//! One watch, for as long as its connection lasts.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::documents::Documents;
use super::kv::{KeyValue, prefix_end};
use super::wire::{Header, Status, signed};
use crate::Error;
use crate::http::Streaming;

/// An idle watch may be silent for ten minutes and a tenth; etcd then sends a progress message.
const IDLE_TIMEOUT: Duration = Duration::from_secs(12 * 60);

/// What to watch, and from when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchRequest {
    key: Vec<u8>,
    range_end: Vec<u8>,
    start_revision: i64,
}

impl WatchRequest {
    /// All keys that begin with `prefix`, from `start_revision` on (0: from now on).
    #[must_use]
    pub fn prefix(prefix: &[u8], start_revision: i64) -> Self {
        let key = if prefix.is_empty() { vec![0] } else { prefix.to_vec() };
        Self { key, range_end: prefix_end(prefix), start_revision }
    }

    /// One key.
    #[must_use]
    pub fn key(key: &[u8], start_revision: i64) -> Self {
        Self { key: key.to_vec(), range_end: Vec::new(), start_revision }
    }

    pub(super) fn document(&self) -> Value {
        json!({"create_request": {
            "key": STANDARD.encode(&self.key),
            "range_end": STANDARD.encode(&self.range_end),
            "start_revision": self.start_revision.to_string(),
            "progress_notify": true,
        }})
    }
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum EventKind {
    #[default]
    Put,
    Delete,
}

/// One change. A deleted key has only its name and `mod_revision`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct WatchEvent {
    #[serde(rename = "type")]
    pub kind: EventKind,
    pub kv: KeyValue,
}

/// One message of a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct WatchMessage {
    pub header: Header,
    /// The watch began. No events in this one.
    pub created: bool,
    /// The watch ended.
    pub canceled: bool,
    pub cancel_reason: String,
    /// Not zero: what was asked for is compacted away, older than this.
    #[serde(deserialize_with = "signed")]
    pub compact_revision: i64,
    /// More events of the same revision follow in the next message.
    pub fragment: bool,
    pub events: Vec<WatchEvent>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    result: Option<WatchMessage>,
    error: Option<Status>,
}

/// The messages of one watch.
#[derive(Debug)]
pub struct WatchStream {
    body: Streaming,
    documents: Documents,
}

impl WatchStream {
    pub(super) fn new(body: Streaming) -> Self {
        Self { body: body.idle_timeout(IDLE_TIMEOUT), documents: Documents::default() }
    }

    /// The next message; `None` when the stream ended. Safe to drop while it waits.
    ///
    /// # Errors
    ///
    /// When the stream broke, or the server ended it with an error.
    pub async fn next(&mut self) -> Result<Option<WatchMessage>, Error> {
        loop {
            if let Some(document) = self.documents.take()? {
                return read(&document).map(Some);
            }
            match self.body.chunk().await? {
                Some(chunk) => self.documents.push(&chunk),
                None => return Ok(None),
            }
        }
    }
}

fn read(document: &[u8]) -> Result<WatchMessage, Error> {
    let document: Document = serde_json::from_slice(document)
        .map_err(|error| Error::bad_answer("a watch message cannot be read").because(error))?;
    match document {
        Document { error: Some(error), .. } => Err(error.into_error()),
        Document { result, .. } => Ok(result.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_every_kind_are_read() {
        let events = br#"{"result":{"header":{"revision":"6"},"events":[{"type":"DELETE","kv":{"key":"Zm9v","mod_revision":"6"}},{"kv":{"key":"bGs=","lease":"777"}}]}}"#;
        let message = read(events).unwrap();
        assert_eq!(message.events[0].kind, EventKind::Delete);
        assert_eq!(message.events[1].kind, EventKind::Put);
        assert_eq!(message.events[1].kv.key, "lk");
        let compacted = br#"{"result":{"canceled":true,"compact_revision":"3"}}"#;
        assert_eq!(read(compacted).unwrap().compact_revision, 3);
        let error = read(br#"{"error":{"code":14,"message":"server stopped"}}"#).unwrap_err();
        assert_eq!(error.etcd_code(), Some(14));
        assert_eq!(read(b"{}").unwrap(), WatchMessage::default());
    }
}
