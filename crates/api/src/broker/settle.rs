//! Taking, settling and holding messages: the same for subscriptions and queues.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Asks for messages. An empty body asks for the defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PullRequest {
    /// Most messages to answer, 1 to 1,000. 10 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// How long to wait for the first message, 0 to 60. 0 if absent: answer at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<f64>,
    /// How long the messages are this consumer's, instead of what the queue says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack_deadline_seconds: Option<f64>,
}

/// Settles messages: they are done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AckRequest {
    /// 1 to 10,000 ids as delivered.
    pub ack_ids: Vec<String>,
}

/// Gives messages back: they are delivered again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NackRequest {
    /// 1 to 10,000 ids as delivered.
    pub ack_ids: Vec<String>,
    /// When they may be delivered again. Absent: after the backoff of the queue or subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Absent or true: the delivery failed, and counts against `max_deliveries`. False: it was
    /// not tried; nothing counts, and without `delay_ms` the message may go again at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<bool>,
    /// Why it failed, for people, up to 256 bytes. The last one goes into the dead letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Holds messages longer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtendRequest {
    /// 1 to 10,000 ids as delivered.
    pub ack_ids: Vec<String>,
    /// The new deadline, from now. Absent: what the queue or subscription says. One delivery is
    /// held for 7 days at most, however often that is extended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack_deadline_seconds: Option<f64>,
}

/// What became of one ack id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AckOutcome {
    /// Done as asked, and on disk if it was an ack.
    Ok,
    /// The deadline of this delivery had passed, or the message was delivered again since.
    /// Nothing was done.
    Late,
    /// The message is settled already, was removed, or the id was never given out here. Nothing
    /// was done.
    Unknown,
}

/// The outcome for one id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AckResult {
    /// As it was sent.
    pub ack_id: String,
    /// What became of it.
    pub result: AckOutcome,
}

/// One outcome per id, in the order they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Settled {
    /// How many are `ok`.
    pub ok: u64,
    /// One for each id of the request.
    pub results: Vec<AckResult>,
}
