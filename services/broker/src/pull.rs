//! Taking messages of a subscription, from all partitions of its topic, wherever they are led.
//!
//! The partitions are asked in turn for what is there. When nothing is, they are asked to say when
//! there may be something, which holds nothing: so a wait that is given up has leased nothing.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use chassis::long_poll;
use futures_util::future::select_all;
use messaging::ack::AckId;
use messaging::dispatch::NotLeading;
use messaging::dispatch::Taken;
use messaging::frame::Record;
use messaging::ids::{Millis, Name, Offset, SubscriptionId, stable_hash};
use messaging::partition::Span;
use messaging::subscription::{Fed, Pulled};
use serde::{Deserialize, Serialize};
use telemetry::trace::InSpan as _;
use tokio::sync::oneshot;

use crate::broker::Broker;
use crate::directory::{Part, PartitionHandle, SubscriptionHandle, TopicHandle};
use crate::error::{LogError, MessageError, NotFound};
use crate::handed::Handed;
use crate::log::{self, Published, Want};
use crate::receive::{Ask, fitting};
use crate::route::{At, By, Kind, Moment, Op};
use crate::state_machine::PartitionMachine;
use crate::trace;
use crate::wait::{Looked, Source};

/// How long a partition is asked to wait at a time.
const READY_MS: u64 = 30_000;
/// Before a partition that cannot be asked is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// A message of a subscription, handed to a consumer.
#[derive(Debug, Serialize, Deserialize)]
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
        let mut span = trace::receive(&topic.name);
        span.set("messaging.destination.subscription.name", subscription.name.to_string());
        let source = SubscriptionSource {
            broker: self.clone(),
            topic: topic.clone(),
            subscription: subscription.clone(),
            seen: vec![Moment::default(); topic.partitions.len()],
            ask,
        };
        let wait = self.wait_for(&subscription.line, source, ask.patience);
        let waited: Result<Vec<Delivered>, _> = wait.in_span(&span).await;
        if matches!(waited, Err(MessageError::Log(_))) {
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
    /// The moment of each partition when it was last looked at.
    seen: Vec<Moment>,
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
            let partition = self.topic.partition(number)?;
            let (subscription, ack_timeout_ms) =
                (self.subscription.entry.id, self.ask.ack_timeout_ms);
            let take = Take { subscription, max: left, ack_timeout_ms };
            match self.broker.run(partition, take).await {
                Ok(None) => return Err(self.gone().into()),
                Ok(Some(here)) => {
                    self.seen[number as usize] = here.seen;
                    looked.messages.extend(here.messages);
                    let due = here.due_in_ms.map(|due| self.broker.now_ms().saturating_add(due));
                    looked.next_due = looked.next_due.into_iter().chain(due).min();
                }
                // What other partitions gave is delivered; the next pull meets the error again.
                Err(_) if !looked.messages.is_empty() => break,
                // Whoever waits can wait for another leader too.
                Err(error) if self.may_wait(partition, &error) => (),
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
        let partitions = self.topic.partitions.iter().zip(&self.seen);
        let changes = partitions.map(|(partition, seen)| {
            let (broker, ready) = (&self.broker, Ready { seen: *seen, wait_ms: READY_MS });
            Box::pin(async move {
                if broker.run(partition, ready).await.is_err() {
                    tokio::time::sleep(PAUSE).await;
                }
            })
        });
        select_all(changes).await;
    }
}

impl SubscriptionSource {
    fn gone(&self) -> NotFound {
        let (topic, name) = (self.topic.name.clone(), self.subscription.name.clone());
        NotFound::Subscription { topic, name }
    }

    fn may_wait(&self, partition: &PartitionHandle, error: &MessageError) -> bool {
        let waits = !self.ask.patience.wait.is_zero();
        waits && error.may_pass() && !partition.port.gone.is_cancelled()
    }
}

/// Messages of a subscription in one partition, from its leader.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Take {
    pub(crate) subscription: SubscriptionId,
    pub(crate) max: usize,
    pub(crate) ack_timeout_ms: Option<u64>,
}

/// What was taken of one partition.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TakenHere {
    pub(crate) messages: Vec<Delivered>,
    /// When there may be more although nothing changes.
    pub(crate) due_in_ms: Option<u64>,
    /// As it was looked at.
    pub(crate) seen: Moment,
}

impl Op for Take {
    const KIND: Kind = Kind::Take;
    const BY: By = By::Leader;
    type On = PartitionHandle;
    /// None: there is no such subscription.
    type Answer = Option<TakenHere>;

    async fn run(self, at: At<PartitionHandle>) -> Result<Option<TakenHere>, MessageError> {
        let seen = at.handle.port.moment(&at.group);
        let Some(looked) = (PartitionSource { at: &at, ask: self }).take().await? else {
            return Ok(None);
        };
        let now = at.broker.now_ms();
        let due_in_ms = looked.next_due.map(|due| due.saturating_sub(now));
        Ok(Some(TakenHere { messages: looked.messages, due_in_ms, seen }))
    }
}

/// Waits until a partition may have more than it had.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    seen: Moment,
    wait_ms: u64,
}

impl Op for Ready {
    const KIND: Kind = Kind::Ready;
    const BY: By = By::Leader;
    type On = PartitionHandle;
    type Answer = ();

    async fn run(self, at: At<PartitionHandle>) -> Result<(), MessageError> {
        let (wait, draining) = (Duration::from_millis(self.wait_ms), at.broker.draining());
        let change = at.handle.port.after(&at.group, self.seen);
        if long_poll::wait(change, wait, None, draining).await.is_none() {
            // Another leads soon; until then nobody has to ask without a pause.
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    fn wait_ms(&self) -> u64 {
        self.wait_ms
    }
}

/// One partition, for one pull.
struct PartitionSource<'a> {
    at: &'a At<PartitionHandle>,
    ask: Take,
}

/// What the machine handed out, and where to read it.
struct Out {
    pulled: Pulled,
    spans: Vec<Span>,
    handed: Handed<Part, PartitionMachine>,
    generation: u32,
}

impl PartitionSource<'_> {
    /// None: there is no such subscription.
    async fn take(&self) -> Result<Option<Looked<Delivered>>, MessageError> {
        loop {
            let out = match self.hand_out().await? {
                Some(Some(out)) => out,
                Some(None) => return Ok(Some(Looked::default())),
                None => return Ok(None),
            };
            match out.pulled.feed.clone() {
                // Nothing to deliver before more is looked at.
                Some(range) if out.pulled.taken.is_empty() => self.feed(range, out.spans).await?,
                _ => return Ok(Some(self.read(out).await?)),
            }
        }
    }

    /// Takes messages on the apply task, as `receive` does.
    async fn hand_out(&self) -> Result<Option<Option<Out>>, LogError> {
        let (sender, receiver) = oneshot::channel();
        let (now, id) = (self.at.broker.now_ms(), self.ask.subscription);
        let Take { max, ack_timeout_ms, .. } = self.ask;
        let (returned, port) = (self.at.handle.returned.clone(), self.at.handle.port.clone());
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
            let handed = Handed::new((id, generation, pulled.epoch), taken, returned, port);
            // Nobody there: dropping it brings them back.
            let _ = sender.send(Out { pulled, spans, handed, generation });
            Ok::<_, NotLeading>(true)
        };
        match self.at.group.local(take).await?? {
            true => Ok(Some(receiver.await.ok())),
            false => Ok(None),
        }
    }

    /// Looks at messages for the filter and the key order.
    async fn feed(&self, range: Range<u64>, spans: Vec<Span>) -> Result<(), LogError> {
        let group = &self.at.group;
        let wanted = range.clone();
        let messages = log::published(group, &spans, move |offset| match offset {
            offset if offset < wanted.start => Want::Skip,
            offset if offset < wanted.end => Want::Take,
            _ => Want::Stop,
        });
        let messages = messages.await?;
        let id = self.ask.subscription;
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
        self.at.handle.port.keeper.notify_one();
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
        let group = &self.at.group;
        let messages = log::published(group, &spans, |offset| match offset {
            offset if last < offset => Want::Stop,
            offset if offsets.binary_search(&offset).is_ok() => Want::Take,
            _ => Want::Skip,
        });
        let (messages, confirmed) = tokio::join!(messages, self.at.confirm());
        confirmed?;
        let messages = messages?;
        let mut delivered = Vec::with_capacity(messages.len());
        for taken in handed.taken() {
            // What retention has dropped meanwhile is settled already.
            let found = messages.binary_search_by_key(&taken.id, |message| message.offset);
            let Ok(at) = found else { continue };
            let Published { offset, at_ms, record } = messages[at].clone();
            let ack_id = AckId {
                group: group.id().0,
                subscription: self.ask.subscription.0,
                generation,
                message: offset,
                delivery: taken.delivery,
                epoch: pulled.epoch,
            };
            let (partition, taken) = (self.at.handle.number, *taken);
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
