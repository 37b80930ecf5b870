//! Topics as configured and as they are.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::GroupView;

/// `PUT /v1/topics/{topic}`. Absent fields have their defaults; an empty body is `{}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TopicSpec {
    /// 1 to 64; absent: 1, or as many as there are. May grow, never shrink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u32>,
    /// Copies of every message. Absent: as many as the cluster allows, up to 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// When old messages go. Absent: never.
    #[serde(skip_serializing_if = "Retention::is_unlimited")]
    pub retention: Retention,
}

/// When old messages go, read or not. A limit that is absent does not limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Messages older than this go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// The oldest messages go while a partition holds more bytes than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

impl Retention {
    /// Whether everything is kept.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: u32,
    /// Copies of every message.
    pub replicas: u32,
    /// When old messages go.
    pub retention: Retention,
    /// When it was created, RFC 3339 in UTC.
    pub created_at: String,
    /// The names of its subscriptions.
    pub subscriptions: Vec<String>,
    /// Messages it holds, over all partitions.
    pub messages: u64,
    /// Their bytes, with attributes.
    pub bytes: u64,
    /// Each partition, in order.
    pub partition_stats: Vec<PartitionView>,
    /// Where each partition lives, in order. Not in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub placement: Vec<GroupView>,
}

/// One partition of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartitionView {
    /// Which, from 0.
    pub partition: u32,
    /// Offset of the oldest message that is still there.
    pub earliest: u64,
    /// Offset the next message will get.
    pub next: u64,
    /// Messages it holds.
    pub messages: u64,
    /// Their bytes, with attributes.
    pub bytes: u64,
}

/// `GET /v1/topics`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TopicList {
    /// By name.
    pub topics: Vec<TopicView>,
}
