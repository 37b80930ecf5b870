//! Settings as the machines keep them: checked, with every default filled in.

use serde::{Deserialize, Serialize};

use crate::filter::Filter;
use crate::ids::{Millis, Name, stable_hash};

/// How messages are delivered: the same for subscriptions and queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// How long a consumer may hold a message.
    pub ack_timeout_ms: u64,
    /// Failed deliveries after which a message is given up. `None`: never.
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
    /// Whether a message that has failed this often is given up.
    #[must_use]
    pub fn is_exhausted(&self, failed: u32) -> bool {
        self.max_deliveries.is_some_and(|max| max <= failed)
    }
}

/// How long a message waits after a delivery that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backoff {
    /// Doubles for every failed delivery, up to a maximum. Between half of that and all of it is
    /// waited, so that what failed together does not come again together.
    Doubling {
        /// After the first failure. 0: at once, always.
        initial_ms: u64,
        /// Never longer than this.
        max_ms: u64,
    },
    /// As listed, to the millisecond.
    Listed(Delays),
}

impl Default for Backoff {
    fn default() -> Self {
        Self::Doubling { initial_ms: 0, max_ms: Self::DEFAULT_MAX_MS }
    }
}

impl Backoff {
    /// Longest wait unless another one is asked for: an hour.
    pub const DEFAULT_MAX_MS: u64 = 3_600_000;

    /// How long this message waits after so many of its deliveries have failed. The same message
    /// and count always wait equally long: there is no randomness in a machine.
    #[must_use]
    pub fn after(&self, message: u64, failed: u32) -> u64 {
        match self {
            Self::Doubling { initial_ms, max_ms } => {
                let doubled = 1_u64.checked_shl(failed.saturating_sub(1)).unwrap_or(u64::MAX);
                let wait = initial_ms.saturating_mul(doubled).min(*max_ms);
                wait - spread(message, failed) % (wait / 2 + 1)
            }
            Self::Listed(delays) => delays.after(failed),
        }
    }
}

fn spread(message: u64, failed: u32) -> u64 {
    let mut seed = [0; 12];
    seed[..8].copy_from_slice(&message.to_le_bytes());
    seed[8..].copy_from_slice(&failed.to_le_bytes());
    stable_hash(&seed)
}

/// Waits after the first, second, … failure; after that the last one again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delays {
    ms: [u32; Self::MAX],
    len: u8,
}

impl Delays {
    /// Most entries.
    pub const MAX: usize = 16;

    /// `None` for no entry, too many, or one above 49 days.
    #[must_use]
    pub fn new(delays: &[u64]) -> Option<Self> {
        let mut ms = [0; Self::MAX];
        if !(1..=Self::MAX).contains(&delays.len()) {
            return None;
        }
        for (at, delay) in delays.iter().enumerate() {
            ms[at] = u32::try_from(*delay).ok()?;
        }
        Some(Self { ms, len: u8::try_from(delays.len()).ok()? })
    }

    /// The entries.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.ms.iter().take(usize::from(self.len)).map(|ms| u64::from(*ms))
    }

    fn after(&self, failed: u32) -> u64 {
        let at = usize::try_from(failed.saturating_sub(1)).unwrap_or(usize::MAX);
        self.iter().nth(at).or_else(|| self.iter().last()).unwrap_or_default()
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
    /// Most messages that consumers hold at once. `None`: as many as there are.
    pub max_in_flight: Option<u64>,
    /// How long a message waits that does not say so itself.
    pub delay_ms: u64,
    /// What happens to a send that does not fit.
    pub overflow: Overflow,
    /// Messages that expire are dropped, also where there is a dead-letter queue.
    pub drop_expired: bool,
}

/// What happens to a send that does not fit into its queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Overflow {
    /// It is refused.
    #[default]
    Reject,
    /// It takes the place of the oldest messages of the lowest priorities, never of a higher one
    /// than its own. They are gone, whoever holds them, and do not become dead letters: room for
    /// them is what there is none of. Where these do not make enough room it is refused.
    DropOldest,
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
            max_in_flight: None,
            delay_ms: 0,
            overflow: Overflow::Reject,
            drop_expired: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_maximum() {
        let backoff = Backoff::Doubling { initial_ms: 100, max_ms: 1_000 };
        for message in 0..100 {
            for (failed, full) in [(1, 100), (2, 200), (4, 800), (5, 1_000), (200, 1_000)] {
                let wait = backoff.after(message, failed);
                assert!((full / 2..=full).contains(&wait), "{wait} after {failed}");
            }
        }
        assert_eq!(Backoff::default().after(1, 9), 0);
    }

    #[test]
    fn what_failed_together_does_not_come_again_together() {
        let backoff = Backoff::Doubling { initial_ms: 1_000, max_ms: 1_000 };
        let mut waits: Vec<_> = (0..100).map(|message| backoff.after(message, 1)).collect();
        waits.sort_unstable();
        waits.dedup();
        assert!(80 < waits.len(), "{} different waits", waits.len());
    }

    #[test]
    fn a_list_is_waited_to_the_millisecond_and_ends_with_its_last_entry() {
        let backoff = Backoff::Listed(Delays::new(&[10, 500, 20]).unwrap());
        let waits: Vec<_> = [1, 2, 3, 4, 900].map(|failed| backoff.after(7, failed)).into();
        assert_eq!(waits, [10, 500, 20, 20, 20]);
        assert_eq!((Delays::new(&[]), Delays::new(&[1; 17])), (None, None));
        assert_eq!(Delays::new(&[u64::MAX]), None);
    }
}
