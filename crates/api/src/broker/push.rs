//! Push: a subscription that calls its consumer.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where messages go by themselves. Calls are signed as Standard Webhooks describes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PushSpec {
    /// `http://host[:port]/path`. Redirects are not followed.
    pub url: String,
    /// `whsec_` and 24 to 64 bytes in base64. Absent: as it is, and a new one is drawn. Only the
    /// answer that brought a drawn one shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// How a message looks. Absent: `raw`.
    pub format: PushFormat,
    /// Most calls at a time, 1 to 1,000, shared by the brokers that lead partitions: at least one
    /// for each of them. Absent: 32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
    /// How long a call may take, 0.1 to 300. Absent: `broker.webhooks.timeout_seconds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<f64>,
}

/// How a message looks to a webhook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PushFormat {
    /// The body as it was published; attributes as `x-attr-*` and `ce-*` headers.
    #[default]
    Raw,
    /// The body as it was published; the event's attributes as `ce-*` headers.
    CloudeventsBinary,
    /// One JSON document, `application/cloudevents+json`.
    CloudeventsStructured,
}

/// Why a subscription does not push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PushPaused {
    /// For people.
    pub reason: String,
    /// Since when, RFC 3339 in UTC.
    pub since: String,
}

/// `POST …/rotate-secret`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RotateSecretRequest {
    /// `whsec_` and 24 to 64 bytes in base64. Absent: drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// How long calls are signed with the former secret too, up to 7 days. Absent: a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_seconds: Option<f64>,
}

/// What a rotation answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RotatedSecret {
    /// The new secret. It is shown here and nowhere else.
    pub secret: String,
    /// Until when calls are signed with the former one too, RFC 3339 in UTC.
    pub former_until: String,
}

/// `POST …/test`: what the endpoint answered to a made-up message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PushTested {
    /// Whether a message would count as delivered.
    pub delivered: bool,
    /// The status that it answered, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What it answered, the beginning; or why there is no answer.
    pub detail: String,
}
