//! What the leader of a queue does between two log entries.

use serde::{Deserialize, Serialize};

use super::{Queue, RESERVED_MS, Stored};
use crate::ack::AckId;
use crate::config::Policy;
use crate::dispatch::{Doomed, NotLeading, Progress, Release, Taken, Verdict};
use crate::ids::{Epoch, MessageId, Millis};

/// A message handed out, and where its body is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Which delivery of which message.
    pub taken: Taken,
    /// What the queue keeps of it.
    pub stored: Stored,
    /// When it was delivered first.
    pub first_ms: Millis,
}

/// What a receive hands out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The life in which it was handed out: what ack ids name.
    pub epoch: Epoch,
    /// To the consumer.
    pub receipts: Vec<Receipt>,
    /// When something that waits now may go.
    pub next_due: Option<Millis>,
    /// Consumers hold as many as they may: more may be there.
    pub capped: bool,
}

impl Queue {
    /// Hands out up to `max` messages until `now + ack_timeout_ms`, or as the policy says.
    ///
    /// # Errors
    ///
    /// While this node does not lead.
    pub fn receive(
        &mut self,
        now: Millis,
        max: usize,
        ack_timeout_ms: Option<u64>,
    ) -> Result<Received, NotLeading> {
        let epoch = self.epoch.ok_or(NotLeading)?;
        let policy = self.advance(now);
        let until = now.saturating_add(ack_timeout_ms.unwrap_or(policy.ack_timeout_ms));
        let room = self
            .state
            .config
            .max_in_flight
            .map_or(u64::MAX, |most| most.saturating_sub(self.dispatcher.depth().in_flight));
        let allowed = usize::try_from(room).unwrap_or(usize::MAX);
        let taken = self.dispatcher.take(max.min(allowed), until, epoch);
        let capped = allowed < max && taken.len() == allowed;
        let receipts = taken.into_iter().map(|taken| {
            let slot = self.state.table.get(taken.id).expect("what is dispatched is in the table");
            let first_ms = self.dispatcher.first_ms(taken.id);
            Receipt { taken, stored: slot.stored(), first_ms }
        });
        let (receipts, next_due) = (receipts.collect(), self.dispatcher.next_due());
        Ok(Received { epoch, receipts, next_due, capped })
    }

    /// Lets time pass, which only a leader decides. Answers the policy it did so under.
    pub fn advance(&mut self, now: Millis) -> Policy {
        let policy = self.state.config.policy;
        if let Some(epoch) = self.epoch {
            self.dispatcher.advance(now, &policy, epoch);
        }
        policy
    }

    /// Whether a delivery is still its consumer's. Call [`Self::advance`] first.
    ///
    /// # Errors
    ///
    /// While this node does not lead.
    pub fn verdict(
        &self,
        id: MessageId,
        delivery: u32,
        epoch: Epoch,
    ) -> Result<Verdict, NotLeading> {
        self.epoch.ok_or(NotLeading)?;
        Ok(self.dispatcher.verdict(id.0, delivery, epoch))
    }

    /// Whether this was the last delivery of its message, and nobody holds it any more.
    #[must_use]
    pub fn was_last(&self, id: &AckId) -> bool {
        let is_last = self.dispatcher.attempts(id.message) == id.delivery;
        is_last && self.dispatcher.held(id.message).is_none()
    }

    /// Keeps a message while its ack is on its way to the disk.
    pub fn hold_for_ack(&mut self, id: MessageId, at_least: Millis) {
        self.dispatcher.hold_for_ack(id.0, at_least);
    }

    /// Holds a message until then.
    pub fn extend(&mut self, id: MessageId, until: Millis) {
        self.dispatcher.extend(id.0, until);
    }

    /// Gives a message back.
    pub fn release(&mut self, id: MessageId, how: Release) {
        let policy = self.state.config.policy;
        self.dispatcher.release(id.0, how, &policy);
    }

    /// Takes back what did not reach its consumer.
    pub fn untake(&mut self, taken: &[Taken]) {
        if self.epoch.is_some() {
            self.dispatcher.untake(taken);
        }
    }

    /// Messages that this leader gives up, with what is kept of them.
    #[must_use]
    pub fn doomed(&self, max: usize) -> Vec<(Doomed, Stored)> {
        if self.epoch.is_none() {
            return Vec::new();
        }
        let stored = |doomed: Doomed| {
            let stored = self.state.table.get(doomed.id)?.stored();
            Some((doomed, stored))
        };
        self.dispatcher.doomed(max).into_iter().filter_map(stored).collect()
    }

    /// The next messages in the order they would go, without taking them.
    #[must_use]
    pub fn peek(&self, max: usize) -> Vec<(MessageId, u32, Stored)> {
        let upcoming = self.dispatcher.upcoming().take(max);
        upcoming
            .filter_map(|id| {
                let stored = self.state.table.get(id)?.stored();
                Some((MessageId(id), self.dispatcher.attempts(id), stored))
            })
            .collect()
    }

    /// Reserves up to `max` messages that are to be moved elsewhere: of those that were
    /// dead-lettered from `group`, or, without one, of all.
    ///
    /// # Errors
    ///
    /// While this node does not lead.
    pub fn reserve(
        &mut self,
        now: Millis,
        max: usize,
        group: Option<u64>,
    ) -> Result<Vec<(MessageId, u32, Stored)>, NotLeading> {
        self.epoch.ok_or(NotLeading)?;
        self.advance(now);
        let Self { state, dispatcher, .. } = self;
        let mut reserved = Vec::new();
        for (id, slot) in state.table.iter() {
            let from = slot.source().map(|source| source.group);
            let wanted = group.is_none_or(|group| from == Some(group));
            if wanted && dispatcher.reserve(id, now.saturating_add(RESERVED_MS)) {
                reserved.push((MessageId(id), dispatcher.attempts(id), slot.stored()));
                if max <= reserved.len() {
                    break;
                }
            }
        }
        Ok(reserved)
    }

    /// Gives up reservations.
    pub fn unreserve(&mut self, ids: &[MessageId]) {
        for id in ids {
            self.dispatcher.unreserve(id.0);
        }
    }

    /// What later leaders must be told, of up to `max` messages.
    pub fn take_progress(&mut self, max: usize) -> Vec<(u64, Progress)> {
        match self.epoch {
            Some(epoch) => self.dispatcher.take_progress(max, epoch),
            None => Vec::new(),
        }
    }

    /// Takes back what [`Self::take_progress`] gave and the log did not take.
    pub fn report_again(&mut self, progress: &[(u64, Progress)]) {
        if self.epoch.is_some() {
            self.dispatcher.report_again(progress.iter().map(|(id, _)| *id));
        }
    }
}
