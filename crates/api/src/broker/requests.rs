//! Questions that go through a queue, and their answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{AckOutcome, PeekedMessage};

/// The queue of answers: made when it is first needed.
pub const REPLY_QUEUE: &str = "quartet.replies";
/// The attribute that names the queue for the answer.
pub const REPLY_TO: &str = "reply-to";
/// The attribute that an answer has from its question.
pub const CORRELATION_ID: &str = "correlation-id";
/// How long a request waits for its answer when it does not say so.
pub const DEFAULT_REPLY_SECONDS: f64 = 30.0;
/// How long an answer is kept for who asks late.
pub const REPLY_SECONDS: u64 = 3_600;

/// What came of a request.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Requested {
    /// Finds the answer.
    pub correlation_id: String,
    /// The answer. Absent: there is none yet, and the request still stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<PeekedMessage>,
}

/// The answer to a request, by who received it.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReplyRequest {
    /// Of the delivery that is answered; it is acknowledged with that.
    pub ack_id: String,
    /// The payload as JSON; it is kept byte for byte.
    #[serde(deserialize_with = "super::present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub data: Option<Box<RawValue>>,
    /// The payload in standard base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_base64: Option<String>,
    /// What the payload is, as in a batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Delivered with the answer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// What became of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Replied {
    /// `ok`: it is stored and the request is settled. `late` and `unknown`: nothing was done, as
    /// another consumer may have the request by now, or it is gone.
    pub result: AckOutcome,
    /// What it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
}
