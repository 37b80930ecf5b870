//! Messages on their way in and out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// One line of an NDJSON batch for a topic. Exactly one of `data` and `data_base64`.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PublishLine {
    /// The payload as JSON; it is kept byte for byte.
    #[serde(deserialize_with = "super::present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub data: Option<Box<RawValue>>,
    /// The payload in standard base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_base64: Option<String>,
    /// What the payload is. Absent: JSON for `data`, bytes for `data_base64`. With another type
    /// than JSON, a string in `data` is taken as the text itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Chooses the partition; messages of one key keep their order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Delivered with the message. `traceparent` and `tracestate` are its creation context.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// One line of an NDJSON batch for a queue. What is absent is taken from the request's headers.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SendLine {
    /// The payload as JSON; it is kept byte for byte.
    #[serde(deserialize_with = "super::present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub data: Option<Box<RawValue>>,
    /// The payload in standard base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_base64: Option<String>,
    /// What the payload is, as in a batch for a topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Higher is delivered first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Not delivered before this many milliseconds have passed. Absent: as the queue says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Not delivered after this many milliseconds have passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// A second message with the same id within the queue's window is not stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedup_id: Option<String>,
    /// What it answers: `GET …/peek?correlation_id=` finds it. Kept as the attribute
    /// `correlation-id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Messages of one group are delivered one at a time, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Delivered with the message. `traceparent` and `tracestate` are its creation context.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// What a publish appended to one partition. A publish answers a list of these, by partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Appended {
    /// The partition.
    pub partition: u32,
    /// How many messages.
    pub count: u64,
    /// Offset of the first of them.
    pub first: u64,
    /// Offset of the last of them.
    pub last: u64,
}

/// What a send stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sent {
    /// How many messages the request held.
    pub count: u64,
    /// Their ids, in order. A deduplicated message has the id of the first one.
    pub ids: Vec<String>,
    /// How many of them were known already and not stored again.
    pub deduplicated: u64,
}

/// A message as read from a topic.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Message {
    /// The partition it is in.
    pub partition: u32,
    /// Its position there; the first is 0.
    pub offset: u64,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The payload, if it is JSON or text.
    #[serde(default, deserialize_with = "super::present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub data: Option<Box<RawValue>>,
    /// The payload, if it is neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_base64: Option<String>,
    /// The type it was published with.
    pub content_type: String,
    /// What the publisher attached, the creation context included.
    pub attributes: BTreeMap<String, String>,
    /// When the broker took it, RFC 3339 in UTC. Never decreases within a partition.
    pub published_at: String,
}

/// A page of a topic.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Messages {
    /// In order per partition.
    pub messages: Vec<Message>,
    /// `from` of the next page: an offset, or `partition:offset,…` when several are read at once.
    pub next: String,
}

/// A message handed to a consumer, by a pull or a receive.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    /// Stays the same over all deliveries of this message.
    pub id: String,
    /// Names this one delivery; settle the message with it.
    pub ack_id: String,
    /// Which delivery of the message this is; the first is 1.
    pub delivery: u32,
    /// Where it is in its partition. Absent in a queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Which partition it is in. Absent in a queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// Its key in a topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its group in a queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its priority in a queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// The payload, if it is JSON or text.
    #[serde(default, deserialize_with = "super::present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub data: Option<Box<RawValue>>,
    /// The payload, if it is neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_base64: Option<String>,
    /// The type it was published with.
    pub content_type: String,
    /// What the publisher attached, the creation context (`traceparent`, `tracestate`) included.
    pub attributes: BTreeMap<String, String>,
    /// When the broker took it, RFC 3339 in UTC.
    pub published_at: String,
    /// Until when it is this consumer's, RFC 3339 in UTC.
    pub ack_deadline: String,
    /// Where it came from, in a dead-letter queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter>,
}

/// What a pull or a receive answers. An empty list is what a long poll ends with.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Deliveries {
    /// At most `max`.
    pub messages: Vec<Delivery>,
}

/// Why a message is in a dead-letter queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetter {
    /// `queue/NAME` or `topic/NAME/subscription/NAME`.
    pub source: String,
    /// Its id there.
    pub source_id: String,
    /// `max-deliveries` or `expired`.
    pub reason: String,
    /// What its consumer said when it was last given back as failed: the nack's `reason`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How often it had been delivered there.
    pub deliveries: u32,
    /// When it was moved, RFC 3339 in UTC.
    pub moved_at: String,
    /// Earlier moves of the same message, oldest first: `source: reason`, or `source: reason:
    /// failure`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<String>,
}
