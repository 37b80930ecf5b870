//! Taking messages of a queue.

use std::sync::Arc;

use consensus::Index;
use messaging::ack::AckId;
use messaging::dispatch::NotLeading;
use messaging::frame::Record;
use messaging::ids::Name;
use messaging::queue::{Receipt, Received};
use raft_node::Group;
use telemetry::trace::InSpan as _;
use tokio::sync::{Notify, oneshot, watch};

use crate::broker::Broker;
use crate::directory::QueueHandle;
use crate::error::{LogError, MessageError};
use crate::handed::Handed;
use crate::log;
use crate::state_machine::QueueMachine;
use crate::trace;
use crate::wait::{Looked, Patience, Source};

/// Bytes of messages that one answer holds; one message is always answered.
pub(crate) const MAX_ANSWER_BYTES: u64 = 8 << 20;

/// What a consumer asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// Most messages.
    pub max: usize,
    /// How long they are the consumer's; absent: as the queue or subscription says.
    pub ack_timeout_ms: Option<u64>,
    /// How long to wait for the first.
    pub patience: Patience,
}

/// A message of a queue, handed to a consumer.
#[derive(Debug)]
pub(crate) struct Job {
    /// Settles this delivery.
    pub ack_id: AckId,
    /// Which delivery, until when, and what the queue keeps.
    pub receipt: Receipt,
    /// The message.
    pub record: Record,
}

impl Broker {
    /// Takes up to `max` messages. None, when there are none until patience ends.
    pub(crate) async fn receive(&self, queue: &Name, ask: Ask) -> Result<Vec<Job>, MessageError> {
        let queue = self.directory().queue(queue)?;
        let group = queue.served.group()?.clone();
        let source = QueueSource {
            broker: self.clone(),
            applied: group.applied(),
            group,
            ask,
            queue: queue.clone(),
        };
        let mut span = trace::receive(&queue.name);
        let wait = self.wait_for(&queue.line, source, ask.patience);
        let waited: Result<Vec<Job>, _> = wait.in_span(&span).await;
        if matches!(waited, Err(MessageError::Log(LogError::Stopped))) {
            // Deleted while this waited: say that rather than `repeat shortly`.
            self.directory().queue(&queue.name)?;
        }
        let jobs = waited?;
        let envelopes = jobs.iter().map(|job| &job.record.envelope);
        trace::received(&mut span, self.shared.correlation, &queue.name, envelopes);
        Ok(jobs)
    }
}

struct QueueSource {
    broker: Broker,
    queue: Arc<QueueHandle>,
    group: Group<QueueMachine>,
    applied: watch::Receiver<Index>,
    ask: Ask,
}

impl Source for QueueSource {
    type Message = Job;

    async fn take(&mut self) -> Result<Looked<Job>, MessageError> {
        self.applied.borrow_and_update();
        let begun = self.broker.shared.clock.now();
        let Some((received, handed)) = self.hand_out().await? else { return Ok(Looked::default()) };
        if received.receipts.is_empty() {
            return Ok(Looked { messages: Vec::new(), next_due: received.next_due });
        }
        let fits = fitting(received.receipts.iter().map(|receipt| receipt.stored.size.total()));
        let receipts = &received.receipts[..fits];
        let stored: Vec<_> = receipts.iter().map(|receipt| &receipt.stored).collect();
        let records = log::stored(&self.group, &stored).await?;
        let (group, epoch) = (self.group.id().0, received.epoch);
        let jobs = received.receipts.into_iter().zip(records).map(|(receipt, record)| {
            let (message, delivery) = (receipt.taken.id, receipt.taken.delivery);
            let (subscription, generation) = (0, 0);
            let ack_id = AckId { group, subscription, generation, message, delivery, epoch };
            Job { ack_id, receipt, record }
        });
        let jobs: Vec<_> = jobs.collect();
        handed.deliver(jobs.len());
        let took = self.broker.shared.clock.now() - begun;
        self.queue.metrics.consumed(jobs.len() as u64, took);
        Ok(Looked { messages: jobs, next_due: None })
    }

    async fn changed(&mut self) {
        changed(&mut self.applied, &self.queue.served.changed).await;
    }
}

impl QueueSource {
    /// Takes messages on the apply task. A consumer that has left by then takes none; one that
    /// leaves later drops what is handed here, and it goes back.
    async fn hand_out(&self) -> Result<Option<(Received, Handed<()>)>, LogError> {
        let (sender, receiver) = oneshot::channel();
        let Ask { max, ack_timeout_ms, .. } = self.ask;
        let now = self.broker.now_ms();
        let (returned, keeper) = (self.queue.returned.clone(), self.queue.served.keeper.clone());
        let take = move |machine: &mut QueueMachine| {
            if sender.is_closed() {
                return Ok(());
            }
            let received = machine.0.receive(now, max, ack_timeout_ms)?;
            let taken = received.receipts.iter().map(|receipt| receipt.taken).collect();
            // Nobody there: dropping it brings them back.
            let _ = sender.send((received, Handed::new((), taken, returned, keeper)));
            Ok::<_, NotLeading>(())
        };
        self.group.local(take).await??;
        Ok(receiver.await.ok())
    }
}

/// How many messages fit into one answer.
pub(crate) fn fitting(sizes: impl Iterator<Item = u64>) -> usize {
    let mut total = 0;
    let fits = sizes.take_while(|size| {
        total += size;
        total <= MAX_ANSWER_BYTES
    });
    fits.count().max(1)
}

/// A log entry was applied, or something else happened to what is held.
pub(crate) async fn changed(applied: &mut watch::Receiver<Index>, changed: &Notify) {
    tokio::select! {
        result = applied.changed() => {
            // The group is gone: the next look says so. Until then do not spin.
            if result.is_err() {
                changed.notified().await;
            }
        }
        () = changed.notified() => (),
    }
}
