//! What each command does to a queue.

use std::collections::BTreeMap;

use bytes::Bytes;
use consensus::Index;
use serde::{Deserialize, Serialize};

use super::replies::Replies;
use super::room::ByAge;
use super::table::{Removed, Table};
use super::{
    IDEMPOTENCY_WINDOW_MS, MoveTask, Outgoing, Queue, QueueCommand, SOURCE_WINDOW_MS, Source,
};
use super::{Stored, Why};
use crate::bits::Bits;
use crate::config::QueueConfig;
use crate::dispatch::{Progress, Spec};
use crate::frame::{self, Decoded};
use crate::ids::{MessageId, Millis};
use crate::subscription::SettleReply;

/// What became of one message of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendReply {
    /// Its id, or that of the message with the same dedup id.
    pub id: MessageId,
    /// It was known already and not stored again.
    pub duplicate: bool,
}

/// Why a send was refused, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refused {
    /// More messages than the queue may hold.
    #[error("the queue holds {len} of at most {max} messages")]
    TooMany {
        /// How many it holds.
        len: u64,
        /// How many it may hold.
        max: u64,
    },
    /// More bytes than the queue may hold.
    #[error("the queue holds {bytes} of at most {max} bytes")]
    TooBig {
        /// How many it holds.
        bytes: u64,
        /// How many it may hold.
        max: u64,
    },
    /// A priority that the queue does not have.
    #[error("priority {priority} is above the queue's maximum of {max}")]
    Priority {
        /// As sent.
        priority: u8,
        /// The highest it has.
        max: u8,
    },
    /// It does not know yet what it may hold: its leader is about to tell it.
    #[error("the queue is being made")]
    Unconfigured,
}

/// What a command answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QueueReply {
    /// One for each message of a send.
    Sent(Vec<SendReply>),
    /// Nothing of a send was stored.
    Refused(Refused),
    /// One outcome for each message of a [`QueueCommand::Settle`].
    Settled(Vec<SettleReply>),
    /// How many messages a purge removed.
    Purged(u64),
    /// A task as it is now.
    Move(MoveTask),
    /// No task was begun: this one runs.
    Moving(MoveTask),
    /// There is no such task.
    NoMove,
    /// Done.
    Done,
    /// The entry is not a command of this version; nothing was done.
    NotUnderstood,
}

impl Queue {
    /// Applies one log entry. The same entries in the same order always make the same state.
    pub fn apply(&mut self, index: Index, payload: &Bytes) -> QueueReply {
        let Ok(Decoded { stamp, command, records }) = frame::decode(payload) else {
            return QueueReply::NotUnderstood;
        };
        self.state.now = self.state.now.max(stamp);
        self.answered.clear();
        match command {
            QueueCommand::Send { idempotency_key, messages } => {
                let place = Place { index, at: records };
                self.send(place, idempotency_key.as_deref(), &messages)
            }
            QueueCommand::Configure { version, config } => self.configure(version, config),
            QueueCommand::Delivered { progress } => self.delivered(&progress),
            QueueCommand::Settle { why, items } => QueueReply::Settled(self.settle(why, &items)),
            QueueCommand::Purge => self.purge(),
            QueueCommand::BeginMove(order) => self.begin_move(order),
            QueueCommand::CancelMove(id) => self.cancel_move(id),
            QueueCommand::AdvanceMove(step) => self.advance_move(step),
        }
    }

    fn send(&mut self, place: Place, key: Option<&str>, messages: &[Outgoing]) -> QueueReply {
        let now = self.state.now;
        self.state.dedup.expire(now);
        self.state.results.expire(now);
        if let Some(first_result) = key.and_then(|key| self.state.results.get(key)) {
            return QueueReply::Sent(first_result.iter().flat_map(Run::replies).collect());
        }
        let known = self.known(messages);
        if let Err(refused) = self.admit(messages, &known) {
            self.state.counters.refused += 1;
            return QueueReply::Refused(refused);
        }
        let replies = self.store(place, messages, &known);
        if let Some(key) = key {
            let until = now.saturating_add(IDEMPOTENCY_WINDOW_MS);
            self.state.results.insert(key, runs(&replies), until);
        }
        QueueReply::Sent(replies)
    }

    /// Which messages are known already: by an earlier send, or earlier in this one.
    fn known(&self, messages: &[Outgoing]) -> Vec<Known> {
        let mut here = BTreeMap::new();
        let known = messages.iter().enumerate().map(|(at, message)| {
            let Some(key) = dedup_key(message) else { return Known::New };
            if let Some(id) = self.state.dedup.get(&key) {
                return Known::Before(*id);
            }
            match here.get(&key) {
                Some(first) => Known::Here(*first),
                None => {
                    here.insert(key, at);
                    Known::New
                }
            }
        });
        known.collect()
    }

    fn admit(&mut self, messages: &[Outgoing], known: &[Known]) -> Result<(), Refused> {
        // Whatever is taken before its limits are known may be beyond them.
        if self.state.version == 0 {
            return Err(Refused::Unconfigured);
        }
        let max = self.state.config.max_priority;
        if let Some(Outgoing { priority, .. }) = messages.iter().find(|it| max < it.priority) {
            return Err(Refused::Priority { priority: *priority, max });
        }
        let new = messages.iter().zip(known).filter(|(_, known)| matches!(known, Known::New));
        self.make_room(new.map(|(message, _)| message))
    }

    fn store(&mut self, place: Place, messages: &[Outgoing], known: &[Known]) -> Vec<SendReply> {
        let mut replies: Vec<SendReply> = Vec::with_capacity(messages.len());
        let mut at = place.at;
        for (message, known) in messages.iter().zip(known) {
            let reply = match known {
                Known::Before(id) => SendReply { id: *id, duplicate: true },
                Known::Here(first) => SendReply { duplicate: true, ..replies[*first] },
                Known::New => {
                    let id = self.store_one(Place { at, ..place }, message);
                    SendReply { id, duplicate: false }
                }
            };
            replies.push(reply);
            at += usize::try_from(message.size.total()).expect("a record fits into an entry");
        }
        replies
    }

    fn store_one(&mut self, place: Place, message: &Outgoing) -> MessageId {
        let Self { state, dispatcher, ages, live, answered, .. } = self;
        let (id, now) = (state.next, state.now);
        // What is moved here has been waited for already.
        let delay = if message.source.is_some() { 0 } else { state.config.delay_ms };
        let delay = message.delay_ms.unwrap_or(delay);
        let ttl = message.ttl_ms.into_iter().chain(state.config.ttl_ms).min();
        let stored = Stored {
            index: place.index,
            at: u32::try_from(place.at).expect("an entry is far below 4 GiB"),
            size: message.size,
            priority: message.priority,
            sent_ms: now,
            due_ms: if delay == 0 { 0 } else { now.saturating_add(delay) },
            expires_ms: ttl.map_or(0, |ttl| now.saturating_add(ttl)),
            group: message.group.or(state.config.fifo.then_some(0)),
            source: message.source.filter(|_| message.dead_lettered),
        };
        if let Some(ages) = ages {
            ages.insert(id.0, stored.priority, stored.size);
        }
        state.table.push(id.0, &stored);
        live.insert(stored.index.0);
        let Stored { priority, group, due_ms: due, expires_ms: expires, .. } = stored;
        dispatcher.add(id.0, Spec { priority, group, due, expires });
        state.next = MessageId(id.0 + 1);
        state.bytes += message.size.total();
        state.counters.sent += 1;
        if let Some(correlation) = message.correlation
            && state.replies.insert(correlation, id.0)
        {
            answered.push(correlation);
        }
        if let Some(key) = dedup_key(message) {
            let window = match message.source {
                Some(_) => SOURCE_WINDOW_MS,
                None => state.config.dedup_window_ms,
            };
            state.dedup.insert(&key, id, now.saturating_add(window));
        }
        id
    }

    fn configure(&mut self, version: u64, config: QueueConfig) -> QueueReply {
        // A leader may be behind the one before it.
        if self.state.version <= version {
            self.state.version = version;
            self.state.config = config;
            self.ages = ByAge::of(&self.state.config, &self.state.table);
        }
        QueueReply::Done
    }

    fn delivered(&mut self, progress: &[(u64, Progress)]) -> QueueReply {
        for (id, progress) in progress {
            let Some(slot) = self.state.table.get_mut(*id) else { continue };
            self.state.counters.redelivered += again(slot.attempts(), progress.attempts);
            let progress = progress.following(slot.progress());
            if Some(progress.epoch) != self.epoch {
                self.dispatcher.restore(*id, slot.spec(), &progress);
            }
            slot.set_progress(progress);
        }
        QueueReply::Done
    }

    pub(super) fn settle(&mut self, why: Why, items: &[(u64, u32)]) -> Vec<SettleReply> {
        let replies = items.iter().map(|(id, delivery)| {
            let Some(slot) = self.state.table.get(*id) else { return SettleReply::Unknown };
            let known = slot.attempts();
            if *delivery < known {
                return SettleReply::Late;
            }
            let counters = &mut self.state.counters;
            counters.redelivered += again(known, *delivery);
            match why {
                Why::Acked => counters.acked += 1,
                Why::DeadLettered => counters.dead_lettered += 1,
                Why::Expired => counters.expired += 1,
                Why::Discarded => counters.discarded += 1,
                Why::Redriven => counters.redriven += 1,
            }
            self.remove(MessageId(*id));
            SettleReply::Settled
        });
        replies.collect()
    }

    /// A message is here no more.
    pub(super) fn remove(&mut self, id: MessageId) {
        let Some(Removed { slot, alone }) = self.state.table.remove(id.0) else { return };
        self.state.bytes -= slot.size().total();
        self.state.replies.remove(id.0);
        self.dispatcher.forget(id.0);
        if alone {
            self.live.remove(slot.index().0);
        }
        if let Some(ages) = &mut self.ages {
            ages.remove(id.0, slot.priority(), slot.size());
        }
    }

    fn purge(&mut self) -> QueueReply {
        let removed = self.len();
        self.state.table = Table::default();
        self.state.replies = Replies::default();
        self.live = Bits::default();
        self.state.bytes = 0;
        self.ages = ByAge::of(&self.state.config, &self.state.table);
        self.state.counters.purged += removed;
        self.dispatcher.clear();
        QueueReply::Purged(removed)
    }

    /// The highest time seen in commands.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.state.now
    }
}

/// Neighbours among the replies of one send: what is remembered of a batch is small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    first: MessageId,
    count: u32,
    duplicate: bool,
}

impl Run {
    fn replies(&self) -> impl Iterator<Item = SendReply> + use<> {
        let Self { first, count, duplicate } = *self;
        let ids = first.0..first.0 + u64::from(count);
        ids.map(move |id| SendReply { id: MessageId(id), duplicate })
    }
}

fn runs(replies: &[SendReply]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for SendReply { id, duplicate } in replies.iter().copied() {
        match runs.last_mut() {
            Some(run)
                if run.duplicate == duplicate && run.first.0 + u64::from(run.count) == id.0 =>
            {
                run.count += 1;
            }
            _ => runs.push(Run { first: id, count: 1, duplicate }),
        }
    }
    runs
}

/// Where the next record is.
#[derive(Clone, Copy)]
struct Place {
    index: Index,
    at: usize,
}

enum Known {
    New,
    Before(MessageId),
    /// As this earlier message of the same send.
    Here(usize),
}

/// How many redeliveries lie between what was known and this delivery.
fn again(known: u32, delivery: u32) -> u64 {
    u64::from(delivery.saturating_sub(known.max(1)))
}

/// Users' ids and sources must not meet: one begins with `u`, the other with `s`.
fn dedup_key(message: &Outgoing) -> Option<String> {
    match (&message.source, &message.dedup_id) {
        (Some(Source { group, subscription, message }), _) => {
            Some(format!("s{group:x}.{subscription:x}.{message:x}"))
        }
        (None, Some(id)) => Some(format!("u{id}")),
        (None, None) => None,
    }
}
