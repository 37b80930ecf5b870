//! Tasks that move messages out of a queue, above all dead letters on their way back: begun,
//! looked at and cancelled by anybody, carried out by whoever leads the queue they leave.

use std::collections::BTreeMap;
use std::sync::Arc;

use messaging::ids::{MessageId, Name};
use messaging::queue::{
    MoveBatch, MoveOrder, MoveStep, MoveTask, NextMove, QueueCommand, QueueReply, Stored,
};
use serde::{Deserialize, Serialize};

use crate::broker::Broker;
use crate::directory::QueueHandle;
use crate::error::{LogError, MessageError};
use crate::host::Next;
use crate::redrive::{self, Reserved};
use crate::route::{At, By, Kind, Op, propose_leading};

/// Most messages moved at a time.
const BATCH: usize = 100;
/// How long a task waits for room where it moves messages to, in milliseconds.
const FULL_MS: u64 = 1_000;

/// What is asked about the tasks of a queue.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Moves {
    Begin(MoveOrder),
    Cancel(u64),
    List,
}

impl Broker {
    /// Begins to move messages out of `from`, which goes on by itself.
    pub(crate) async fn begin_move(
        &self,
        from: &Name,
        order: MoveOrder,
    ) -> Result<MoveTask, MessageError> {
        let directory = self.directory();
        if let Some(to) = &order.to {
            directory.queue(to)?;
        }
        self.ask(&directory.queue(from)?, Moves::Begin(order)).await
    }

    /// Ends a task. What it has moved stays moved.
    pub(crate) async fn cancel_move(&self, from: &Name, id: u64) -> Result<MoveTask, MessageError> {
        self.ask(&self.directory().queue(from)?, Moves::Cancel(id)).await
    }

    /// The last tasks of a queue, the oldest first.
    pub(crate) async fn moves(&self, from: &Name) -> Result<Vec<MoveTask>, MessageError> {
        self.run(&self.directory().queue(from)?, Moves::List).await
    }

    /// Where the dead letters of a queue are, and what brings them back: those of `queue` from its
    /// dead-letter queue; or, if it has none, those it holds to where they came from. With `to`,
    /// there instead.
    pub(crate) fn way_back(
        &self,
        queue: &Name,
        to: Option<&Name>,
    ) -> Result<(Name, MoveOrder), MessageError> {
        let directory = self.directory();
        let queue = directory.queue(queue)?;
        let to = to.map(|to| directory.queue(to)).transpose()?.map(|to| to.name.clone());
        Ok(match &queue.entry.config.dead_letter {
            Some(dead) => {
                let (to, only) = (to.or_else(|| Some(queue.name.clone())), Some(queue.port.id.0));
                (dead.clone(), MoveOrder { to, only, ..MoveOrder::default() })
            }
            None => (queue.name.clone(), MoveOrder { to, ..MoveOrder::default() }),
        })
    }

    async fn ask(&self, queue: &Arc<QueueHandle>, what: Moves) -> Result<MoveTask, MessageError> {
        let tasks = self.run(queue, what).await?;
        tasks.into_iter().next().ok_or_else(|| LogError::Misunderstood.into())
    }
}

impl Op for Moves {
    const KIND: Kind = Kind::Moves;
    const BY: By = By::Leader;
    type On = QueueHandle;
    type Answer = Vec<MoveTask>;

    async fn run(self, at: At<QueueHandle>) -> Result<Vec<MoveTask>, MessageError> {
        let queue = &at.handle.name;
        let (command, id) = match self {
            Self::Begin(order) => (QueueCommand::BeginMove(order), 0),
            Self::Cancel(id) => (QueueCommand::CancelMove(id), id),
            Self::List => {
                let tasks = at.group.local(|machine| machine.0.tasks().cloned().collect()).await?;
                at.confirm().await?;
                return Ok(tasks);
            }
        };
        let command = (at.broker.payload(&command), false);
        let reply = propose_leading(&at.group, at.term()?, command).await?;
        at.handle.port.keeper.notify_one();
        match reply {
            QueueReply::Move(task) => Ok(vec![task]),
            QueueReply::Moving(MoveTask { id, .. }) => {
                Err(MessageError::MoveRuns { queue: queue.clone(), id })
            }
            QueueReply::NoMove => Err(MessageError::NoMove { queue: queue.clone(), id }),
            _ => Err(LogError::Misunderstood.into()),
        }
    }
}

/// The next step of the task that runs, if one does.
pub(crate) async fn tend(at: &At<QueueHandle>) -> Result<Next, MessageError> {
    let now = at.broker.now_ms();
    let next = at.group.local(move |machine| machine.0.next_move(now, BATCH)).await?;
    let batch = match next {
        NextMove::Idle => return Ok(Next::Due(None)),
        NextMove::Wait(due) => return Ok(Next::Due(Some(due))),
        NextMove::Batch(batch) => batch,
    };
    let ids: Vec<MessageId> = batch.messages.iter().map(|(id, ..)| *id).collect();
    let outcome = step(at, batch).await;
    let now = at.broker.now_ms();
    let full = matches!(outcome, Ok(Outcome::Full));
    let settle = move |machine: &mut crate::state_machine::QueueMachine| {
        // What was moved is not there any more.
        machine.0.unreserve(&ids);
        if full {
            machine.0.put_off_move(now + FULL_MS);
        }
    };
    at.group.local(settle).await?;
    at.handle.port.wake();
    outcome.map(|_| Next::Now)
}

enum Outcome {
    Moved,
    /// There is no room for some.
    Full,
}

/// Stored there before they are removed here, and stored there once.
async fn step(at: &At<QueueHandle>, batch: MoveBatch) -> Result<Outcome, MessageError> {
    let directory = at.broker.directory();
    let MoveBatch { task, to, messages, held, through } = batch;
    let held_by = (!held.is_empty()).then(|| "a consumer held it".to_owned());
    let (moved, left, failed) = (Vec::new(), 0, false);
    let mut step = MoveStep { task, moved, left, reason: held_by, through, failed };
    let mut outcome = Outcome::Moved;
    match to.map(|to| directory.queue(&to)).transpose() {
        Err(gone) => step = MoveStep { failed: true, reason: Some(gone.to_string()), ..step },
        Ok(to) => {
            let (targets, nowhere) =
                sorted(messages, |stored| to.clone().or_else(|| redrive::home(&directory, stored)));
            if !nowhere.is_empty() {
                step.reason = Some(redrive::NOWHERE.to_owned());
            }
            for (target, messages) in targets {
                match redrive::store_in(at, &target, &messages).await {
                    Ok(()) => step.moved.extend(messages.iter().map(|(id, last, _)| (id.0, *last))),
                    Err(error @ MessageError::QueueFull { .. }) => {
                        // The next step begins with the first of them, and those behind it that
                        // are moved are not there any more.
                        let first = messages.iter().map(|(id, ..)| *id).min();
                        step.through = first.unwrap_or(step.through).min(step.through);
                        step.reason = Some(error.to_string());
                        outcome = Outcome::Full;
                    }
                    Err(error) => return Err(error),
                }
            }
            let left = held.iter().chain(&nowhere).filter(|id| **id < step.through);
            step.left = left.count() as u64;
        }
    }
    let command = (at.broker.payload(&QueueCommand::AdvanceMove(step)), true);
    propose_leading(&at.group, at.term()?, command).await?;
    Ok(outcome)
}

type Sorted = (Vec<(Arc<QueueHandle>, Vec<Reserved>)>, Vec<MessageId>);

/// Messages by where they go, and those that have nowhere to go.
fn sorted(messages: Vec<Reserved>, target: impl Fn(&Stored) -> Option<Arc<QueueHandle>>) -> Sorted {
    let mut targets: BTreeMap<Name, (Arc<QueueHandle>, Vec<Reserved>)> = BTreeMap::new();
    let mut nowhere = Vec::new();
    for reserved in messages {
        match target(&reserved.2) {
            Some(target) => {
                let entry = targets.entry(target.name.clone());
                entry.or_insert_with(|| (target, Vec::new())).1.push(reserved);
            }
            None => nowhere.push(reserved.0),
        }
    }
    (targets.into_values().collect(), nowhere)
}
