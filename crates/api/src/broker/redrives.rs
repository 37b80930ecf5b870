//! Messages on their way back from a dead-letter queue, as tasks that go on by themselves.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Highest `rate_per_second` of a redrive.
pub const MAX_REDRIVE_RATE: u32 = 100_000;

/// `POST /v1/queues/{queue}/redrives`: begins a task. On a queue with a dead-letter queue it
/// brings back from there what came from this queue; on any other, it sends what that holds back
/// to where each message came from. What comes later is not moved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BeginRedrive {
    /// Move everything to this queue instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Most messages a second, 1 to 100,000. Absent: as fast as it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_second: Option<u32>,
    /// Most messages to move. Absent: all that are there now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
}

/// How far a redrive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedriveState {
    /// It moves messages, or waits until it may.
    Running,
    /// It has come to its end.
    Done,
    /// Somebody has cancelled it. What it had moved stays moved.
    Cancelled,
    /// It cannot go on: see `reason`.
    Failed,
}

/// A redrive and how far it is. A queue remembers its last ten; one runs at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RedriveView {
    /// Names it among the redrives of `from`.
    pub id: u64,
    /// The queue that the messages leave.
    pub from: String,
    /// The queue to which they go. Absent: each to where it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Most messages a second. Absent: as fast as it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_second: Option<u32>,
    /// Most messages to move. Absent: all that were there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
    /// How far it is.
    pub state: RedriveState,
    /// Messages moved.
    pub moved: u64,
    /// Messages left where they are: they have no queue to go to, or a consumer held them.
    pub left: u64,
    /// Messages that are still to be looked at, at most. 0 when it has ended.
    pub remaining: u64,
    /// Why the last one was left, why it waits, or why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it began, RFC 3339 in UTC.
    pub began_at: String,
    /// When it ended, RFC 3339 in UTC. Absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
}

/// `GET /v1/queues/{queue}/redrives`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RedriveList {
    /// The oldest first.
    pub redrives: Vec<RedriveView>,
}
