//! Queues.

use api::broker::{
    PEEK, PURGE, Peeked, Purged, QUEUE, QUEUE_MESSAGES, QUEUES, QueueList, QueueSpec, QueueView,
    REDRIVE, RedriveRequest, Redriven, SendLine, Sent,
};
use api::headers;
use http::Method;

use super::{Broker, Payload, batch};
use crate::Error;
use crate::http::{Call, Path, Query};

/// What a queue needs to know about one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SendOptions {
    pub priority: Option<u8>,
    pub delay_ms: Option<u64>,
    pub ttl_ms: Option<u64>,
    pub dedup_id: Option<String>,
    pub group: Option<String>,
}

impl SendOptions {
    fn put_into(&self, call: Call) -> Call {
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        call.maybe_header(headers::PRIORITY, number(self.priority.map(u64::from)).as_deref())
            .maybe_header(headers::DELAY_MS, number(self.delay_ms).as_deref())
            .maybe_header(headers::TTL_MS, number(self.ttl_ms).as_deref())
            .maybe_header(headers::DEDUP_ID, self.dedup_id.as_deref())
            .maybe_header(headers::GROUP, self.group.as_deref())
    }
}

impl Broker {
    /// Creates or changes a queue.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn put_queue(&self, queue: &str, spec: &QueueSpec) -> Result<QueueView, Error> {
        let path = Path::fill(QUEUE, &[queue])?;
        self.http.call(Method::PUT, path).json(spec).send().await?.json()
    }

    /// A queue: its settings, depths and counters.
    ///
    /// # Errors
    ///
    /// `queue-not-found`, or as for every call.
    pub async fn queue(&self, queue: &str) -> Result<QueueView, Error> {
        self.http.call(Method::GET, Path::fill(QUEUE, &[queue])?).send().await?.json()
    }

    /// # Errors
    ///
    /// As for every call.
    pub async fn queues(&self) -> Result<QueueList, Error> {
        self.http.call(Method::GET, QUEUES).send().await?.json()
    }

    /// Deletes a queue with its messages.
    ///
    /// # Errors
    ///
    /// `queue-not-found`, or as for every call.
    pub async fn delete_queue(&self, queue: &str) -> Result<(), Error> {
        self.http.call(Method::DELETE, Path::fill(QUEUE, &[queue])?).send().await.map(|_| ())
    }

    /// Sends one message.
    ///
    /// # Errors
    ///
    /// `queue-full` when there is no room; with [`crate::Outcome::Unknown`] it may be there or not.
    pub async fn send(
        &self,
        queue: &str,
        payload: Payload,
        options: &SendOptions,
    ) -> Result<Sent, Error> {
        let call = self.http.call(Method::POST, Path::fill(QUEUE_MESSAGES, &[queue])?);
        payload.put_into(options.put_into(call)).send().await?.json()
    }

    /// Sends a batch: all of it or nothing.
    ///
    /// # Errors
    ///
    /// As [`Broker::send`].
    pub async fn send_batch(
        &self,
        queue: &str,
        lines: &[SendLine],
        idempotency_key: Option<&str>,
    ) -> Result<Sent, Error> {
        let call = self.http.call(Method::POST, Path::fill(QUEUE_MESSAGES, &[queue])?);
        batch(call, lines, idempotency_key).send().await?.json()
    }

    /// Looks at the next messages without taking them.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn peek(&self, queue: &str, limit: Option<u32>) -> Result<Peeked, Error> {
        let call = self.http.call(Method::GET, Path::fill(PEEK, &[queue])?);
        call.query(Query::new().maybe("limit", limit)).send().await?.json()
    }

    /// Removes every message.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn purge(&self, queue: &str) -> Result<Purged, Error> {
        self.http.call(Method::POST, Path::fill(PURGE, &[queue])?).send().await?.json()
    }

    /// Brings dead-lettered messages back.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn redrive(&self, queue: &str, request: &RedriveRequest) -> Result<Redriven, Error> {
        let path = Path::fill(REDRIVE, &[queue])?;
        self.http.call(Method::POST, path).json(request).send().await?.json()
    }
}
