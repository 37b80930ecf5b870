//! The broker: topics, subscriptions, queues.
//!
//! A publish or a send with an idempotency key may be repeated and stores its messages once; one
//! without is never repeated after it may have arrived. Settling is repeated freely: an ack id
//! names one delivery, so a second ack of it changes nothing (and answers `unknown`).

mod queues;
mod settle;
mod topics;

use std::collections::BTreeMap;
use std::time::Duration;

use api::headers;
use bytes::Bytes;
use serde::Serialize;

use crate::Error;
use crate::http::{Call, Client};

pub use queues::SendOptions;
pub use settle::Source;
pub use topics::{MessageStream, Read};

/// Calls a broker, directly or through the gateway (`http://host:8080/broker`). Clones share
/// connections.
#[derive(Clone, Debug)]
pub struct Broker {
    http: Client,
}

impl Broker {
    #[must_use]
    pub const fn new(http: Client) -> Self {
        Self { http }
    }
}

/// One message on its way in: the payload and what travels in headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    pub data: Bytes,
    /// `application/octet-stream` if absent.
    pub content_type: Option<String>,
    pub attributes: BTreeMap<String, String>,
    /// Makes the request repeatable: see [`crate::idempotency_key`].
    pub idempotency_key: Option<String>,
}

impl Payload {
    /// Bytes of no particular type.
    #[must_use]
    pub fn bytes(data: impl Into<Bytes>) -> Self {
        Self { data: data.into(), ..Self::default() }
    }

    /// A JSON document.
    ///
    /// # Errors
    ///
    /// When the value cannot be written as JSON.
    pub fn json(value: &impl Serialize) -> Result<Self, Error> {
        let data = serde_json::to_vec(value).map_err(|error| {
            Error::invalid("the message cannot be written as JSON").because(error)
        })?;
        Ok(Self::bytes(data).content_type("application/json"))
    }

    #[must_use]
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }

    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    fn put_into(self, call: Call) -> Call {
        let content_type = self.content_type.as_deref().unwrap_or("application/octet-stream");
        let call = call.body(content_type, self.data);
        let call = call.maybe_header(headers::IDEMPOTENCY_KEY, self.idempotency_key.as_deref());
        self.attributes.iter().fold(call, |call, (name, value)| {
            call.header(&format!("{}{name}", headers::ATTRIBUTE_PREFIX), value)
        })
    }
}

/// A batch as NDJSON.
fn batch(call: Call, lines: &[impl Serialize], idempotency_key: Option<&str>) -> Call {
    let mut body = Vec::with_capacity(lines.len() * 128);
    for line in lines {
        serde_json::to_writer(&mut body, line).expect("batch lines are plain data");
        body.push(b'\n');
    }
    let call = call.body(headers::NDJSON, body);
    call.maybe_header(headers::IDEMPOTENCY_KEY, idempotency_key)
}

/// The timeout of a call that waits on purpose: the wait, and the time for an ordinary call.
fn waiting(call: Call, wait_seconds: Option<f64>) -> Call {
    const ORDINARY: Duration = Duration::from_secs(15);
    let wait = wait_seconds.and_then(|wait| Duration::try_from_secs_f64(wait).ok());
    let call = call.timeout(ORDINARY + wait.unwrap_or_default());
    if wait.is_some() { call.waits() } else { call }
}
