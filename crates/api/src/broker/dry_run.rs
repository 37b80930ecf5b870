//! Where messages would go.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where one message of a publish with `dry_run=true` would go. Nothing is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WouldPublish {
    /// The partition. Without a key: the next in turn, which another publish may take first.
    pub partition: u32,
    /// Whether its key decides that.
    pub by_key: bool,
    /// The broker that leads the partition, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The brokers that would have a copy.
    pub replicas: Vec<String>,
    /// The subscriptions of the topic, by name.
    pub subscriptions: Vec<WouldDeliver>,
}

/// What a subscription would do with a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WouldDeliver {
    /// The subscription.
    pub name: String,
    /// Its filter lets the message through.
    pub wanted: bool,
    /// Where the message goes when it is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<String>,
}
