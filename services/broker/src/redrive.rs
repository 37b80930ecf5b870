//! Dead letters on their way back, and other looks at a whole queue.

use std::collections::BTreeMap;
use std::sync::Arc;

use messaging::frame::{self, Record, Records};
use messaging::ids::{MessageId, Name};
use messaging::queue::{Outgoing, QueueCommand, QueueReply, Source, Stored, Why};

use crate::broker::Broker;
use crate::directory::{Directory, QueueHandle};
use crate::error::{LogError, MessageError};
use crate::{log, send};

/// Messages moved at a time.
const BATCH: usize = 100;

/// What a redrive did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Redriven {
    /// Messages moved.
    pub moved: u64,
    /// Messages looked at and left.
    pub left: u64,
    /// Why the last one was left.
    pub reason: Option<String>,
}

/// A message looked at, not taken.
#[derive(Debug)]
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

type Reserved = (MessageId, u32, Stored);

impl Broker {
    /// The next messages of a queue in the order they would be delivered.
    pub(crate) async fn peek(&self, queue: &Name, max: usize) -> Result<Vec<Peeked>, MessageError> {
        let queue = self.directory().queue(queue)?;
        let group = queue.served.group()?;
        let now = self.now_ms();
        let peek = move |machine: &mut crate::state_machine::QueueMachine| {
            machine.0.advance(now);
            machine.0.peek(max)
        };
        let mut peeked = group.local(peek).await?;
        let sizes = peeked.iter().map(|(.., stored)| stored.size.total());
        peeked.truncate(crate::receive::fitting(sizes));
        let stored: Vec<_> = peeked.iter().map(|(.., stored)| stored).collect();
        let records = log::stored(group, &stored).await?;
        let peeked = peeked.into_iter().zip(records);
        Ok(peeked
            .map(|((id, deliveries, stored), record)| Peeked { id, deliveries, stored, record })
            .collect())
    }

    /// Removes every message of a queue.
    pub(crate) async fn purge(&self, queue: &Name) -> Result<u64, MessageError> {
        let queue = self.directory().queue(queue)?;
        match queue.served.group()?.propose_freeing(self.payload(&QueueCommand::Purge)).await?.reply
        {
            QueueReply::Purged(removed) => Ok(removed),
            _ => Err(LogError::Misunderstood.into()),
        }
    }

    /// Moves dead letters back: those of `queue` from its dead-letter queue, or, if it has none,
    /// those it holds to where they came from; with `to`, there instead.
    pub(crate) async fn redrive(
        &self,
        queue: &Name,
        to: Option<&Name>,
        max: usize,
    ) -> Result<Redriven, MessageError> {
        let directory = self.directory();
        let queue = directory.queue(queue)?;
        let to = to.map(|to| directory.queue(to)).transpose()?;
        let (from, only, to) = match &queue.entry.config.dead_letter {
            Some(dead) => {
                let to = to.unwrap_or_else(|| queue.clone());
                (directory.queue(dead)?, Some(queue.served.id.0), Some(to))
            }
            None => (queue, None, to),
        };
        let mut done = Redriven::default();
        let mut seen = Vec::new();
        while seen.len() < max {
            let batch = self.reserve(&from, (max - seen.len()).min(BATCH), only).await?;
            if batch.is_empty() {
                break;
            }
            seen.extend(batch.iter().map(|(id, ..)| *id));
            let result = self.move_batch(&from, batch, (to.as_ref(), &directory)).await;
            if let Err(error) = self.count(&mut done, result) {
                self.unreserve(&from, seen).await?;
                return Err(error);
            }
        }
        // What was left stays reserved until here, so that no batch meets it twice.
        self.unreserve(&from, seen).await?;
        Ok(done)
    }

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

    async fn reserve(
        &self,
        from: &Arc<QueueHandle>,
        max: usize,
        only: Option<u64>,
    ) -> Result<Vec<Reserved>, LogError> {
        let now = self.now_ms();
        Ok(from.served.group()?.local(move |machine| machine.0.reserve(now, max, only)).await??)
    }

    async fn unreserve(
        &self,
        from: &Arc<QueueHandle>,
        ids: Vec<MessageId>,
    ) -> Result<(), LogError> {
        from.served.group()?.local(move |machine| machine.0.unreserve(&ids)).await?;
        from.served.changed.notify_one();
        Ok(())
    }

    async fn move_batch(
        &self,
        from: &Arc<QueueHandle>,
        batch: Vec<Reserved>,
        (to, directory): (Option<&Arc<QueueHandle>>, &Directory),
    ) -> Result<Redriven, MessageError> {
        let mut done = Redriven::default();
        let mut targets: BTreeMap<Name, (Arc<QueueHandle>, Vec<Reserved>)> = BTreeMap::new();
        for reserved in batch {
            let source = reserved.2.source.as_ref();
            let home = source.and_then(|source| match source.subscription {
                0 => directory.queue_in(source.group),
                _ => None,
            });
            match to.cloned().or(home) {
                Some(target) => {
                    let entry = targets.entry(target.name.clone());
                    entry.or_insert_with(|| (target, Vec::new())).1.push(reserved);
                }
                None => {
                    done.left += 1;
                    done.reason = Some(
                        "its queue no longer exists, or it came from no queue; say where `to`"
                            .into(),
                    );
                }
            }
        }
        for (target, messages) in targets.into_values() {
            match self.move_to(from, &target, &messages).await {
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

    /// Stored there before it is removed here, and stored there once.
    async fn move_to(
        &self,
        from: &Arc<QueueHandle>,
        target: &Arc<QueueHandle>,
        messages: &[Reserved],
    ) -> Result<(), MessageError> {
        let group = from.served.group()?;
        let stored: Vec<_> = messages.iter().map(|(.., stored)| stored).collect();
        let bodies = log::stored(group, &stored).await?;
        let mut records = Records::default();
        let max_priority = target.entry.config.max_priority;
        let outgoing = messages.iter().zip(bodies).map(|((id, _, stored), record)| {
            records.push(&record.envelope, &record.body);
            Outgoing {
                size: *records.sizes.last().expect("one has just been pushed"),
                priority: stored.priority.min(max_priority),
                group: stored.group,
                source: Some(Source { group: group.id().0, subscription: 0, message: id.0 }),
                ..Outgoing::default()
            }
        });
        let messages_out = outgoing.collect();
        let command = QueueCommand::Send { idempotency_key: None, messages: messages_out };
        send::propose(target, frame::encode(self.now_ms(), &command, &records)).await?;
        let items = messages.iter().map(|(id, attempts, _)| (id.0, *attempts)).collect();
        group
            .propose_freeing(self.payload(&QueueCommand::Settle { why: Why::Redriven, items }))
            .await?;
        Ok(())
    }
}
