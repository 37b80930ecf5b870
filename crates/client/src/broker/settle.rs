//! Taking messages and settling them: the same for subscriptions and queues.

use std::time::Duration;

use api::broker::{
    AckRequest, Deliveries, ExtendRequest, NackRequest, PULL, PullRequest, QUEUE_ACK, QUEUE_EXTEND,
    QUEUE_NACK, RECEIVE, SUBSCRIPTION_ACK, SUBSCRIPTION_EXTEND, SUBSCRIPTION_NACK, Settled,
};
use http::Method;
use resilience::retry::Repeat;
use serde::Serialize;

use super::{Broker, waiting};
use crate::Error;
use crate::http::Path;

/// Where a consumer takes its messages from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    Subscription { topic: &'a str, name: &'a str },
    Queue(&'a str),
}

impl Source<'_> {
    fn path(self, subscription: &'static str, queue: &'static str) -> Result<Path, Error> {
        match self {
            Self::Subscription { topic, name } => Path::fill(subscription, &[topic, name]),
            Self::Queue(name) => Path::fill(queue, &[name]),
        }
    }
}

impl Broker {
    /// Takes messages, after a wait for the first one if the request says so. Not repeated when
    /// its answer is lost: what that held comes again after its ack deadline.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn pull(
        &self,
        source: Source<'_>,
        request: &PullRequest,
    ) -> Result<Deliveries, Error> {
        let call = self.http.call(Method::POST, source.path(PULL, RECEIVE)?).json(request);
        waiting(call, request.wait_seconds).send().await?.json()
    }

    /// Settles messages: they are done.
    ///
    /// # Errors
    ///
    /// As for every call. What became of each id is in the answer.
    pub async fn ack(&self, source: Source<'_>, ack_ids: Vec<String>) -> Result<Settled, Error> {
        let path = source.path(SUBSCRIPTION_ACK, QUEUE_ACK)?;
        self.settle(path, &AckRequest { ack_ids }).await
    }

    /// Gives messages back, for `delay` or as long as their backoff says.
    ///
    /// # Errors
    ///
    /// As [`Broker::ack`].
    pub async fn nack(
        &self,
        source: Source<'_>,
        ack_ids: Vec<String>,
        delay: Option<Duration>,
    ) -> Result<Settled, Error> {
        let path = source.path(SUBSCRIPTION_NACK, QUEUE_NACK)?;
        let delay_ms = delay.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        self.settle(path, &NackRequest { ack_ids, delay_ms, ..NackRequest::default() }).await
    }

    /// Holds messages longer: until `deadline` from now, or as long as the source says.
    ///
    /// # Errors
    ///
    /// As [`Broker::ack`].
    pub async fn extend(
        &self,
        source: Source<'_>,
        ack_ids: Vec<String>,
        deadline: Option<Duration>,
    ) -> Result<Settled, Error> {
        let path = source.path(SUBSCRIPTION_EXTEND, QUEUE_EXTEND)?;
        let ack_deadline_seconds = deadline.map(|deadline| deadline.as_secs_f64());
        self.settle(path, &ExtendRequest { ack_ids, ack_deadline_seconds }).await
    }

    async fn settle(&self, path: Path, request: &impl Serialize) -> Result<Settled, Error> {
        let call = self.http.call(Method::POST, path).json(request);
        call.repeat(Repeat::Safe).send().await?.json()
    }
}
