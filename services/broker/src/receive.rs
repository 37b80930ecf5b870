//! Taking messages of a queue.

use std::time::Duration;

use messaging::ack::AckId;
use messaging::dispatch::NotLeading;
use messaging::frame::Record;
use messaging::ids::{Epoch, Name};
use messaging::queue::{Receipt, Received};
use serde::{Deserialize, Serialize};
use telemetry::trace::InSpan as _;
use tokio::sync::oneshot;

use crate::broker::Broker;
use crate::directory::QueueHandle;
use crate::error::{LogError, MessageError};
use crate::handed::Handed;
use crate::log;
use crate::route::{At, By, Kind, Moment, Op};
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
#[derive(Debug, Serialize, Deserialize)]
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
        let mut span = trace::receive(&queue.name);
        let Ask { max, ack_timeout_ms, patience } = ask;
        let receive = |wait_ms| self.run(&queue, Receive { max, ack_timeout_ms, wait_ms });
        let received = self.patiently(&queue.port.gone, patience, receive).in_span(&span).await;
        if matches!(received, Err(MessageError::Log(_))) {
            // Deleted while this waited: say that rather than `repeat shortly`.
            self.directory().queue(&queue.name)?;
        }
        let jobs = received?;
        let envelopes = jobs.iter().map(|job| &job.record.envelope);
        trace::received(&mut span, self.shared.correlation, &queue.name, envelopes);
        Ok(jobs)
    }
}

/// Messages of a queue, from its leader.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Receive {
    max: usize,
    ack_timeout_ms: Option<u64>,
    wait_ms: u64,
}

impl Op for Receive {
    const KIND: Kind = Kind::Receive;
    const BY: By = By::Leader;
    type On = QueueHandle;
    type Answer = Vec<Job>;

    async fn run(self, at: At<QueueHandle>) -> Result<Vec<Job>, MessageError> {
        let (broker, line) = (at.broker.clone(), at.handle.line.clone());
        let patience = Patience { wait: Duration::from_millis(self.wait_ms), deadline: None };
        let source = QueueSource { at, ask: self, seen: Moment::default() };
        broker.wait_for(&line, source, patience).await
    }

    fn wait_ms(&self) -> u64 {
        self.wait_ms
    }
}

struct QueueSource {
    at: At<QueueHandle>,
    ask: Receive,
    seen: Moment,
}

impl Source for QueueSource {
    type Message = Job;

    async fn take(&mut self) -> Result<Looked<Job>, MessageError> {
        let At { broker, handle: queue, group, .. } = &self.at;
        self.seen = queue.port.moment(group);
        let begun = broker.shared.clock.now();
        let Some((received, handed)) = self.hand_out().await? else { return Ok(Looked::default()) };
        if received.receipts.is_empty() {
            return Ok(Looked { messages: Vec::new(), next_due: received.next_due });
        }
        let fits = fitting(received.receipts.iter().map(|receipt| receipt.stored.size.total()));
        let receipts = &received.receipts[..fits];
        let stored: Vec<_> = receipts.iter().map(|receipt| &receipt.stored).collect();
        let records = log::stored(group, &stored, &broker.shared.recent);
        let (records, confirmed) = tokio::join!(records, self.at.confirm());
        confirmed?;
        let records = records?;
        let (group, epoch) = (group.id().0, received.epoch);
        let jobs = received.receipts.into_iter().zip(records).map(|(receipt, record)| {
            let (message, delivery) = (receipt.taken.id, receipt.taken.delivery);
            let (subscription, generation) = (0, 0);
            let ack_id = AckId { group, subscription, generation, message, delivery, epoch };
            Job { ack_id, receipt, record }
        });
        let jobs: Vec<_> = jobs.collect();
        handed.deliver(jobs.len());
        let took = broker.shared.clock.now() - begun;
        queue.metrics.consumed(jobs.len() as u64, took);
        Ok(Looked { messages: jobs, next_due: None })
    }

    async fn changed(&mut self) {
        self.at.handle.port.after(&self.at.group, self.seen).await;
    }
}

impl QueueSource {
    /// Takes messages on the apply task. A consumer that has left by then takes none; one that
    /// leaves later drops what is handed here, and it goes back.
    async fn hand_out(&self) -> Result<Option<(Received, Handed<Epoch, QueueMachine>)>, LogError> {
        let (sender, receiver) = oneshot::channel();
        let Receive { max, ack_timeout_ms, .. } = self.ask;
        let now = self.at.broker.now_ms();
        let (returned, port) = (self.at.handle.returned.clone(), self.at.handle.port.clone());
        let take = move |machine: &mut QueueMachine| {
            if sender.is_closed() {
                return Ok(());
            }
            let received = machine.0.receive(now, max, ack_timeout_ms)?;
            let taken = received.receipts.iter().map(|receipt| receipt.taken).collect();
            let handed = Handed::new(received.epoch, taken, returned, port);
            // Nobody there: dropping it brings them back.
            let _ = sender.send((received, handed));
            Ok::<_, NotLeading>(())
        };
        self.at.group.local(take).await??;
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
