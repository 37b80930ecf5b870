//! Topics and their subscriptions.

use api::broker::{
    Appended, Message, Messages, PublishLine, SEEK, SUBJECTS, SUBSCRIPTION, SUBSCRIPTIONS,
    SeekRequest, Sought, SubscriptionList, SubscriptionSpec, SubscriptionView, TOPIC,
    TOPIC_MESSAGES, TOPICS, TopicList, TopicSpec, TopicView,
};
use api::headers;
use http::Method;

use super::{Broker, Payload, batch, waiting};
use crate::Error;
use crate::http::{Event, Events, Path, Query};

/// What to read of a topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Read {
    /// Absent: all of them.
    pub partition: Option<u32>,
    /// `earliest`, `latest`, an offset, the `next` of a page, or an RFC 3339 time.
    pub from: Option<String>,
    pub limit: Option<u32>,
    /// How long to wait for the first message.
    pub wait_seconds: Option<f64>,
}

impl Read {
    /// All partitions from the first message that is still there.
    #[must_use]
    pub fn earliest() -> Self {
        Self::from("earliest")
    }

    /// All partitions from a position.
    #[must_use]
    pub fn from(from: impl Into<String>) -> Self {
        Self { from: Some(from.into()), ..Self::default() }
    }

    fn query(&self) -> Query {
        Query::new()
            .maybe("partition", self.partition)
            .maybe("from", self.from.as_deref())
            .maybe("limit", self.limit)
            .maybe("wait_seconds", self.wait_seconds)
    }
}

impl Broker {
    /// Creates or changes a topic.
    ///
    /// # Errors
    ///
    /// When the broker refuses, or its answer is lost.
    pub async fn put_topic(&self, topic: &str, spec: &TopicSpec) -> Result<TopicView, Error> {
        let path = Path::fill(TOPIC, &[topic])?;
        self.http.call(Method::PUT, path).json(spec).send().await?.json()
    }

    /// # Errors
    ///
    /// `topic-not-found`, or as for every call.
    pub async fn topic(&self, topic: &str) -> Result<TopicView, Error> {
        self.http.call(Method::GET, Path::fill(TOPIC, &[topic])?).send().await?.json()
    }

    /// # Errors
    ///
    /// As for every call.
    pub async fn topics(&self) -> Result<TopicList, Error> {
        self.http.call(Method::GET, TOPICS).send().await?.json()
    }

    /// Deletes a topic with its messages and subscriptions.
    ///
    /// # Errors
    ///
    /// `topic-not-found`, or as for every call.
    pub async fn delete_topic(&self, topic: &str) -> Result<(), Error> {
        self.http.call(Method::DELETE, Path::fill(TOPIC, &[topic])?).send().await.map(|_| ())
    }

    /// Publishes one message; `key` chooses its partition.
    ///
    /// # Errors
    ///
    /// With [`crate::Outcome::Unknown`] it may be there or not.
    pub async fn publish(
        &self,
        topic: &str,
        key: Option<&str>,
        payload: Payload,
    ) -> Result<Vec<Appended>, Error> {
        let call = self.http.call(Method::POST, Path::fill(TOPIC_MESSAGES, &[topic])?);
        let call = call.maybe_header(headers::KEY, key);
        payload.put_into(call).send().await?.json()
    }

    /// Publishes a batch. What went into each partition is all there or not at all.
    ///
    /// # Errors
    ///
    /// As [`Broker::publish`].
    pub async fn publish_batch(
        &self,
        topic: &str,
        lines: &[PublishLine],
        idempotency_key: Option<&str>,
    ) -> Result<Vec<Appended>, Error> {
        let call = self.http.call(Method::POST, Path::fill(TOPIC_MESSAGES, &[topic])?);
        batch(call, lines, idempotency_key).send().await?.json()
    }

    /// Reads a page of a topic.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn read(&self, topic: &str, read: &Read) -> Result<Messages, Error> {
        let call = self.http.call(Method::GET, Path::fill(TOPIC_MESSAGES, &[topic])?);
        let call = call.query(read.query()).accept("application/json");
        waiting(call, read.wait_seconds).send().await?.json()
    }

    /// Follows a topic live. Goes on where it was when the connection breaks.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub async fn stream(&self, topic: &str, read: &Read) -> Result<MessageStream, Error> {
        let call = self.http.call(Method::GET, Path::fill(TOPIC_MESSAGES, &[topic])?);
        Ok(MessageStream(Events::open(call.query(read.query())).await?))
    }

    /// Follows every topic that matches a pattern (`*` one token, `>` the rest).
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub async fn stream_matching(&self, pattern: &str, from: &str) -> Result<Events, Error> {
        let query = Query::new().with("match", pattern).with("from", from);
        Events::open(self.http.call(Method::GET, SUBJECTS).query(query)).await
    }

    /// Creates or changes a subscription.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn put_subscription(
        &self,
        topic: &str,
        name: &str,
        spec: &SubscriptionSpec,
    ) -> Result<SubscriptionView, Error> {
        let path = Path::fill(SUBSCRIPTION, &[topic, name])?;
        self.http.call(Method::PUT, path).json(spec).send().await?.json()
    }

    /// A subscription: its settings, lag and counters.
    ///
    /// # Errors
    ///
    /// `subscription-not-found`, or as for every call.
    pub async fn subscription(&self, topic: &str, name: &str) -> Result<SubscriptionView, Error> {
        let path = Path::fill(SUBSCRIPTION, &[topic, name])?;
        self.http.call(Method::GET, path).send().await?.json()
    }

    /// # Errors
    ///
    /// As for every call.
    pub async fn subscriptions(&self, topic: &str) -> Result<SubscriptionList, Error> {
        let path = Path::fill(SUBSCRIPTIONS, &[topic])?;
        self.http.call(Method::GET, path).send().await?.json()
    }

    /// # Errors
    ///
    /// `subscription-not-found`, or as for every call.
    pub async fn delete_subscription(&self, topic: &str, name: &str) -> Result<(), Error> {
        let path = Path::fill(SUBSCRIPTION, &[topic, name])?;
        self.http.call(Method::DELETE, path).send().await.map(|_| ())
    }

    /// Moves a subscription: see [`SeekRequest::to`].
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn seek(&self, topic: &str, name: &str, to: &str) -> Result<Sought, Error> {
        let path = Path::fill(SEEK, &[topic, name])?;
        let request = SeekRequest { to: to.to_owned() };
        self.http.call(Method::POST, path).json(&request).send().await?.json()
    }
}

/// The messages of a topic as they come.
#[derive(Debug)]
pub struct MessageStream(Events);

impl MessageStream {
    /// The next message. Waits through broken connections.
    ///
    /// # Errors
    ///
    /// When the stream cannot be resumed.
    pub async fn next(&mut self) -> Result<Message, Error> {
        let Event { data, .. } = self.0.next().await?;
        serde_json::from_str(&data).map_err(|error| {
            Error::bad_answer("an event of the stream is no message").because(error)
        })
    }

    /// The events below, for their ids and settings.
    pub const fn events(&mut self) -> &mut Events {
        &mut self.0
    }
}
