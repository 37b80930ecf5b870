//! Messages that are given up: into the dead-letter queue, or away.
//!
//! The dead-letter queue has them on disk before they are removed where they were, and stores each
//! only once: a crash in between repeats the move, and the repeat is recognised by its source. So a
//! message is never in neither queue.

use messaging::dispatch::{Doomed, Reason};
use messaging::frame::{DeadLetterNote, Record};
use messaging::ids::{Name, SubscriptionId};
use messaging::partition::PartitionCommand;
use messaging::queue::{self, Outgoing, QueueCommand, Source, Stored};
use messaging::subscription::{self, Settle};

use crate::broker::Broker;
use crate::directory::{PartitionHandle, QueueHandle};
use crate::error::MessageError;
use crate::log::{self, Want};
use crate::route::{At, propose_leading};
use crate::send::{self, Moved};

/// Most earlier moves that a message remembers.
const MAX_HISTORY: usize = 16;

/// Gives up messages of a queue.
pub(crate) async fn give_up_jobs(
    at: &At<QueueHandle>,
    doomed: &[(Doomed, Stored)],
    target: Option<&Name>,
) -> Result<(), MessageError> {
    let At { broker, handle: queue, group, .. } = at;
    let term = at.term()?;
    if let Some(target) = target {
        let stored: Vec<_> = doomed.iter().map(|(_, stored)| stored).collect();
        let records = log::stored(group, &stored, &broker.shared.recent).await?;
        let moves = doomed.iter().zip(records).map(|((doomed, stored), record)| Move {
            doomed: doomed.clone(),
            record,
            from: Source { group: group.id().0, subscription: 0, message: doomed.id },
            source: format!("queue/{}", queue.name),
            source_id: doomed.id.to_string(),
            priority: stored.priority,
            group: stored.group,
        });
        store(broker, target, moves.collect()).await?;
        queue.metrics.dead_lettered(doomed.len() as u64);
    }
    for reason in [Reason::MaxDeliveries, Reason::Expired] {
        let why = match (target, reason) {
            (Some(_), _) => queue::Why::DeadLettered,
            (None, Reason::MaxDeliveries) => queue::Why::Discarded,
            (None, Reason::Expired) => queue::Why::Expired,
        };
        let items = doomed.iter().filter(|(doomed, _)| doomed.reason == reason);
        let items: Vec<_> = items.map(|(doomed, _)| (doomed.id, doomed.attempts)).collect();
        if !items.is_empty() {
            let settle = broker.payload(&QueueCommand::Settle { why, items });
            propose_leading(group, term, (settle, true)).await?;
        }
    }
    Ok(())
}

/// Messages of a subscription in one partition that are given up.
pub(crate) struct Messages<'a> {
    pub(crate) at: &'a At<PartitionHandle>,
    /// Its identity, name and generation.
    pub(crate) subscription: (SubscriptionId, &'a Name, u32),
    pub(crate) doomed: &'a [Doomed],
}

impl Messages<'_> {
    pub(crate) async fn give_up(&self, target: Option<&Name>) -> Result<(), MessageError> {
        let At { broker, handle: partition, group, .. } = self.at;
        let term = self.at.term()?;
        let (id, name, generation) = self.subscription;
        if let Some(target) = target {
            let (topic, number) = (&partition.topic, partition.number);
            let moves = self.records().await?.into_iter().map(|(doomed, record)| Move {
                record,
                from: Source { group: group.id().0, subscription: id.0, message: doomed.id },
                source: format!("topic/{topic}/subscription/{name}"),
                source_id: format!("{number}:{}", doomed.id),
                priority: 0,
                group: None,
                doomed,
            });
            store(broker, target, moves.collect()).await?;
        }
        let why = match target {
            Some(_) => subscription::Why::DeadLettered,
            None => subscription::Why::Discarded,
        };
        let items = self.doomed.iter().map(|doomed| (doomed.id, doomed.attempts)).collect();
        let settle = Settle { generation, why, items };
        let settle = broker.payload(&PartitionCommand::Settle { id, settle });
        propose_leading(group, term, (settle, true)).await?;
        Ok(())
    }

    async fn records(&self) -> Result<Vec<(Doomed, Record)>, MessageError> {
        let group = &self.at.group;
        let mut doomed = self.doomed.to_vec();
        doomed.sort_unstable_by_key(|doomed| doomed.id);
        let offsets: Vec<_> = doomed.iter().map(|doomed| doomed.id).collect();
        let holding = offsets.clone();
        let spans = group.local(move |machine| machine.0.spans().holding(holding)).await?;
        let messages = log::published(group, &spans, |offset| {
            if offsets.binary_search(&offset).is_ok() { Want::Take } else { Want::Skip }
        });
        let messages = messages.await?.into_iter().filter_map(|message| {
            let at = offsets.binary_search(&message.offset).ok()?;
            Some((doomed[at].clone(), message.record))
        });
        Ok(messages.collect())
    }
}

struct Move {
    doomed: Doomed,
    record: Record,
    from: Source,
    source: String,
    source_id: String,
    priority: u8,
    group: Option<u64>,
}

/// An earlier move, for people.
fn line(DeadLetterNote { source, reason, failure, .. }: &DeadLetterNote) -> String {
    match failure {
        Some(failure) => format!("{source}: {reason}: {failure}"),
        None => format!("{source}: {reason}"),
    }
}

/// Stores messages in a dead-letter queue, each once.
async fn store(broker: &Broker, target: &Name, moves: Vec<Move>) -> Result<(), MessageError> {
    if moves.is_empty() {
        return Ok(());
    }
    let target = broker.directory().queue(target)?;
    let now = broker.now_ms();
    let max_priority = target.entry.config.max_priority;
    let moved = moves.into_iter().map(|moved| {
        let Record { mut envelope, body } = moved.record;
        let earlier = envelope.dead_letter.take();
        let mut history = earlier.as_ref().map_or_else(Vec::new, |note| note.history.clone());
        history.extend(earlier.map(|note| line(&note)));
        history.drain(..history.len().saturating_sub(MAX_HISTORY));
        envelope.dead_letter = Some(Box::new(DeadLetterNote {
            source: moved.source,
            source_id: moved.source_id,
            reason: moved.doomed.reason.as_str().to_owned(),
            failure: moved.doomed.failure.map(String::from),
            deliveries: moved.doomed.attempts,
            moved_ms: now,
            history,
        }));
        let outgoing = Outgoing {
            priority: moved.priority.min(max_priority),
            group: moved.group,
            source: Some(moved.from),
            dead_lettered: true,
            ..Outgoing::default()
        };
        Moved { record: Record { envelope, body }, outgoing }
    });
    send::store_moved(broker, &target, moved.collect()).await
}
