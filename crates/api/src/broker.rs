//! Wire types of the broker: topics, subscriptions, queues and the messages in them.
//!
//! Paths are axum patterns. `data` is the payload as it was published: the exact JSON where it was
//! JSON, a JSON string where it was other UTF-8 text; everything else is in `data_base64`.

use serde::Deserialize;
use serde_json::value::RawValue;

mod cluster;
mod dry_run;
mod messages;
mod push;
mod queues;
mod redrives;
mod requests;
mod settle;
mod subscriptions;
mod topics;

pub use cluster::{
    Broker, BrokerAddRequest, BrokerAdded, Cluster, GroupMove, GroupStayed, GroupView, Groups,
    TransferRequest, Transferred,
};
pub use dry_run::{WouldDeliver, WouldPublish};
pub use messages::{
    Appended, DeadLetter, Deliveries, Delivery, Message, Messages, PublishLine, SendLine, Sent,
};
pub use push::{PushFormat, PushPaused, PushSpec, PushTested, RotateSecretRequest, RotatedSecret};
pub use queues::{
    Capacity, DEFAULT_MAX_PRIORITY, MAX_PRIORITY, Overflow, Peeked, PeekedMessage, PriorityDepth,
    Purged, QueueList, QueueSpec, QueueStats, QueueView, RedriveRequest, Redriven,
};
pub use redrives::{BeginRedrive, MAX_REDRIVE_RATE, RedriveList, RedriveState, RedriveView};
pub use requests::{
    CORRELATION_ID, DEFAULT_REPLY_SECONDS, REPLY_QUEUE, REPLY_SECONDS, REPLY_TO, Replied,
    ReplyRequest, Requested,
};
pub use settle::{
    AckOutcome, AckRequest, AckResult, ExtendRequest, NackRequest, PullRequest, Settled,
};
pub use subscriptions::{
    Condition, Retry, SeekRequest, Sought, SubscriptionList, SubscriptionSpec, SubscriptionStats,
    SubscriptionView,
};
pub use topics::{PartitionView, Retention, TopicList, TopicSpec, TopicView};

/// The brokers.
pub const CLUSTER: &str = "/v1/cluster";
/// Where partitions and queues live.
pub const CLUSTER_GROUPS: &str = "/v1/cluster/groups";
/// Makes a place for a broker.
pub const MEMBERS: &str = "/v1/cluster/members";
/// One broker.
pub const MEMBER: &str = "/v1/cluster/members/{id}";
/// Moves everything off a broker.
pub const MEMBER_DRAIN: &str = "/v1/cluster/members/{id}/drain";
/// Lets a broker have copies again.
pub const MEMBER_UNDRAIN: &str = "/v1/cluster/members/{id}/undrain";
/// Lets other brokers lead.
pub const TRANSFER: &str = "/v1/cluster/transfer";
/// All topics.
pub const TOPICS: &str = "/v1/topics";
/// One topic.
pub const TOPIC: &str = "/v1/topics/{topic}";
/// Publish to a topic, or read it.
pub const TOPIC_MESSAGES: &str = "/v1/topics/{topic}/messages";
/// A live stream over every topic that matches a pattern.
pub const SUBJECTS: &str = "/v1/subjects";
/// The subscriptions of a topic.
pub const SUBSCRIPTIONS: &str = "/v1/topics/{topic}/subscriptions";
/// One subscription.
pub const SUBSCRIPTION: &str = "/v1/topics/{topic}/subscriptions/{name}";
/// Take messages of a subscription.
pub const PULL: &str = "/v1/topics/{topic}/subscriptions/{name}/pull";
/// Settle messages of a subscription.
pub const SUBSCRIPTION_ACK: &str = "/v1/topics/{topic}/subscriptions/{name}/ack";
/// Give messages of a subscription back.
pub const SUBSCRIPTION_NACK: &str = "/v1/topics/{topic}/subscriptions/{name}/nack";
/// Hold messages of a subscription longer.
pub const SUBSCRIPTION_EXTEND: &str = "/v1/topics/{topic}/subscriptions/{name}/extend";
/// Move a subscription to another position.
pub const SEEK: &str = "/v1/topics/{topic}/subscriptions/{name}/seek";
/// Push again after the endpoint was gone.
pub const PUSH_RESUME: &str = "/v1/topics/{topic}/subscriptions/{name}/resume";
/// Sign with another secret.
pub const PUSH_ROTATE: &str = "/v1/topics/{topic}/subscriptions/{name}/rotate-secret";
/// Call the webhook once.
pub const PUSH_TEST: &str = "/v1/topics/{topic}/subscriptions/{name}/test";
/// All queues.
pub const QUEUES: &str = "/v1/queues";
/// One queue.
pub const QUEUE: &str = "/v1/queues/{queue}";
/// Send to a queue.
pub const QUEUE_MESSAGES: &str = "/v1/queues/{queue}/messages";
/// Take messages of a queue.
pub const RECEIVE: &str = "/v1/queues/{queue}/receive";
/// Settle messages of a queue.
pub const QUEUE_ACK: &str = "/v1/queues/{queue}/ack";
/// Give messages of a queue back.
pub const QUEUE_NACK: &str = "/v1/queues/{queue}/nack";
/// Hold messages of a queue longer.
pub const QUEUE_EXTEND: &str = "/v1/queues/{queue}/extend";
/// Look at messages without taking them.
pub const PEEK: &str = "/v1/queues/{queue}/peek";
/// Questions to whoever receives from a queue.
pub const REQUESTS: &str = "/v1/queues/{queue}/requests";
/// Their answers.
pub const REPLIES: &str = "/v1/queues/{queue}/replies";
/// Remove every message of a queue.
pub const PURGE: &str = "/v1/queues/{queue}/purge";
/// Bring dead-lettered messages back.
pub const REDRIVE: &str = "/v1/queues/{queue}/redrive";
/// Bring them back little by little, as tasks.
pub const REDRIVES: &str = "/v1/queues/{queue}/redrives";
/// One of these tasks.
pub const REDRIVE_TASK: &str = "/v1/queues/{queue}/redrives/{id}";

/// Longest name of a topic, subscription or queue, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// Longest long poll, in seconds.
pub const MAX_WAIT_SECONDS: f64 = 60.0;
/// Most messages one pull or receive answers.
pub const MAX_RECEIVE: u32 = 1_000;
/// Messages one pull or receive answers when it names no `max`.
pub const DEFAULT_RECEIVE: u32 = 10;
/// Most messages one read of a topic answers.
pub const MAX_READ: u32 = 10_000;
/// Messages one read of a topic answers when it names no `limit`.
pub const DEFAULT_READ: u32 = 100;
/// Longest reason of a nack, in bytes.
pub const MAX_REASON_BYTES: usize = 256;
/// Most ack ids in one request.
pub const MAX_ACK_IDS: usize = 10_000;
/// Most partitions of a topic.
pub const MAX_PARTITIONS: u32 = 64;

/// A field that is there, also when it is `null`: a payload may be just that.
fn present<'de, D>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    Box::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests;
