//! A queue: messages until they are settled, by priority, with delays, groups and a capacity.
//!
//! Bodies stay in the log. Beside them a message takes some 50 bytes, as long as it is a plain one
//! that waits its turn; a group, a delay, a time to live or a delivery costs about 150 more.
//! What is replicated: the messages, the progress of those delivered, the dedup window, counters.
//! What is the leader's own: the [`Dispatcher`].
//!
//! **Invariant:** the capacity is never exceeded: it is checked where a send is applied.
//! **Invariant:** a send is stored whole or refused whole.

mod apply;
mod lead;
mod replies;
mod room;
mod table;
mod tasks;

use std::ops::RangeInclusive;

use consensus::Index;
use serde::{Deserialize, Serialize};

use crate::bits::Bits;
use crate::config::QueueConfig;
use crate::dedup::Window;
use crate::dispatch::{Dispatcher, LEVELS, Progress};
use crate::frame::RecordSize;
use crate::ids::{Epoch, MessageId, Millis};
use table::Table;

pub use apply::{QueueReply, Refused, SendReply};
pub use lead::{Receipt, Received};
pub use tasks::{
    MAX_RATE, MAX_TASKS, MoveBatch, MoveOrder, MoveState, MoveStep, MoveTask, NextMove,
};

/// Most dedup ids remembered at once, per queue; then the oldest go early.
pub const MAX_DEDUP_IDS: usize = 1_000_000;
/// Most results remembered under an `Idempotency-Key` at once, per queue.
pub const MAX_IDEMPOTENCY_KEYS: usize = 100_000;
/// How long the result of a send is remembered under its `Idempotency-Key`.
pub const IDEMPOTENCY_WINDOW_MS: u64 = 300_000;
/// How long a queue remembers what was dead-lettered or redriven into it.
pub const SOURCE_WINDOW_MS: u64 = 3_600_000;

/// How long messages stay reserved that are being moved: longer than any request takes.
const RESERVED_MS: Millis = 120_000;

/// What is logged in a queue's group. Variants are only ever added, at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QueueCommand {
    /// Stores messages; their records follow the command.
    Send {
        /// A repeat under the same key answers the first result.
        idempotency_key: Option<String>,
        /// One for each message.
        messages: Vec<Outgoing>,
    },
    /// Changes the settings.
    Configure {
        /// The catalog's version of the queue.
        version: u64,
        /// The settings.
        config: QueueConfig,
    },
    /// What later leaders must know of deliveries.
    Delivered {
        /// Messages delivered and not settled.
        progress: Vec<(u64, Progress)>,
    },
    /// Removes messages.
    Settle {
        /// Why.
        why: Why,
        /// Messages, each with the delivery that is settled.
        items: Vec<(u64, u32)>,
    },
    /// Removes every message.
    Purge,
    /// Begins to move messages to other queues.
    BeginMove(MoveOrder),
    /// Ends a task of this identity.
    CancelMove(u64),
    /// Messages of a task are moved.
    AdvanceMove(MoveStep),
}

/// One message to be stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// Its record's lengths.
    pub size: RecordSize,
    /// Higher goes first.
    pub priority: u8,
    /// Not before this much later; absent: as the queue says.
    pub delay_ms: Option<u64>,
    /// Not from this much later on.
    pub ttl_ms: Option<u64>,
    /// The same id within the window is stored once.
    pub dedup_id: Option<String>,
    /// The hash of its group.
    pub group: Option<u64>,
    /// Where it was before, if it is moved: stored once for each such place.
    pub source: Option<Source>,
    /// It is moved here because it was given up there, and may be brought back.
    pub dead_lettered: bool,
    /// The hash of what it answers: it is found by that.
    pub correlation: Option<u64>,
}

/// A message in another group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The group.
    pub group: u64,
    /// The subscription; 0 if it was a queue.
    pub subscription: u64,
    /// The message's id or offset.
    pub message: u64,
}

/// Why messages are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// A consumer is done with them.
    Acked,
    /// They are in the dead-letter queue.
    DeadLettered,
    /// They expired, and there is no dead-letter queue.
    Expired,
    /// They were delivered as often as they may be, and there is no dead-letter queue.
    Discarded,
    /// They are back where they came from.
    Redriven,
}

/// What a queue keeps of a message, beside its deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The log entry that holds it.
    pub index: Index,
    /// Where in the entry its record begins, in bytes.
    pub at: u32,
    /// The record's lengths.
    pub size: RecordSize,
    /// Higher goes first.
    pub priority: u8,
    /// When it was sent.
    pub sent_ms: Millis,
    /// Not before this.
    pub due_ms: Millis,
    /// Not from this on. 0: never expires.
    pub expires_ms: Millis,
    /// The hash of its group.
    pub group: Option<u64>,
    /// Where it was dead-lettered from.
    pub source: Option<Source>,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Messages stored.
    pub sent: u64,
    /// Messages settled by an ack.
    pub acked: u64,
    /// Deliveries that were not the first of their message.
    pub redelivered: u64,
    /// Messages moved to the dead-letter queue.
    pub dead_lettered: u64,
    /// Messages that expired, and went nowhere.
    pub expired: u64,
    /// Messages given up without a dead-letter queue.
    pub discarded: u64,
    /// Messages moved back to where they came from.
    pub redriven: u64,
    /// Messages purged.
    pub purged: u64,
    /// Sends refused because the queue was full.
    pub refused: u64,
    /// Messages dropped because the queue was full and newer ones came.
    pub dropped: u64,
}

/// The replicated state; what a snapshot holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    version: u64,
    config: QueueConfig,
    table: Table,
    next: MessageId,
    bytes: u64,
    /// The highest time seen.
    now: Millis,
    dedup: Window<MessageId>,
    results: Window<Vec<apply::Run>>,
    counters: Counters,
    /// At most [`MAX_TASKS`], by identity; at most one runs.
    tasks: Vec<MoveTask>,
    replies: replies::Replies,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Queue {
    state: State,
    dispatcher: Dispatcher,
    /// The log entries that hold a message. Follows from the table.
    live: Bits,
    /// Kept only by a queue that drops its oldest.
    ages: Option<room::ByAge>,
    /// The life in which this node leads, if it does.
    epoch: Option<Epoch>,
    /// The leader's own: before then no message is moved.
    move_due: Millis,
    /// Correlations that the last command brought.
    answered: Vec<u64>,
}

impl Default for Queue {
    fn default() -> Self {
        Self::new()
    }
}

impl Queue {
    /// An empty one. Nobody leads it yet.
    #[must_use]
    pub fn new() -> Self {
        let state = State {
            version: 0,
            config: QueueConfig::default(),
            table: Table::default(),
            next: MessageId(1),
            bytes: 0,
            now: 0,
            dedup: Window::new(MAX_DEDUP_IDS),
            results: Window::new(MAX_IDEMPOTENCY_KEYS),
            counters: Counters::default(),
            tasks: Vec::new(),
            replies: replies::Replies::default(),
        };
        let (dispatcher, live) = (Dispatcher::default(), Bits::default());
        Self { state, dispatcher, live, ages: None, epoch: None, move_due: 0, answered: Vec::new() }
    }

    /// From now on this node hands out messages, and `epoch` names this life of it. Call it once
    /// the machine has caught up with the log.
    pub fn lead(&mut self, epoch: Epoch) {
        self.epoch = Some(epoch);
        self.move_due = 0;
    }

    /// This node leads no more. What it knew alone is forgotten: its deliveries that were not
    /// reported, reservations, what was about to be given up. Costs as much as is in flight.
    pub fn follow(&mut self) {
        self.epoch = None;
        for id in self.dispatcher.disown() {
            if let Some(slot) = self.state.table.get(id) {
                self.dispatcher.put(id, slot.spec(), slot.progress());
            }
        }
    }

    /// The version of the settings it has.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.state.version
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &QueueConfig {
        &self.state.config
    }

    /// How many messages it holds.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.state.table.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.state.bytes
    }

    /// What has happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.state.counters
    }

    /// A message it holds.
    #[must_use]
    pub fn get(&self, id: MessageId) -> Option<Stored> {
        self.state.table.get(id.0).map(table::Slot::stored)
    }

    /// When the oldest message was sent.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<Millis> {
        self.state.table.iter().next().map(|(_, slot)| slot.sent_ms())
    }

    /// Who holds what, as this leader knows it.
    #[must_use]
    pub fn dispatcher(&self) -> &Dispatcher {
        &self.dispatcher
    }

    /// The entries whose bodies are still read from the log.
    #[must_use]
    pub fn retained(&self) -> Vec<RangeInclusive<Index>> {
        let ranges = self.live.ranges().into_iter();
        ranges.map(|range| Index(*range.start())..=Index(*range.end())).collect()
    }

    /// A copy of the replicated state, to be encoded later and elsewhere.
    pub fn snapshot(&self) -> impl FnOnce() -> Vec<u8> + Send + 'static {
        let state = self.state.clone();
        move || crate::snapshot::encode(&state)
    }

    /// Takes the place of everything so far. What later leaders are not told starts anew.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<(), crate::snapshot::SnapshotError> {
        self.state = crate::snapshot::decode(snapshot)?;
        self.ages = room::ByAge::of(&self.state.config, &self.state.table);
        self.live = Bits::default();
        self.answered.clear();
        self.dispatcher.clear();
        for (id, slot) in self.state.table.iter() {
            self.live.insert(slot.index().0);
            match slot.progress() {
                Some(progress) => self.dispatcher.restore(id, slot.spec(), progress),
                None => self.dispatcher.add(id, slot.spec()),
            }
        }
        Ok(())
    }
}

const _: () = assert!(LEVELS == 32, "the API promises priorities 0 to 31");
