//! Dead letters on their way back, and other looks at a whole queue.

use std::collections::BTreeMap;
use std::sync::Arc;

use consensus::GroupId;
use messaging::frame::Record;
use messaging::ids::{MessageId, Name};
use messaging::queue::{Outgoing, QueueCommand, QueueReply, Source, Stored, Why};
use serde::{Deserialize, Serialize};

use crate::broker::Broker;
use crate::directory::{Directory, QueueHandle};
use crate::error::{LogError, MessageError};
use crate::log;
use crate::route::{At, By, Kind, Op, propose_leading};
use crate::send::{self, Moved};
use crate::state_machine::QueueMachine;

/// Messages moved at a time.
const BATCH: usize = 100;

/// What a redrive did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Redriven {
    /// Messages moved.
    pub moved: u64,
    /// Messages looked at and left.
    pub left: u64,
    /// Why the last one was left.
    pub reason: Option<String>,
}

/// A message looked at, not taken.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Peeked {
    /// Its identity.
    pub id: MessageId,
    /// How often it was delivered.
    pub deliveries: u32,
    /// What the queue keeps of it.
    pub stored: Stored,
    /// The message.
    pub record: Record,
}

/// Why a message is left that is to go where it came from.
pub(crate) const NOWHERE: &str =
    "its queue no longer exists, or it came from no queue; say where `to`";

pub(crate) type Reserved = (MessageId, u32, Stored);

impl Broker {
    /// The next messages of a queue in the order they would be delivered.
    pub(crate) async fn peek(&self, queue: &Name, max: usize) -> Result<Vec<Peeked>, MessageError> {
        let queue = self.directory().queue(queue)?;
        self.run(&queue, Peek { max }).await
    }

    /// Removes every message of a queue.
    pub(crate) async fn purge(&self, queue: &Name) -> Result<u64, MessageError> {
        let queue = self.directory().queue(queue)?;
        match self.propose(&queue, self.payload(&QueueCommand::Purge), true).await? {
            QueueReply::Purged(removed) => Ok(removed),
            _ => Err(LogError::Misunderstood.into()),
        }
    }

    /// Moves dead letters back at once: as [`Self::way_back`] says.
    pub(crate) async fn redrive(
        &self,
        queue: &Name,
        to: Option<&Name>,
        max: usize,
    ) -> Result<Redriven, MessageError> {
        let (from, order) = self.way_back(queue, to)?;
        let from = self.directory().queue(&from)?;
        self.run(&from, Redrive { to: order.to, max, only: order.only }).await
    }
}

/// A look at the next messages, by the leader.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Peek {
    max: usize,
}

impl Op for Peek {
    const KIND: Kind = Kind::Peek;
    const BY: By = By::Leader;
    type On = QueueHandle;
    type Answer = Vec<Peeked>;

    async fn run(self, at: At<QueueHandle>) -> Result<Vec<Peeked>, MessageError> {
        let (now, max) = (at.broker.now_ms(), self.max);
        let peek = move |machine: &mut QueueMachine| {
            machine.0.advance(now);
            machine.0.peek(max)
        };
        let mut peeked = at.group.local(peek).await?;
        let sizes = peeked.iter().map(|(.., stored)| stored.size.total());
        peeked.truncate(crate::receive::fitting(sizes));
        let stored: Vec<_> = peeked.iter().map(|(.., stored)| stored).collect();
        let records = log::stored(&at.group, &stored, &at.broker.shared.recent).await?;
        at.confirm().await?;
        let peeked = peeked.into_iter().zip(records);
        Ok(peeked
            .map(|((id, deliveries, stored), record)| Peeked { id, deliveries, stored, record })
            .collect())
    }
}

/// Dead letters moved out of a queue, by its leader.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Redrive {
    /// Where to; if not given, to where they came from.
    to: Option<Name>,
    max: usize,
    /// Only those that came from this group.
    only: Option<u64>,
}

impl Op for Redrive {
    const KIND: Kind = Kind::Redrive;
    const BY: By = By::Leader;
    type On = QueueHandle;
    type Answer = Redriven;

    async fn run(self, at: At<QueueHandle>) -> Result<Redriven, MessageError> {
        let directory = at.broker.directory();
        let to = self.to.as_ref().map(|to| directory.queue(to)).transpose()?;
        let mover = Mover { at, directory, to };
        let mut done = Redriven::default();
        let mut seen = Vec::new();
        while seen.len() < self.max {
            let batch = mover.reserve((self.max - seen.len()).min(BATCH), self.only).await?;
            if batch.is_empty() {
                break;
            }
            seen.extend(batch.iter().map(|(id, ..)| *id));
            let result = mover.move_batch(batch).await;
            if let Err(error) = mover.count(&mut done, result) {
                mover.unreserve(seen).await?;
                return Err(error);
            }
        }
        // What was left stays reserved until here, so that no batch meets it twice.
        mover.unreserve(seen).await?;
        Ok(done)
    }
}

/// Moves messages out of one queue.
struct Mover {
    at: At<QueueHandle>,
    directory: Arc<Directory>,
    /// For all of them.
    to: Option<Arc<QueueHandle>>,
}

impl Mover {
    fn count(
        &self,
        done: &mut Redriven,
        batch: Result<Redriven, MessageError>,
    ) -> Result<(), MessageError> {
        let batch = batch?;
        done.moved += batch.moved;
        done.left += batch.left;
        done.reason = batch.reason.or(done.reason.take());
        Ok(())
    }

    async fn reserve(&self, max: usize, only: Option<u64>) -> Result<Vec<Reserved>, LogError> {
        let now = self.at.broker.now_ms();
        let reserve = move |machine: &mut QueueMachine| machine.0.reserve(now, max, only);
        Ok(self.at.group.local(reserve).await??)
    }

    async fn unreserve(&self, ids: Vec<MessageId>) -> Result<(), LogError> {
        self.at.group.local(move |machine| machine.0.unreserve(&ids)).await?;
        self.at.handle.port.wake();
        Ok(())
    }

    async fn move_batch(&self, batch: Vec<Reserved>) -> Result<Redriven, MessageError> {
        let mut done = Redriven::default();
        let mut targets: BTreeMap<Name, (Arc<QueueHandle>, Vec<Reserved>)> = BTreeMap::new();
        for reserved in batch {
            match self.to.clone().or_else(|| home(&self.directory, &reserved.2)) {
                Some(target) => {
                    let entry = targets.entry(target.name.clone());
                    entry.or_insert_with(|| (target, Vec::new())).1.push(reserved);
                }
                None => {
                    done.left += 1;
                    done.reason = Some(NOWHERE.into());
                }
            }
        }
        for (target, messages) in targets.into_values() {
            match self.move_to(&target, &messages).await {
                Ok(()) => done.moved += messages.len() as u64,
                Err(MessageError::QueueFull { queue, refused }) => {
                    done.left += messages.len() as u64;
                    done.reason = Some(format!("queue `{queue}` is full: {refused}"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Stored there before it is removed here.
    async fn move_to(
        &self,
        target: &Arc<QueueHandle>,
        messages: &[Reserved],
    ) -> Result<(), MessageError> {
        let At { broker, group, .. } = &self.at;
        store_in(&self.at, target, messages).await?;
        let items = messages.iter().map(|(id, attempts, _)| (id.0, *attempts)).collect();
        let settle = broker.payload(&QueueCommand::Settle { why: Why::Redriven, items });
        propose_leading(group, self.at.term()?, (settle, true)).await?;
        Ok(())
    }
}

/// The queue that a message was dead-lettered from.
pub(crate) fn home(directory: &Directory, stored: &Stored) -> Option<Arc<QueueHandle>> {
    match stored.source? {
        Source { group, subscription: 0, .. } => directory.queue_in(GroupId(group)),
        _ => None,
    }
}

/// Stores messages of a queue in another one, each once.
pub(crate) async fn store_in(
    at: &At<QueueHandle>,
    target: &Arc<QueueHandle>,
    messages: &[Reserved],
) -> Result<(), MessageError> {
    let At { broker, group, .. } = at;
    let stored: Vec<_> = messages.iter().map(|(.., stored)| stored).collect();
    let bodies = log::stored(group, &stored, &broker.shared.recent).await?;
    let max_priority = target.entry.config.max_priority;
    let moved = messages.iter().zip(bodies).map(|((id, _, stored), record)| {
        let outgoing = Outgoing {
            priority: stored.priority.min(max_priority),
            group: stored.group,
            source: Some(Source { group: group.id().0, subscription: 0, message: id.0 }),
            ..Outgoing::default()
        };
        Moved { record, outgoing }
    });
    send::store_moved(broker, target, moved.collect()).await
}
