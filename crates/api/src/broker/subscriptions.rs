//! Subscriptions as configured and as they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{PushPaused, PushSpec};

/// `PUT /v1/topics/{topic}/subscriptions/{name}`. Absent fields have their defaults.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SubscriptionSpec {
    /// Where a new one starts: `earliest`, `latest`, an offset or an RFC 3339 time. Absent:
    /// `latest`. An existing one keeps its position: see seek.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
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
    /// `queue/NAME`, an existing queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<String>,
    /// Only messages whose attributes meet every condition are delivered.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub filter: BTreeMap<String, Condition>,
    /// Messages of one key are delivered one at a time, in order.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ordered_by_key: bool,
    /// Messages are sent to a webhook. Absent: consumers pull them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push: Option<PushSpec>,
}

/// Backoff: `initial_ms`, doubled for each further failure, at most `max_ms`; of that, between a
/// half and all is waited. Or, as listed, `delays_ms`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// After the first failure. 0 or absent: at once.
    pub initial_ms: u64,
    /// Never longer than this. 0 or absent: an hour.
    pub max_ms: u64,
    /// Instead of the others: what is waited after the first, second, … failure, exactly. Up to
    /// 16; after that many failures the last one again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub delays_ms: Vec<u64>,
}

/// What an attribute must be: a plain string (equal) or `{"prefix": …}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Condition {
    /// Exactly this.
    Equals(String),
    /// Begins with this.
    Prefix {
        /// The beginning.
        prefix: String,
    },
}

/// A subscription: its settings and where it is.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionView {
    /// Its topic.
    pub topic: String,
    /// Its name.
    pub name: String,
    /// How it is configured, with defaults filled in.
    pub config: SubscriptionSpec,
    /// When it was created, RFC 3339 in UTC.
    pub created_at: String,
    /// There, if it pushes and its endpoint said that it is gone (410): see `POST …/resume`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push_paused: Option<PushPaused>,
    /// Where it is.
    #[schema(inline)]
    pub stats: SubscriptionStats,
}

/// Where a subscription is, over all partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionStats {
    /// Messages not settled yet, those in flight included. With a filter, messages that will not
    /// match count until they are passed.
    pub lag: u64,
    /// Delivered and neither settled nor given back.
    pub in_flight: u64,
    /// Waiting for their next delivery after a failed one.
    pub retrying: u64,
    /// Seconds since the oldest unsettled message was published; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_unacked_seconds: Option<f64>,
    /// Deliveries that were not the first of their message.
    pub redelivered: u64,
    /// Messages settled by an ack.
    pub acked: u64,
    /// Messages moved to the dead-letter queue.
    pub dead_lettered: u64,
    /// Messages given up after `max_deliveries` without a dead-letter queue.
    pub discarded: u64,
}

/// `POST …/seek`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SeekRequest {
    /// `earliest`, `latest`, an offset (the same in every partition), `partition:offset,…` or an
    /// RFC 3339 time.
    pub to: String,
}

/// What a seek answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sought {
    /// The position in each partition, in order.
    pub positions: Vec<u64>,
}

/// `GET /v1/topics/{topic}/subscriptions`.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionList {
    /// By name.
    pub subscriptions: Vec<SubscriptionView>,
}
