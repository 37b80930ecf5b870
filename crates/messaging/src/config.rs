//! Settings as the machines keep them: checked, with every default filled in.

use serde::{Deserialize, Serialize};

use crate::filter::Filter;
use crate::ids::{Millis, Name};

/// How messages are delivered: the same for subscriptions and queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// How long a consumer may hold a message.
    pub ack_timeout_ms: u64,
    /// Deliveries after which a message is given up. `None`: never.
    pub max_deliveries: Option<u32>,
    /// How long a failed message waits.
    pub backoff: Backoff,
}

impl Default for Policy {
    fn default() -> Self {
        Self { ack_timeout_ms: 30_000, max_deliveries: None, backoff: Backoff::default() }
    }
}

impl Policy {
    /// Whether a message that has been delivered this often is given up when it fails again.
    #[must_use]
    pub fn is_exhausted(&self, attempts: u32) -> bool {
        self.max_deliveries.is_some_and(|max| max <= attempts)
    }
}

/// Doubles for every failed delivery, up to a maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// Before the second delivery. 0: at once, always.
    pub initial_ms: u64,
    /// Never longer than this.
    pub max_ms: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial_ms: 0, max_ms: 3_600_000 }
    }
}

impl Backoff {
    /// How long to wait after this many deliveries have failed.
    #[must_use]
    pub fn after(&self, attempts: u32) -> u64 {
        let doubled = 1_u64.checked_shl(attempts.saturating_sub(1)).unwrap_or(u64::MAX);
        self.initial_ms.saturating_mul(doubled).min(self.max_ms)
    }
}

/// When old messages of a topic go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Older ones go.
    pub age_ms: Option<u64>,
    /// The oldest go while a partition holds more.
    pub bytes: Option<u64>,
}

/// A subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionConfig {
    /// How messages are delivered.
    pub policy: Policy,
    /// Which messages.
    pub filter: Filter,
    /// One at a time per key.
    pub ordered_by_key: bool,
    /// The queue for messages that are given up.
    pub dead_letter: Option<Name>,
}

impl SubscriptionConfig {
    /// Whether a message must be looked at before it is known to be deliverable.
    #[must_use]
    pub fn needs_envelopes(&self) -> bool {
        self.ordered_by_key || !self.filter.is_empty()
    }
}

/// Where a new subscription begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// With the oldest message that is there.
    Earliest,
    /// With the next message.
    #[default]
    Latest,
    /// At this offset, or the oldest one if it is gone.
    Offset(u64),
    /// With the first message published at this time or later.
    Time(Millis),
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueConfig {
    /// Most messages.
    pub max_messages: u64,
    /// Most bytes, with envelopes.
    pub max_bytes: u64,
    /// Highest priority.
    pub max_priority: u8,
    /// How messages are delivered.
    pub policy: Policy,
    /// The queue for messages that are given up.
    pub dead_letter: Option<Name>,
    /// Messages not delivered by then expire.
    pub ttl_ms: Option<u64>,
    /// How long dedup ids are remembered.
    pub dedup_window_ms: u64,
    /// Messages without a group form one group.
    pub fifo: bool,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            max_messages: 1_000_000,
            max_bytes: 1 << 30,
            max_priority: 9,
            policy: Policy::default(),
            dead_letter: None,
            ttl_ms: None,
            dedup_window_ms: 300_000,
            fifo: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_maximum() {
        let backoff = Backoff { initial_ms: 100, max_ms: 1_000 };
        let waits: Vec<_> = [1, 2, 3, 4, 5, 200].map(|n| backoff.after(n)).into();
        assert_eq!(waits, [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(Backoff::default().after(9), 0);
    }
}
