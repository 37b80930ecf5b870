//! Publishing to a topic: one command for each partition that a batch touches.

use std::sync::Arc;

use futures_util::future::join_all;
use messaging::frame::{self, Records};
use messaging::ids::{Name, Offset, stable_hash};
use messaging::partition::{PartitionCommand, PartitionReply, Producer, Published};
use telemetry::trace::{ActiveSpan, InSpan as _, Span, TraceContext};

use crate::broker::Broker;
use crate::directory::TopicHandle;
use crate::error::{LogError, MessageError};
use crate::message::{Creator, NewMessage};

/// A batch for one topic.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// At least one.
    pub messages: Vec<NewMessage>,
    /// A repeat under the same key answers the first result.
    pub idempotency_key: Option<String>,
    /// Who numbers this publish. Then all messages have to fall into one partition.
    pub producer: Option<Producer>,
    /// The publisher's `tracestate`.
    pub tracestate: Option<String>,
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) struct Receipt {
    /// What it appended, once for each partition that it touched.
    pub appended: Vec<Appended>,
    /// Its producer had published it before: the newest number taken of that. `appended` is what
    /// was appended then, or nothing if that was long ago.
    pub repeated: Option<u64>,
    /// What its messages carry unless they brought their own.
    pub context: TraceContext,
}

/// What a batch appended to one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    /// Which partition.
    pub partition: u32,
    /// Offset of the first message.
    pub first: u64,
    /// How many.
    pub count: u64,
}

impl Broker {
    /// Appends a batch. Answers once all of it is on disk.
    pub(crate) async fn publish(
        &self,
        topic: &Name,
        batch: Batch,
    ) -> Result<Receipt, MessageError> {
        let begun = self.shared.clock.now();
        let topic = self.directory().topic(topic)?;
        let mut span = producer(&topic.name, batch.messages.iter());
        let context = span.context();
        let result = self.append(&topic, batch, context).in_span(&span).await;
        match &result {
            Ok((appended, _)) => {
                let count = appended.iter().map(|appended| appended.count).sum();
                topic.metrics.sent(count, self.shared.clock.now() - begun);
                if let [one] = &appended[..] {
                    span.set("messaging.destination.partition.id", one.partition.to_string());
                    span.set("messaging.quartet.message.offset", one.first as i64);
                }
            }
            Err(_) => span.fail("publish-failed"),
        }
        let (appended, repeated) = result?;
        Ok(Receipt { appended, repeated, context })
    }

    /// Says also whether its producer repeats it, as [`Receipt::repeated`] does.
    async fn append(
        &self,
        topic: &Arc<TopicHandle>,
        batch: Batch,
        context: TraceContext,
    ) -> Result<(Vec<Appended>, Option<u64>), MessageError> {
        let Batch { messages, idempotency_key, producer, tracestate } = batch;
        let creator = Creator { context, tracestate };
        // What a producer sends without a key stays in order: in the partition that knows it.
        let id = producer.as_ref().map(|producer| producer.id.as_str());
        let parts = split(topic, messages, id.or(idempotency_key.as_deref()), &creator);
        if producer.is_some() && parts.len() != 1 {
            return Err(MessageError::SeveralPartitions);
        }
        let is_one = parts.len() == 1;
        let now = self.now_ms();
        let mut appends = parts.into_iter().map(|(partition, mut records)| {
            let sizes = std::mem::take(&mut records.sizes);
            let command = match producer.clone() {
                Some(producer) => PartitionCommand::PublishAs { producer, sizes },
                None => {
                    PartitionCommand::Publish { idempotency_key: idempotency_key.clone(), sizes }
                }
            };
            self.append_to(topic, partition, frame::encode(now, &command, &records))
        });
        if is_one && let Some(append) = appends.next() {
            let (appended, repeated) = append.await?;
            // Of a repeat that is long ago, nobody knows any more what was appended.
            let is_known = 0 < appended.count;
            return Ok((if is_known { vec![appended] } else { Vec::new() }, repeated));
        }
        let results = join_all(appends).await;
        let some = results.iter().any(Result::is_ok);
        let appended: Result<Vec<_>, _> =
            results.into_iter().map(|result| result.map(|(appended, _)| appended)).collect();
        // A batch that is stored in part is neither done nor not done.
        let appended =
            appended.map_err(|error| if some { LogError::Indeterminate.into() } else { error })?;
        Ok((appended, None))
    }

    /// Says also whether it is a repeat.
    async fn append_to(
        &self,
        topic: &TopicHandle,
        partition: u32,
        payload: bytes::Bytes,
    ) -> Result<(Appended, Option<u64>), MessageError> {
        let handle = topic.partition(partition)?;
        let reply = self.propose(handle, payload, false).await;
        // What grows old is the keeper's to remove, and it may be asleep.
        if topic.entry.retention.age_ms.is_some() {
            handle.port.keeper.notify_one();
        }
        let appended = |published: Published| Appended {
            partition,
            first: published.first.0,
            count: published.count,
        };
        match reply? {
            PartitionReply::Published(published) => Ok((appended(published), None)),
            PartitionReply::Repeated { result, highest } => {
                let result = result.unwrap_or(Published { first: Offset(0), count: 0 });
                Ok((appended(result), Some(highest)))
            }
            PartitionReply::Fenced(fenced) => Err(MessageError::Fenced { partition, fenced }),
            _ => Err(LogError::Misunderstood.into()),
        }
    }
}

/// The partition of what has this key.
pub(crate) fn pick(key: &str, partitions: u32) -> u32 {
    let partition = stable_hash(key.as_bytes()) % u64::from(partitions);
    u32::try_from(partition).expect("at most 64 partitions")
}

/// The records of each partition that gets some, in the order they came. Those without a key go by
/// what the request is remembered under.
fn split(
    topic: &TopicHandle,
    messages: Vec<NewMessage>,
    remembered: Option<&str>,
    creator: &Creator,
) -> Vec<(u32, Records)> {
    let partitions = topic.partition_count();
    let pick = |key: &str| pick(key, partitions);
    // A repeat must meet the partition that remembers it.
    let keyless = remembered.map_or_else(|| topic.next_partition(), pick);
    let mut parts: Vec<_> = (0..partitions).map(|number| (number, Records::default())).collect();
    for message in messages {
        let partition = message.key.as_deref().map_or(keyless, pick);
        let room = message.body.len() + 256;
        let (envelope, body) = message.envelope(creator);
        let (_, records) = &mut parts[partition as usize];
        if records.is_empty() {
            *records = Records::with_capacity(room);
        }
        records.push(&envelope, &body);
    }
    parts.retain(|(_, records)| !records.is_empty());
    parts
}

/// The span of a publish or send. Messages that bring their own context are linked.
pub(crate) fn producer<'a>(
    destination: &Name,
    messages: impl ExactSizeIterator<Item = &'a NewMessage> + Clone,
) -> ActiveSpan {
    // Whoever made the messages is their producer; only for those of nobody it is this span.
    let is_maker = messages.clone().any(|message| message.creation_context().is_none());
    let span = if is_maker { Span::producer("publish") } else { Span::internal("publish") };
    let span = span.subject(destination.as_str());
    if !span.is_recorded() {
        return span.start();
    }
    let mut span = span
        .attr("messaging.system", "quartet")
        .attr("messaging.operation.name", "publish")
        .attr("messaging.operation.type", "send")
        .attr("messaging.destination.name", destination.to_string());
    if 1 < messages.len() {
        span = span.attr("messaging.batch.message_count", messages.len() as i64);
    }
    messages.filter_map(NewMessage::creation_context).fold(span, Span::link).start()
}
