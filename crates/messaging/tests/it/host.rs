//! One group as a test drives it: a log, the machine over it, and crashes.

use bytes::Bytes;
use consensus::Index;
use messaging::ack::AckId;
use messaging::config::QueueConfig;
use messaging::dispatch::{Depth, Verdict};
use messaging::frame::{self, Envelope, Records};
use messaging::ids::{Epoch, MessageId, Millis};
use messaging::queue::{Outgoing, Queue, QueueCommand, QueueReply, Receipt, Stored, Why};
use messaging::subscription::SettleReply;

/// A queue over its log.
pub(crate) struct QueueHost {
    pub(crate) log: Vec<Bytes>,
    pub(crate) queue: Queue,
    pub(crate) epoch: Epoch,
    pub(crate) now: Millis,
    snapshot: Option<(usize, Vec<u8>)>,
    /// A node that led before, and how much of the log it has applied.
    former: Option<(usize, Queue)>,
}

impl QueueHost {
    /// A queue with the usual settings.
    pub(crate) fn new() -> Self {
        let mut host = Self::unconfigured();
        let config = QueueConfig::default();
        host.propose(&QueueCommand::Configure { version: 1, config });
        host
    }

    /// One that has not been told its settings.
    pub(crate) fn unconfigured() -> Self {
        let mut queue = Queue::new();
        queue.lead(Epoch(1));
        Self { log: Vec::new(), queue, epoch: Epoch(1), now: 1_000, snapshot: None, former: None }
    }

    pub(crate) fn propose(&mut self, command: &QueueCommand) -> QueueReply {
        self.append(frame::encode(self.now, command, &Records::default()))
    }

    /// Sends one message for each body, with this as its other properties.
    pub(crate) fn send(&mut self, bodies: &[u64], outgoing: &Outgoing) -> QueueReply {
        let mut records = Records::default();
        for body in bodies {
            records.push(&Envelope::default(), body.to_string().as_bytes());
        }
        let messages =
            records.sizes.iter().map(|size| Outgoing { size: *size, ..outgoing.clone() });
        let messages = messages.collect();
        let command = QueueCommand::Send { idempotency_key: None, messages };
        self.append(frame::encode(self.now, &command, &records))
    }

    fn append(&mut self, payload: Bytes) -> QueueReply {
        self.log.push(payload.clone());
        self.queue.apply(Index(self.log.len() as u64), &payload)
    }

    pub(crate) fn receive(&mut self, max: usize) -> Vec<Receipt> {
        self.queue.receive(self.now, max, None).unwrap().receipts
    }

    /// The body a receipt points at, read back from the log.
    pub(crate) fn body(&self, receipt: &Receipt) -> u64 {
        self.body_of(&receipt.stored)
    }

    pub(crate) fn body_of(&self, stored: &Stored) -> u64 {
        let payload = &self.log[usize::try_from(stored.index.0).unwrap() - 1];
        let record = frame::record(payload, stored.at as usize, stored.size).unwrap();
        std::str::from_utf8(&record.body).unwrap().parse().unwrap()
    }

    pub(crate) fn ack_id(&self, receipt: &Receipt) -> AckId {
        AckId {
            group: 7,
            subscription: 0,
            generation: 0,
            message: receipt.taken.id,
            delivery: receipt.taken.delivery,
            epoch: self.epoch,
        }
    }

    pub(crate) fn verdict(&mut self, id: &AckId) -> Verdict {
        self.queue.advance(self.now);
        self.queue.verdict(MessageId(id.message), id.delivery, id.epoch).unwrap()
    }

    /// As the broker does it: judged by the leader, then through the log.
    pub(crate) fn ack(&mut self, id: &AckId) -> SettleReply {
        match self.verdict(id) {
            Verdict::Held => self.settle(id.message, id.delivery, Why::Acked),
            Verdict::Late => SettleReply::Late,
            Verdict::Unknown => SettleReply::Unknown,
        }
    }

    pub(crate) fn settle(&mut self, id: u64, delivery: u32, why: Why) -> SettleReply {
        match self.propose(&QueueCommand::Settle { why, items: vec![(id, delivery)] }) {
            QueueReply::Settled(replies) => replies[0],
            other => panic!("a settle answers {other:?}"),
        }
    }

    /// What the keeper does now and then: reports, and gives up what is doomed.
    pub(crate) fn tend(&mut self) {
        self.queue.advance(self.now);
        let progress = self.queue.take_progress(usize::MAX);
        if !progress.is_empty() {
            self.propose(&QueueCommand::Delivered { progress });
        }
        for (doomed, _) in self.queue.doomed(usize::MAX) {
            self.settle(doomed.id, doomed.attempts, Why::Discarded);
        }
    }

    pub(crate) fn take_snapshot(&mut self) {
        self.snapshot = Some((self.log.len(), self.queue.snapshot()()));
    }

    /// Another node leads from now on: the one that did before, if there is one. This node follows,
    /// and must then be as if it had never led; unless `follows` is false, which is a bug.
    pub(crate) fn depose(&mut self, follows: bool) -> Result<(), String> {
        let next = match self.former.take() {
            Some((from, mut queue)) => {
                for (at, payload) in self.log.iter().enumerate().skip(from) {
                    queue.apply(Index(at as u64 + 1), payload);
                }
                queue
            }
            None => self.rebuilt(),
        };
        let mut old = std::mem::replace(&mut self.queue, next);
        if follows {
            old.follow();
            let refused = old.clone().receive(self.now, 1, None);
            if refused.is_ok() || standing(&old, self.now) != standing(&self.rebuilt(), self.now) {
                return Err("who led before knows more than what is replicated".to_owned());
            }
        }
        self.former = Some((self.log.len(), old));
        self.epoch = Epoch(self.epoch.0 + 1);
        self.queue.lead(self.epoch);
        Ok(())
    }

    /// The process is gone; another one starts from the snapshot and the log.
    pub(crate) fn restart(&mut self) {
        self.queue = self.rebuilt();
        self.epoch = Epoch(self.epoch.0 + 1);
        self.queue.lead(self.epoch);
    }

    fn rebuilt(&self) -> Queue {
        let mut queue = Queue::new();
        let mut from = 0;
        if let Some((applied, snapshot)) = &self.snapshot {
            queue.restore(snapshot).unwrap();
            from = *applied;
        }
        for (at, payload) in self.log.iter().enumerate().skip(from) {
            queue.apply(Index(at as u64 + 1), payload);
        }
        queue
    }
}

/// What a queue would do at this moment if it were led.
fn standing(queue: &Queue, now: Millis) -> (Vec<Depth>, Vec<(MessageId, u32)>) {
    let mut queue = queue.clone();
    queue.lead(Epoch(u64::MAX - 1));
    queue.advance(now);
    let next = queue.peek(usize::MAX).into_iter().map(|(id, attempts, _)| (id, attempts));
    (queue.dispatcher().depths().collect(), next.collect())
}
