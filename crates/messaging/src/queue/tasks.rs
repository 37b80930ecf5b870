//! Messages on their way to other queues, above all dead letters on their way back: tasks that
//! outlive leaders and can be looked at, slowed down and cancelled.
//!
//! A task is part of the queue that the messages leave. Its leader carries it out: it reserves a
//! batch ([`Queue::next_move`]), stores it where it belongs, once for each source, and only then
//! logs [`QueueCommand::AdvanceMove`](super::QueueCommand::AdvanceMove), which removes the batch
//! here and counts it. A leader that is lost in between leaves a batch that the next one moves
//! again, and that is recognised there.
//!
//! **Invariant:** a task ends: it moves what was there when it began, and nothing that came later.

use serde::{Deserialize, Serialize};

use super::{Queue, QueueReply, Stored, Why};
use crate::ids::{MessageId, Millis, Name};
use crate::subscription::SettleReply;

/// Tasks that a queue remembers, the one that runs included.
pub const MAX_TASKS: usize = 10;
/// Highest rate that may be asked for, in messages a second.
pub const MAX_RATE: u32 = 100_000;
/// Most messages looked at for one batch.
const MAX_LOOK: usize = 10_000;
/// A batch ends with the message that reaches so many bytes: it is to fit into a log entry.
const MAX_BYTES: u64 = 1 << 20;

/// What a task is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveOrder {
    /// Where to. `None`: each message to the queue it came from.
    pub to: Option<Name>,
    /// Only messages that were dead-lettered from this group.
    pub only: Option<u64>,
    /// Most messages a second. `None`: as fast as it goes.
    pub rate: Option<u32>,
    /// Most messages. `None`: all that are there now.
    pub max: Option<u64>,
}

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MoveState {
    /// It moves messages, or waits until it may.
    Running,
    /// It has come to its end.
    Done,
    /// Somebody has ended it.
    Cancelled,
    /// It cannot go on: see [`MoveTask::reason`].
    Failed,
}

/// A task and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveTask {
    /// Its identity in its queue.
    pub id: u64,
    /// What it is to do.
    pub order: MoveOrder,
    /// How far it is.
    pub state: MoveState,
    /// When it began.
    pub begun_ms: Millis,
    /// When it ended; 0 while it runs.
    pub ended_ms: Millis,
    /// Messages moved.
    pub moved: u64,
    /// Messages passed over: they had nowhere to go, or a consumer held them.
    pub left: u64,
    /// Why the last one was passed over, why it waits, or why it failed.
    pub reason: Option<String>,
    /// The first message not looked at.
    next: MessageId,
    /// The last message that was there when it began.
    last: MessageId,
}

/// One step of a task, to be logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveStep {
    /// Which task.
    pub task: u64,
    /// Messages that are stored elsewhere now, each with its last delivery.
    pub moved: Vec<(u64, u32)>,
    /// Messages passed over.
    pub left: u64,
    /// Why, or why it waits.
    pub reason: Option<String>,
    /// Everything before it has been looked at.
    pub through: MessageId,
    /// It cannot go on.
    pub failed: bool,
}

/// What a leader is to do for a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextMove {
    /// There is none.
    Idle,
    /// Nothing before then.
    Wait(Millis),
    /// To move these.
    Batch(MoveBatch),
}

/// Messages that are reserved for a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveBatch {
    /// Which task.
    pub task: u64,
    /// Where to. `None`: each to the queue it came from.
    pub to: Option<Name>,
    /// The messages, each with its last delivery. There may be none.
    pub messages: Vec<(MessageId, u32, Stored)>,
    /// Messages passed over as a consumer holds them.
    pub held: Vec<MessageId>,
    /// Everything before it has been looked at.
    pub through: MessageId,
}

impl Queue {
    /// The tasks it remembers, the oldest first.
    pub fn tasks(&self) -> impl Iterator<Item = &MoveTask> + '_ {
        self.state.tasks.iter()
    }

    /// The task that runs.
    #[must_use]
    pub fn task(&self) -> Option<&MoveTask> {
        self.state.tasks.iter().find(|task| task.state == MoveState::Running)
    }

    pub(super) fn begin_move(&mut self, order: MoveOrder) -> QueueReply {
        if let Some(running) = self.task() {
            return QueueReply::Moving(running.clone());
        }
        let (tasks, next) = (&mut self.state.tasks, self.state.next);
        let task = MoveTask {
            id: tasks.last().map_or(1, |last| last.id + 1),
            order,
            state: MoveState::Running,
            begun_ms: self.state.now,
            ended_ms: 0,
            moved: 0,
            left: 0,
            reason: None,
            next: self.state.table.iter().next().map_or(next, |(first, _)| MessageId(first)),
            last: MessageId(next.0 - 1),
        };
        self.move_due = 0;
        if tasks.len() == MAX_TASKS {
            tasks.remove(0);
        }
        tasks.push(task.clone());
        QueueReply::Move(task)
    }

    pub(super) fn cancel_move(&mut self, id: u64) -> QueueReply {
        let now = self.state.now;
        let Some(task) = self.state.tasks.iter_mut().find(|task| task.id == id) else {
            return QueueReply::NoMove;
        };
        task.end(MoveState::Cancelled, now);
        QueueReply::Move(task.clone())
    }

    pub(super) fn advance_move(&mut self, step: MoveStep) -> QueueReply {
        // Also of a task that was cancelled meanwhile: they are stored elsewhere.
        let settled = self.settle(Why::Redriven, &step.moved).into_iter();
        let moved = settled.filter(|reply| *reply == SettleReply::Settled).count() as u64;
        let now = self.state.now;
        let Some(task) = self.state.tasks.iter_mut().find(|task| task.id == step.task) else {
            return QueueReply::NoMove;
        };
        task.moved += moved;
        if task.state == MoveState::Running {
            task.left += step.left;
            task.next = task.next.max(step.through);
            // That it waited does not matter any more once it goes on.
            if step.reason.is_some() || task.left == 0 {
                task.reason = step.reason;
            }
            if step.failed {
                task.end(MoveState::Failed, now);
            } else if task.last < task.next || task.rest() == 0 {
                task.end(MoveState::Done, now);
            }
        }
        QueueReply::Move(task.clone())
    }

    /// What is to be done for the task that runs: up to `max` messages, reserved. Call
    /// [`Self::unreserve`] for those that are not moved.
    pub fn next_move(&mut self, now: Millis, max: usize) -> NextMove {
        if self.epoch.is_none() {
            return NextMove::Idle;
        }
        let Some(task) = self.task() else { return NextMove::Idle };
        if now < self.move_due {
            return NextMove::Wait(self.move_due);
        }
        let (id, to, only, rate) =
            (task.id, task.order.to.clone(), task.order.only, task.order.rate);
        let (next, last) = (task.next, task.last);
        // A tenth of a second at a time, so that a slow task is an even one.
        let even = rate.map_or(usize::MAX, |rate| (rate / 10).max(1) as usize);
        let max = max.min(even).min(usize::try_from(task.rest()).unwrap_or(usize::MAX));
        self.advance(now);
        let Self { state, dispatcher, .. } = self;
        let mut batch = MoveBatch {
            task: id,
            to,
            messages: Vec::new(),
            held: Vec::new(),
            through: MessageId(last.0 + 1),
        };
        let here = state.table.from(next.0).take_while(|(id, _)| *id <= last.0);
        let mut bytes = 0;
        for (looked, (id, slot)) in here.enumerate() {
            if looked == MAX_LOOK || batch.messages.len() == max || MAX_BYTES <= bytes {
                batch.through = MessageId(id);
                break;
            }
            if only.is_some_and(|only| slot.source().is_none_or(|source| source.group != only)) {
                continue;
            }
            if dispatcher.reserve(id, now.saturating_add(super::RESERVED_MS)) {
                bytes += slot.size().total();
                batch.messages.push((MessageId(id), dispatcher.attempts(id), slot.stored()));
            } else {
                batch.held.push(MessageId(id));
            }
        }
        if let Some(rate) = rate {
            let took = batch.messages.len() as u64 * 1_000 / u64::from(rate.max(1));
            self.move_due = now.saturating_add(took);
        }
        NextMove::Batch(batch)
    }

    /// The task that runs waits until then: where it moves messages to, there is no room.
    pub fn put_off_move(&mut self, until: Millis) {
        self.move_due = self.move_due.max(until);
    }
}

impl MoveTask {
    /// How many messages it may still move.
    fn rest(&self) -> u64 {
        self.order.max.map_or(u64::MAX, |max| max.saturating_sub(self.moved))
    }

    /// Messages that are still to be looked at are at most so many.
    #[must_use]
    pub fn ahead(&self) -> u64 {
        (self.last.0 + 1).saturating_sub(self.next.0).min(self.rest())
    }

    fn end(&mut self, state: MoveState, now: Millis) {
        if self.state == MoveState::Running {
            self.state = state;
            self.ended_ms = now;
        }
    }
}
