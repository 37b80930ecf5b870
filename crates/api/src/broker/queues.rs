//! Queues as configured and as they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{DeadLetter, GroupView, Retry};

/// Highest priority of a queue that names none: levels 0 to 9.
pub const DEFAULT_MAX_PRIORITY: u8 = 9;
/// Highest priority a queue may have: levels 0 to 31.
pub const MAX_PRIORITY: u8 = 31;

/// `PUT /v1/queues/{queue}`. Absent fields have their defaults; an empty body is `{}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueueSpec {
    /// What the queue holds at most. Beyond that a send is refused whole: 429 `queue-full`.
    #[serde(skip_serializing_if = "Capacity::is_unset")]
    pub capacity: Capacity,
    /// Highest priority, 0 to 31. Absent: 9.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_priority: Option<u8>,
    /// How long a consumer may hold a message before it is delivered again. Absent: 30.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack_deadline_seconds: Option<f64>,
    /// Deliveries after which a message goes to the dead-letter queue, or away if there is none.
    /// Absent: 5 with a dead-letter queue, else without limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_deliveries: Option<u32>,
    /// How long a failed message waits for its next delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// An existing other queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<String>,
    /// Messages not delivered by then expire: to the dead-letter queue, or away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_ttl_seconds: Option<f64>,
    /// How long a dedup id is remembered, also after its message is gone. Absent: 300.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedup_window_seconds: Option<f64>,
    /// Messages without a group form one group: the whole queue is delivered in order.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub fifo: bool,
    /// Most messages that consumers hold at once; beyond it a receive answers none, as if there
    /// were none. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u64>,
    /// How long a message waits that is sent without `x-delay-ms`. Absent: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// What happens to a send that does not fit. Absent: `reject`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overflow: Option<Overflow>,
    /// Copies of every message. Absent: as many as the cluster allows, up to 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
}

/// What happens to a send that does not fit into its queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// It is refused whole with 429 `queue-full`; nothing is dropped.
    #[default]
    Reject,
    /// It takes the place of the oldest messages of the lowest priorities, also of those that a
    /// consumer holds, but never of a higher priority than its own: where that does not make
    /// enough room, it is refused. What is dropped is counted and gone, also where there is a
    /// dead-letter queue.
    DropOldest,
}

/// Limits of a queue. Absent: 1,000,000 messages and 1 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Capacity {
    /// Most messages, those in flight and delayed included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
    /// Most bytes, with attributes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

impl Capacity {
    /// Whether both are left to their defaults.
    pub fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

/// A queue: its settings and what is in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueView {
    /// Its name.
    pub name: String,
    /// How it is configured, with defaults filled in.
    pub config: QueueSpec,
    /// When it was created, RFC 3339 in UTC.
    pub created_at: String,
    /// What is in it.
    #[schema(inline)]
    pub stats: QueueStats,
    /// Where it lives. Not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<GroupView>,
}

/// What is in a queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueStats {
    /// All messages: ready, in flight and delayed.
    pub messages: u64,
    /// Their bytes, with attributes.
    pub bytes: u64,
    /// Messages that may be delivered now, behind others of their group included.
    pub ready: u64,
    /// Delivered and neither settled nor given back.
    pub in_flight: u64,
    /// Not to be delivered yet: sent with a delay, or waiting after a failed delivery.
    pub delayed: u64,
    /// Those three for every priority that has messages, highest first.
    pub by_priority: Vec<PriorityDepth>,
    /// Seconds since the oldest message was sent; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_age_seconds: Option<f64>,
    /// Messages ever sent here and stored.
    pub sent: u64,
    /// Messages settled by an ack.
    pub acked: u64,
    /// Deliveries that were not the first of their message.
    pub redelivered: u64,
    /// Messages moved from here to the dead-letter queue.
    pub dead_lettered: u64,
    /// Messages that expired.
    pub expired: u64,
    /// Messages given up after `max_deliveries` without a dead-letter queue.
    pub discarded: u64,
    /// Sends refused because the queue was full.
    pub refused: u64,
    /// Messages dropped for newer ones, by a queue that does so when it is full.
    #[serde(default)]
    pub dropped: u64,
}

/// What a queue holds at one priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PriorityDepth {
    /// The priority.
    pub priority: u8,
    /// May be delivered now.
    pub ready: u64,
    /// Delivered, not settled.
    pub in_flight: u64,
    /// Not to be delivered yet.
    pub delayed: u64,
}

/// `GET /v1/queues`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueList {
    /// By name.
    pub queues: Vec<QueueView>,
}

/// What a peek shows: nothing is taken or counted.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Peeked {
    /// In the order they would be delivered.
    pub messages: Vec<PeekedMessage>,
}

/// One message looked at.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct PeekedMessage {
    /// Its id.
    pub id: String,
    /// How often it was delivered.
    pub deliveries: u32,
    /// Its priority.
    pub priority: u8,
    /// Its group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The payload, if it is JSON or text.
    #[serde(default, deserialize_with = "super::present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub data: Option<Box<RawValue>>,
    /// The payload, if it is neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_base64: Option<String>,
    /// The type it was sent with.
    pub content_type: String,
    /// What the sender attached.
    pub attributes: BTreeMap<String, String>,
    /// When the broker took it, RFC 3339 in UTC.
    pub published_at: String,
    /// Where it came from, in a dead-letter queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter>,
}

/// What a purge removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Purged {
    /// Messages removed, those in flight included.
    pub removed: u64,
}

/// `POST …/redrive`. On a queue with a dead-letter queue: brings back from there what came from
/// this queue. On any other: sends what it holds back to where each message came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedriveRequest {
    /// Send everything to this queue instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Most messages to move, 1 to 10,000. 1,000 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

/// What a redrive moved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Redriven {
    /// Messages moved.
    pub moved: u64,
    /// Messages left where they are because they have no queue to go to, or it is full.
    pub left: u64,
    /// Why, if any were left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
