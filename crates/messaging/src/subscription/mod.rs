//! One subscription's part in one partition: which messages are settled, and who holds the rest.
//!
//! Replicated are the settled offsets (a floor and ranges above it) and the progress of messages
//! that are delivered but not settled. Everything else, above all how far the leader has looked,
//! is the leader's own and starts again from the floor after a restart.
//!
//! **Invariant:** a settled offset is never handed out again, except after a seek.
//! **Invariant:** between the floor and the furthest delivery there are at most
//! [`MAX_OUTSTANDING`] unsettled messages, so state stays small however long a topic is.

mod lead;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::SubscriptionConfig;
use crate::dispatch::{Dispatcher, Progress, Spec};
use crate::ids::{Epoch, Name};
use crate::ranges::Ranges;

pub use lead::{Fed, Pulled};

/// Most messages of one partition that a subscription has delivered, or looked at, and not
/// settled. Beyond it a pull answers nothing new until some are settled.
pub const MAX_OUTSTANDING: usize = 10_000;

/// Where to begin, as it is logged: every leader resolves it the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Position {
    /// The oldest message that is there.
    Earliest,
    /// The next message.
    Latest,
    /// This offset, or the nearest one that is there.
    Offset(u64),
}

impl Position {
    /// The offset it means in a partition that holds `earliest..next`.
    #[must_use]
    pub fn resolve(self, earliest: u64, next: u64) -> u64 {
        match self {
            Self::Earliest => earliest,
            Self::Latest => next,
            Self::Offset(offset) => offset.clamp(earliest, next),
        }
    }
}

/// What later leaders must know of deliveries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// Of which position: see [`Subscription::generation`].
    pub generation: u32,
    /// Messages delivered and not settled.
    pub progress: Vec<(u64, Progress)>,
    /// First and last of offsets that the filter does not want.
    pub passed: Vec<(u64, u64)>,
}

/// Why messages are settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// A consumer is done with them.
    Acked,
    /// They are in the dead-letter queue.
    DeadLettered,
    /// They were delivered as often as they may be, and there is no dead-letter queue.
    Discarded,
}

/// Settles messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settle {
    /// Of which position: see [`Subscription::generation`].
    pub generation: u32,
    /// Why.
    pub why: Why,
    /// Offsets, each with the delivery that is settled.
    pub items: Vec<(u64, u32)>,
}

/// What became of one message of a [`Settle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SettleReply {
    /// It is settled.
    Settled,
    /// It was delivered again, or the subscription was moved, since that delivery.
    Late,
    /// It is settled already, or was never there.
    Unknown,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Messages settled by an ack.
    pub acked: u64,
    /// Deliveries that were not the first of their message.
    pub redelivered: u64,
    /// Messages moved to the dead-letter queue.
    pub dead_lettered: u64,
    /// Messages given up without one.
    pub discarded: u64,
}

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Subscription {
    name: Name,
    version: u64,
    config: SubscriptionConfig,
    generation: u32,
    floor: u64,
    settled: Ranges,
    /// How many offsets `settled` holds.
    settled_above: u64,
    progress: BTreeMap<u64, Progress>,
    counters: Counters,
    #[serde(skip)]
    local: Local,
}

/// What only a leader has.
#[derive(Clone, Debug, Default)]
struct Local {
    dispatcher: Dispatcher,
    /// The first offset that was not looked at.
    scan: u64,
    /// Offsets the filter does not want, not reported yet.
    passed: Ranges,
}

impl Subscription {
    pub(crate) fn new(name: Name, version: u64, config: SubscriptionConfig, start: u64) -> Self {
        Self {
            name,
            version,
            config,
            generation: 0,
            floor: start,
            settled: Ranges::default(),
            settled_above: 0,
            progress: BTreeMap::new(),
            counters: Counters::default(),
            local: Local { scan: start, ..Local::default() },
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The catalog's version of its settings.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &SubscriptionConfig {
        &self.config
    }

    /// Counts its seeks: a delivery of before a seek settles nothing after it.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Everything below it is settled.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// What has happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Messages not settled, of a partition whose next offset is `next`.
    #[must_use]
    pub fn lag(&self, next: u64) -> u64 {
        (next - self.floor) - self.settled_above
    }

    /// Whether this offset is settled.
    #[must_use]
    pub fn is_settled(&self, offset: u64) -> bool {
        offset < self.floor || self.settled.contains(offset)
    }

    /// Who holds what, as this leader knows it.
    #[must_use]
    pub fn dispatcher(&self) -> &Dispatcher {
        &self.local.dispatcher
    }

    pub(crate) fn configure(&mut self, version: u64, config: SubscriptionConfig) {
        // A leader may be behind the one before it.
        if version < self.version {
            return;
        }
        self.version = version;
        let relook = self.config.filter != config.filter
            || self.config.ordered_by_key != config.ordered_by_key;
        self.config = config;
        if relook {
            // What is held stays held; what was only looked at is looked at again.
            self.rebuild();
        }
    }

    pub(crate) fn apply_delivered(&mut self, delivered: &Delivered, own: Option<Epoch>) {
        if delivered.generation != self.generation {
            return;
        }
        for (offset, progress) in &delivered.progress {
            if !self.is_settled(*offset) {
                self.count_redelivery(*offset, progress.attempts);
                let progress = progress.following(self.progress.get(offset));
                if Some(progress.epoch) != own {
                    self.local.restore(*offset, &progress);
                }
                self.progress.insert(*offset, progress);
            }
        }
        for (first, last) in &delivered.passed {
            let first = self.floor.max(*first);
            if first <= *last {
                self.settled_above += self.settled.insert(first, *last);
            }
        }
        self.raise_floor(self.floor);
    }

    pub(crate) fn apply_settle(&mut self, settle: &Settle, next: u64) -> Vec<SettleReply> {
        let replies = settle.items.iter().map(|(offset, delivery)| {
            if settle.generation != self.generation {
                return SettleReply::Late;
            }
            if next <= *offset || self.is_settled(*offset) {
                return SettleReply::Unknown;
            }
            if *delivery < self.attempts(*offset) {
                return SettleReply::Late;
            }
            self.count_redelivery(*offset, *delivery);
            self.settle_one(*offset);
            match settle.why {
                Why::Acked => self.counters.acked += 1,
                Why::DeadLettered => self.counters.dead_lettered += 1,
                Why::Discarded => self.counters.discarded += 1,
            }
            SettleReply::Settled
        });
        let replies = replies.collect();
        self.raise_floor(self.floor);
        replies
    }

    pub(crate) fn seek(&mut self, to: u64) {
        self.generation += 1;
        self.floor = to;
        self.settled = Ranges::default();
        self.settled_above = 0;
        self.progress.clear();
        self.rebuild();
    }

    /// Retention has dropped everything below `earliest`.
    pub(crate) fn drop_below(&mut self, earliest: u64) {
        if earliest <= self.floor {
            return;
        }
        self.progress = self.progress.split_off(&earliest);
        self.local.dispatcher.forget_below(earliest);
        self.raise_floor(earliest);
    }

    /// Makes the leader's part from the replicated one.
    pub(crate) fn rebuild(&mut self) {
        self.local = Local { scan: self.floor, ..Local::default() };
        for (offset, progress) in &self.progress {
            self.local.restore(*offset, progress);
        }
    }

    fn attempts(&self, offset: u64) -> u32 {
        self.progress.get(&offset).map_or(0, |progress| progress.attempts)
    }

    fn count_redelivery(&mut self, offset: u64, attempts: u32) {
        let known = self.attempts(offset).max(1);
        self.counters.redelivered += u64::from(attempts.saturating_sub(known));
    }

    fn settle_one(&mut self, offset: u64) {
        self.progress.remove(&offset);
        self.local.dispatcher.forget(offset);
        self.settled_above += self.settled.insert(offset, offset);
    }

    /// Lifts the floor to `least`, and over what is settled there.
    fn raise_floor(&mut self, least: u64) {
        self.floor = self.settled.first_gap(self.floor.max(least));
        self.settled_above -= self.settled.remove_below(self.floor);
        self.local.scan = self.local.scan.max(self.floor);
    }
}

impl Local {
    fn restore(&mut self, offset: u64, progress: &Progress) {
        let spec = Spec { group: progress.group, ..Spec::default() };
        self.dispatcher.restore(offset, spec, progress);
    }
}
