//! Messages by what they answer: how one that waits for a reply finds it among many.
//!
//! Only messages that name a correlation are here, so a queue without replies pays nothing.

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::{MessageId, Queue};

/// The first message of each correlation that is still stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Replies {
    by_correlation: OrdMap<u64, u64>,
    by_id: OrdMap<u64, u64>,
}

impl Replies {
    /// A message answers this. Whether nothing did so before.
    pub(super) fn insert(&mut self, correlation: u64, id: u64) -> bool {
        if self.by_correlation.contains_key(&correlation) {
            return false;
        }
        self.by_correlation.insert(correlation, id);
        self.by_id.insert(id, correlation);
        true
    }

    pub(super) fn remove(&mut self, id: u64) {
        if let Some(correlation) = self.by_id.remove(&id) {
            self.by_correlation.remove(&correlation);
        }
    }
}

impl Queue {
    /// The first message that answers this, by the hash of its correlation: another text may have
    /// the same, so look at what it is.
    #[must_use]
    pub fn by_correlation(&self, hash: u64) -> Option<MessageId> {
        self.state.replies.by_correlation.get(&hash).copied().map(MessageId)
    }

    /// How often the message was delivered.
    #[must_use]
    pub fn deliveries(&self, id: MessageId) -> u32 {
        self.dispatcher.attempts(id.0)
    }

    /// The correlations that were answered since this was last called. For who keeps those that
    /// wait; nobody else has to call it, as it holds those of one command at most.
    pub fn take_answered(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.answered)
    }
}
