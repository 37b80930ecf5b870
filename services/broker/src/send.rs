//! Sending to a queue: one command, stored whole or refused whole.

use std::sync::Arc;

use bytes::Bytes;
use messaging::frame::{self, Record, Records};
use messaging::ids::{Name, stable_hash};
use messaging::queue::{Outgoing, QueueCommand, QueueReply, Refused, SendReply};
use telemetry::trace::{InSpan as _, TraceContext};

use crate::broker::Broker;
use crate::directory::QueueHandle;
use crate::error::{LogError, MessageError};
use crate::message::{Creator, NewMessage};
use crate::publish::producer;

/// A message for a queue. The key of `message` is its group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NewJob {
    /// The message itself.
    pub message: NewMessage,
    /// Higher goes first.
    pub priority: u8,
    /// Not before this much later; absent: as the queue says.
    pub delay_ms: Option<u64>,
    /// Not from this much later on.
    pub ttl_ms: Option<u64>,
    /// Stored once within the queue's window.
    pub dedup_id: Option<String>,
    /// What it answers.
    pub correlation_id: Option<String>,
}

/// A batch for one queue.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// At least one.
    pub jobs: Vec<NewJob>,
    /// A repeat under the same key answers the first result.
    pub idempotency_key: Option<String>,
    /// The sender's `tracestate`.
    pub tracestate: Option<String>,
}

impl Broker {
    /// Stores a batch. Answers once all of it is on disk.
    pub(crate) async fn send(
        &self,
        queue: &Name,
        batch: Batch,
    ) -> Result<(Vec<SendReply>, TraceContext), MessageError> {
        let begun = self.shared.clock.now();
        let queue = self.directory().queue(queue)?;
        let Batch { jobs, idempotency_key, tracestate } = batch;
        let mut span = producer(&queue.name, jobs.iter().map(|job| &job.message));
        let expires =
            queue.entry.config.ttl_ms.is_some() || jobs.iter().any(|job| job.ttl_ms.is_some());
        let creator = Creator { context: span.context(), tracestate };
        let mut records = Records::default();
        let messages = jobs.into_iter().map(|job| outgoing(job, &creator, &mut records)).collect();
        let command = QueueCommand::Send { idempotency_key, messages };
        let payload = frame::encode(self.now_ms(), &command, &records);
        let result = propose(self, &queue, payload).in_span(&span).await;
        // What expires is the keeper's to remove, and it may be asleep.
        if expires {
            queue.port.keeper.notify_one();
        }
        match &result {
            Ok(stored) => {
                let new = stored.iter().filter(|reply| !reply.duplicate).count() as u64;
                queue.metrics.sent(new, self.shared.clock.now() - begun);
            }
            Err(_) => span.fail("send-failed"),
        }
        Ok((result?, creator.context))
    }
}

fn outgoing(mut job: NewJob, creator: &Creator, records: &mut Records) -> Outgoing {
    let correlation = job.correlation_id.as_deref().map(|id| stable_hash(id.as_bytes()));
    job.message.note_correlation(job.correlation_id);
    let group = job.message.key.as_deref().map(|group| stable_hash(group.as_bytes()));
    let (envelope, body) = job.message.envelope(creator);
    records.push(&envelope, &body);
    Outgoing {
        size: *records.sizes.last().expect("one has just been pushed"),
        priority: job.priority,
        delay_ms: job.delay_ms,
        ttl_ms: job.ttl_ms,
        dedup_id: job.dedup_id,
        group,
        source: None,
        dead_lettered: false,
        correlation,
    }
}

/// Proposes a send, encoded, and reads its reply.
pub(crate) async fn propose(
    broker: &Broker,
    queue: &Arc<QueueHandle>,
    payload: Bytes,
) -> Result<Vec<SendReply>, MessageError> {
    match broker.propose(queue, payload, false).await? {
        QueueReply::Sent(replies) => Ok(replies),
        QueueReply::Refused(refused @ (Refused::TooMany { .. } | Refused::TooBig { .. })) => {
            Err(MessageError::QueueFull { queue: queue.name.clone(), refused })
        }
        QueueReply::Refused(refused @ Refused::Priority { .. }) => {
            Err(MessageError::Priority(refused))
        }
        // Its leader tells it in a moment; whoever has made the queue is answered after that.
        QueueReply::Refused(Refused::Unconfigured) => Err(LogError::NoLeader { hint: None }.into()),
        _ => Err(LogError::Misunderstood.into()),
    }
}

/// A message that is moved here from elsewhere.
pub(crate) struct Moved {
    pub record: Record,
    /// Its size is found out here.
    pub outgoing: Outgoing,
}

/// Stores messages that are moved from elsewhere: in as many commands as their bytes need. Those
/// that name their source are stored once, however often this is repeated.
pub(crate) async fn store_moved(
    broker: &Broker,
    target: &Arc<QueueHandle>,
    moved: Vec<Moved>,
) -> Result<(), MessageError> {
    /// A command ends with the message that reaches so many bytes.
    const MAX_BYTES: usize = 1 << 20;
    let mut moved = moved.into_iter().peekable();
    while moved.peek().is_some() {
        let (mut records, mut messages) = (Records::default(), Vec::new());
        while records.len() < MAX_BYTES
            && let Some(Moved { record, outgoing }) = moved.next()
        {
            records.push(&record.envelope, &record.body);
            let size = *records.sizes.last().expect("one has just been pushed");
            messages.push(Outgoing { size, ..outgoing });
        }
        let command = QueueCommand::Send { idempotency_key: None, messages };
        propose(broker, target, frame::encode(broker.now_ms(), &command, &records)).await?;
    }
    Ok(())
}
