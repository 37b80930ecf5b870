//! What the leader of a partition does with a subscription between two log entries.

use std::ops::Range;

use super::{Delivered, MAX_OUTSTANDING, Subscription};
use crate::dispatch::{Doomed, NotLeading, Release, Spec, Taken, Verdict};
use crate::ids::{Epoch, Millis};
use crate::partition::Leading;
use crate::ranges::Ranges;

/// Most messages looked at for one pull before it answers what it has.
const MAX_FEED: u64 = 1_024;

/// What a pull hands out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulled {
    /// The life in which it was handed out: what ack ids name.
    pub epoch: Epoch,
    /// To the consumer.
    pub taken: Vec<Taken>,
    /// Before more can be handed out, these must be looked at: see [`Leading::feed`].
    pub feed: Option<Range<u64>>,
    /// When something that waits now may go.
    pub next_due: Option<Millis>,
}

/// A message that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fed {
    /// Where it is.
    pub offset: u64,
    /// Whether the filter wants it.
    pub wanted: bool,
    /// The hash of its key, if the subscription is ordered and it has one.
    pub group: Option<u64>,
}

impl Leading<'_> {
    /// Its settings and counters.
    #[must_use]
    pub fn get(&self) -> &Subscription {
        self.subscription
    }

    /// Hands out up to `max` messages until `now + ack_timeout_ms`, or as the policy says.
    ///
    /// # Errors
    ///
    /// While this node does not lead.
    pub fn pull(
        &mut self,
        now: Millis,
        max: usize,
        ack_timeout_ms: Option<u64>,
    ) -> Result<Pulled, NotLeading> {
        let epoch = self.epoch.ok_or(NotLeading)?;
        let policy = self.subscription.config.policy;
        let until = now.saturating_add(ack_timeout_ms.unwrap_or(policy.ack_timeout_ms));
        let fed = self.subscription.config.needs_envelopes();
        self.subscription.local.dispatcher.advance(now, &policy, epoch);
        let mut taken = self.subscription.local.dispatcher.take(max, until, epoch);
        let mut feed = None;
        if fed {
            feed = (taken.len() < max).then(|| self.unseen()).flatten();
        } else {
            while taken.len() < max
                && let Some(offset) = self.next_fresh()
            {
                let dispatcher = &mut self.subscription.local.dispatcher;
                dispatcher.add(offset, Spec::default());
                taken.push(dispatcher.hand_out(offset, until, epoch));
            }
        }
        let next_due = self.subscription.local.dispatcher.next_due();
        Ok(Pulled { epoch, taken, feed, next_due })
    }

    /// Takes in messages that were looked at, in order, as [`Pulled::feed`] asked.
    pub fn feed(&mut self, looked_at: Range<u64>, found: &[Fed]) {
        if self.epoch.is_none() {
            return;
        }
        for fed in found {
            let unseen = self.subscription.local.scan <= fed.offset;
            if !unseen || self.subscription.is_settled(fed.offset) {
                continue;
            }
            if !fed.wanted {
                self.subscription.local.passed.insert(fed.offset, fed.offset);
            } else if !self.subscription.local.dispatcher.knows(fed.offset) {
                let spec = Spec { group: fed.group, ..Spec::default() };
                self.subscription.local.dispatcher.add(fed.offset, spec);
            }
        }
        let scan = &mut self.subscription.local.scan;
        if looked_at.start <= *scan {
            *scan = (*scan).max(looked_at.end);
        }
    }

    /// Whether a delivery is still its consumer's.
    ///
    /// # Errors
    ///
    /// While this node does not lead.
    pub fn verdict(
        &self,
        generation: u32,
        offset: u64,
        delivery: u32,
        epoch: Epoch,
    ) -> Result<Verdict, NotLeading> {
        self.epoch.ok_or(NotLeading)?;
        if generation != self.subscription.generation {
            return Ok(Verdict::Late);
        }
        if self.available.end <= offset || self.subscription.is_settled(offset) {
            return Ok(Verdict::Unknown);
        }
        Ok(match self.subscription.local.dispatcher.verdict(offset, delivery, epoch) {
            // Not settled and not looked at since the last restart: it will be delivered again.
            Verdict::Unknown => Verdict::Late,
            verdict => verdict,
        })
    }

    /// Lets time pass, so that a verdict is about now.
    pub fn advance(&mut self, now: Millis) {
        let policy = self.subscription.config.policy;
        if let Some(epoch) = self.epoch {
            self.subscription.local.dispatcher.advance(now, &policy, epoch);
        }
    }

    /// Keeps a message while its ack is on its way to the disk.
    pub fn hold_for_ack(&mut self, offset: u64, at_least: Millis) {
        self.subscription.local.dispatcher.hold_for_ack(offset, at_least);
    }

    /// Holds a message until then.
    pub fn extend(&mut self, offset: u64, until: Millis) {
        self.subscription.local.dispatcher.extend(offset, until);
    }

    /// Gives a message back.
    pub fn release(&mut self, offset: u64, how: Release) {
        let policy = self.subscription.config.policy;
        self.subscription.local.dispatcher.release(offset, how, &policy);
    }

    /// Takes back what did not reach its consumer.
    pub fn untake(&mut self, taken: &[Taken]) {
        if self.epoch.is_some() {
            self.subscription.local.dispatcher.untake(taken);
        }
    }

    /// Messages that this leader gives up.
    #[must_use]
    pub fn doomed(&self, max: usize) -> Vec<Doomed> {
        match self.epoch {
            Some(_) => self.subscription.local.dispatcher.doomed(max),
            None => Vec::new(),
        }
    }

    /// What later leaders must be told, of up to `max` messages.
    pub fn take_progress(&mut self, max: usize) -> Option<Delivered> {
        let epoch = self.epoch?;
        let generation = self.subscription.generation;
        let progress = self.subscription.local.dispatcher.take_progress(max, epoch);
        let passed = std::mem::take(&mut self.subscription.local.passed);
        let passed: Vec<_> = passed.iter().map(|range| (*range.start(), *range.end())).collect();
        let nothing = progress.is_empty() && passed.is_empty();
        (!nothing).then_some(Delivered { generation, progress, passed })
    }

    /// Takes back what [`Self::take_progress`] gave and the log did not take.
    pub fn report_again(&mut self, delivered: &Delivered) {
        if self.epoch.is_none() || delivered.generation != self.subscription.generation {
            return;
        }
        let local = &mut self.subscription.local;
        local.dispatcher.report_again(delivered.progress.iter().map(|(offset, _)| *offset));
        for (first, last) in &delivered.passed {
            local.passed.insert(*first, *last);
        }
    }

    /// Whether later leaders must be told something.
    #[must_use]
    pub fn has_progress(&self) -> bool {
        let local = &self.subscription.local;
        local.dispatcher.has_progress() || !Ranges::is_empty(&local.passed)
    }

    /// The next message nobody has looked at.
    fn next_fresh(&mut self) -> Option<u64> {
        if MAX_OUTSTANDING <= self.subscription.local.dispatcher.len() {
            return None;
        }
        loop {
            let scan = self.subscription.local.scan;
            let offset = self.subscription.settled.first_gap(scan.max(self.available.start));
            if self.available.end <= offset {
                self.subscription.local.scan = scan.max(self.available.end);
                return None;
            }
            self.subscription.local.scan = offset + 1;
            if !self.subscription.local.dispatcher.knows(offset) {
                return Some(offset);
            }
        }
    }

    /// Messages to look at next.
    fn unseen(&self) -> Option<Range<u64>> {
        let room = MAX_OUTSTANDING.saturating_sub(self.subscription.local.dispatcher.len()) as u64;
        let from = self.subscription.local.scan.max(self.available.start);
        let to = from.saturating_add(room.min(MAX_FEED)).min(self.available.end);
        (from < to).then_some(from..to)
    }
}
