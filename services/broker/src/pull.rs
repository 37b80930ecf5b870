//! Taking messages of a subscription, from all partitions of its topic.

use std::ops::Range;
use std::sync::Arc;

use consensus::Index;
use futures_util::future::select_all;
use messaging::ack::AckId;
use messaging::dispatch::NotLeading;
use messaging::dispatch::Taken;
use messaging::frame::Record;
use messaging::ids::{Millis, Name, Offset, SubscriptionId, stable_hash};
use messaging::partition::Span;
use messaging::subscription::{Fed, Pulled};
use telemetry::trace::InSpan as _;
use tokio::sync::{oneshot, watch};

use crate::broker::Broker;
use crate::directory::{PartitionHandle, SubscriptionHandle, TopicHandle};
use crate::error::{LogError, MessageError, NotFound};
use crate::handed::Handed;
use crate::log::{self, Published, Want};
use crate::receive::{Ask, changed, fitting};
use crate::state_machine::PartitionMachine;
use crate::trace;
use crate::wait::{Looked, Source};

/// A message of a subscription, handed to a consumer.
#[derive(Debug)]
pub(crate) struct Delivered {
    /// Settles this delivery.
    pub ack_id: AckId,
    /// Where the message is.
    pub partition: u32,
    /// Which delivery, until when.
    pub taken: Taken,
    /// When it was published.
    pub at_ms: Millis,
    /// The message.
    pub record: Record,
}

impl Broker {
    /// Takes up to `max` messages. None, when there are none until patience ends.
    pub(crate) async fn pull(
        &self,
        (topic, subscription): (&Name, &Name),
        ask: Ask,
    ) -> Result<Vec<Delivered>, MessageError> {
        let topic = self.directory().topic(topic)?;
        let subscription = topic.subscription(subscription)?;
        let groups: Result<Vec<_>, LogError> =
            topic.partitions.iter().map(|partition| partition.served.group()).collect();
        let applied = groups?.iter().map(|group| group.applied()).collect();
        let mut span = trace::receive(&topic.name);
        span.set("messaging.destination.subscription.name", subscription.name.to_string());
        let source = SubscriptionSource {
            broker: self.clone(),
            topic: topic.clone(),
            subscription: subscription.clone(),
            applied,
            ask,
        };
        let wait = self.wait_for(&subscription.line, source, ask.patience);
        let waited: Result<Vec<Delivered>, _> = wait.in_span(&span).await;
        if matches!(waited, Err(MessageError::Log(LogError::Stopped))) {
            // Deleted while this waited: say that rather than `repeat shortly`.
            self.directory().topic(&topic.name)?;
        }
        let messages = waited?;
        let envelopes = messages.iter().map(|message| &message.record.envelope);
        trace::received(&mut span, self.shared.correlation, &topic.name, envelopes);
        Ok(messages)
    }
}

struct SubscriptionSource {
    broker: Broker,
    topic: Arc<TopicHandle>,
    subscription: Arc<SubscriptionHandle>,
    applied: Vec<watch::Receiver<Index>>,
    ask: Ask,
}

impl Source for SubscriptionSource {
    type Message = Delivered;

    async fn take(&mut self) -> Result<Looked<Delivered>, MessageError> {
        let begun = self.broker.shared.clock.now();
        let mut looked = Looked::default();
        for number in self.subscription.order(self.topic.partition_count()) {
            let left = self.ask.max - looked.messages.len();
            if left == 0 {
                break;
            }
            self.applied[number as usize].borrow_and_update();
            let partition = PartitionSource {
                broker: &self.broker,
                handle: self.topic.partition(number)?,
                number,
                subscription: self.subscription.entry.id,
                gone: self.gone(),
                ask: Ask { max: left, ..self.ask },
            };
            match partition.take().await {
                Ok(here) => {
                    looked.messages.extend(here.messages);
                    let due = looked.next_due.into_iter().chain(here.next_due).min();
                    looked.next_due = due;
                }
                // What other partitions gave is delivered; the next pull meets the error again.
                Err(_) if !looked.messages.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        let count = looked.messages.len() as u64;
        if 0 < count {
            let took = self.broker.shared.clock.now() - begun;
            self.subscription.metrics.consumed(count, took);
        }
        Ok(looked)
    }

    async fn changed(&mut self) {
        let partitions = self.topic.partitions.iter().zip(&mut self.applied);
        let changes = partitions
            .map(|(partition, applied)| Box::pin(changed(applied, &partition.served.changed)));
        select_all(changes).await;
    }
}

impl SubscriptionSource {
    fn gone(&self) -> NotFound {
        let (topic, name) = (self.topic.name.clone(), self.subscription.name.clone());
        NotFound::Subscription { topic, name }
    }
}

/// One partition, for one pull.
struct PartitionSource<'a> {
    broker: &'a Broker,
    handle: &'a Arc<PartitionHandle>,
    number: u32,
    subscription: SubscriptionId,
    /// What to say when the subscription was deleted meanwhile.
    gone: NotFound,
    ask: Ask,
}

/// What the machine handed out, and where to read it.
struct Out {
    pulled: Pulled,
    spans: Vec<Span>,
    handed: Handed<(SubscriptionId, u32)>,
    generation: u32,
}

impl PartitionSource<'_> {
    async fn take(&self) -> Result<Looked<Delivered>, MessageError> {
        loop {
            let Some(out) = self.hand_out().await? else { return Ok(Looked::default()) };
            match out.pulled.feed.clone() {
                // Nothing to deliver before more is looked at.
                Some(range) if out.pulled.taken.is_empty() => self.feed(range, out.spans).await?,
                _ => return Ok(self.read(out).await?),
            }
        }
    }

    /// Takes messages on the apply task, as `receive` does.
    async fn hand_out(&self) -> Result<Option<Out>, MessageError> {
        let (sender, receiver) = oneshot::channel();
        let (now, id) = (self.broker.now_ms(), self.subscription);
        let Ask { max, ack_timeout_ms, .. } = self.ask;
        let (returned, keeper) = (self.handle.returned.clone(), self.handle.served.keeper.clone());
        let take = move |machine: &mut PartitionMachine| {
            if sender.is_closed() {
                return Ok(true);
            }
            let Some(mut leading) = machine.0.subscription_mut(id) else { return Ok(false) };
            let pulled = leading.pull(now, max, ack_timeout_ms)?;
            let generation = leading.get().generation();
            let mut offsets: Vec<_> = pulled.taken.iter().map(|taken| taken.id).collect();
            offsets.sort_unstable();
            let looking = pulled.feed.clone().filter(|_| offsets.is_empty());
            let spans = match looking {
                Some(range) => spans_of(machine, &range),
                None => machine.0.spans().holding(offsets),
            };
            let taken = pulled.taken.clone();
            let handed = Handed::new((id, generation), taken, returned, keeper);
            // Nobody there: dropping it brings them back.
            let _ = sender.send(Out { pulled, spans, handed, generation });
            Ok::<_, NotLeading>(true)
        };
        if !self.handle.served.group()?.local(take).await?.map_err(LogError::from)? {
            return Err(self.gone.clone().into());
        }
        Ok(receiver.await.ok())
    }

    /// Looks at messages for the filter and the key order.
    async fn feed(&self, range: Range<u64>, spans: Vec<Span>) -> Result<(), MessageError> {
        let group = self.handle.served.group()?;
        let wanted = range.clone();
        let messages = log::published(group, &spans, move |offset| match offset {
            offset if offset < wanted.start => Want::Skip,
            offset if offset < wanted.end => Want::Take,
            _ => Want::Stop,
        });
        let messages = messages.await?;
        let id = self.subscription;
        let feed = move |machine: &mut PartitionMachine| {
            let Some(mut leading) = machine.0.subscription_mut(id) else { return };
            let config = leading.get().config();
            let fed: Vec<_> = messages
                .iter()
                .map(|message| Fed {
                    offset: message.offset,
                    wanted: config.filter.matches(&message.record.envelope),
                    group: config.ordered_by_key.then(|| group_of(message)).flatten(),
                })
                .collect();
            leading.feed(range, &fed);
        };
        group.local(feed).await?;
        // What the filter passed over is to be reported.
        self.handle.served.keeper.notify_one();
        Ok(())
    }

    async fn read(&self, out: Out) -> Result<Looked<Delivered>, LogError> {
        let Out { pulled, spans, handed, generation } = out;
        if pulled.taken.is_empty() {
            return Ok(Looked { messages: Vec::new(), next_due: pulled.next_due });
        }
        let mut offsets: Vec<_> = pulled.taken.iter().map(|taken| taken.id).collect();
        offsets.sort_unstable();
        let last = *offsets.last().expect("something was taken");
        let group = self.handle.served.group()?;
        let messages = log::published(group, &spans, |offset| match offset {
            offset if last < offset => Want::Stop,
            offset if offsets.binary_search(&offset).is_ok() => Want::Take,
            _ => Want::Skip,
        });
        let messages = messages.await?;
        let mut delivered = Vec::with_capacity(messages.len());
        for taken in handed.taken() {
            // What retention has dropped meanwhile is settled already.
            let found = messages.binary_search_by_key(&taken.id, |message| message.offset);
            let Ok(at) = found else { continue };
            let Published { offset, at_ms, record } = messages[at].clone();
            let ack_id = AckId {
                group: group.id().0,
                subscription: self.subscription.0,
                generation,
                message: offset,
                delivery: taken.delivery,
                epoch: pulled.epoch,
            };
            let (partition, taken) = (self.number, *taken);
            delivered.push(Delivered { ack_id, partition, taken, at_ms, record });
        }
        let fits = fitting(delivered.iter().map(|message| message.record.body.len() as u64));
        delivered.truncate(fits);
        let last = delivered.last().map(|message| message.taken.id);
        let kept = handed.taken().iter().position(|taken| Some(taken.id) == last);
        handed.deliver(kept.map_or(usize::MAX, |at| at + 1));
        Ok(Looked { messages: delivered, next_due: None })
    }
}

fn spans_of(machine: &PartitionMachine, range: &Range<u64>) -> Vec<Span> {
    /// More than a feed ever needs: it looks at about a thousand messages.
    const MAX_SPANS: usize = 1_024;
    let mut spans = machine.0.spans().from(Offset(range.start), MAX_SPANS);
    spans.retain(|span| span.first.0 < range.end);
    spans
}

fn group_of(message: &Published) -> Option<u64> {
    message.record.envelope.key.as_deref().map(|key| stable_hash(key.as_bytes()))
}
