//! Questions through a queue: the answer is a message too, found by what it answers.
//!
//! ```text
//! request ─▶ queue ─▶ whoever receives ─▶ reply ─▶ reply queue ─▶ whoever waits for the correlation
//! ```
//!
//! **Invariant:** the answer is on disk before its question is settled, so a question whose answer
//! is lost comes again. Its answers are stored once.

use std::collections::BTreeMap;
use std::time::Duration;

use api::broker::{CORRELATION_ID, REPLY_QUEUE, REPLY_SECONDS, REPLY_TO};
use messaging::ack::AckId;
use messaging::config::QueueConfig;
use messaging::dispatch::{NotLeading, Verdict};
use messaging::ids::{MessageId, Name, stable_hash};
use messaging::queue::{QueueCommand, QueueReply};
use messaging::queue::{Stored, Why};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::broker::Broker;
use crate::directory::QueueHandle;
use crate::error::{AdminError, LogError, MessageError};
use crate::log;
use crate::redrive::Peeked;
use crate::route::{At, By, Kind, Op, propose_leading};
use crate::send::{Batch, NewJob};
use crate::settle::{Act, Outcome};
use crate::state_machine::QueueMachine;
use crate::wait::Patience;

/// Those who wait for answers, at the leader.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    by_correlation: BTreeMap<u64, Vec<oneshot::Sender<()>>>,
    /// When there are so many, those that have left are looked for.
    sweep_at: usize,
}

impl Waiters {
    /// Told when there is an answer, or when nobody can tell any more.
    fn wait(&mut self, correlation: u64) -> oneshot::Receiver<()> {
        const MIN: usize = 64;
        if self.sweep_at.max(MIN) <= self.by_correlation.len() {
            self.by_correlation.retain(|_, waiters| {
                waiters.retain(|waiter| !waiter.is_closed());
                !waiters.is_empty()
            });
            self.sweep_at = 2 * self.by_correlation.len();
        }
        let (sender, told) = oneshot::channel();
        let waiters = self.by_correlation.entry(correlation).or_default();
        waiters.retain(|waiter| !waiter.is_closed());
        waiters.push(sender);
        told
    }

    pub(crate) fn wake(&mut self, correlation: u64) {
        for waiter in self.by_correlation.remove(&correlation).into_iter().flatten() {
            // It may have left.
            let _ = waiter.send(());
        }
    }

    pub(crate) fn clear(&mut self) {
        self.by_correlation.clear();
    }
}

/// What an answer answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) reply_to: Option<String>,
    pub(crate) correlation_id: Option<String>,
}

impl Broker {
    /// Asks whoever receives from `queue`, and waits for the answer. `is_kept`: it is there for
    /// others to find afterwards.
    pub(crate) async fn request(
        &self,
        queue: &Name,
        (mut job, batch): (NewJob, Batch),
        (patience, is_kept): (Patience, bool),
    ) -> Result<Option<Peeked>, RequestError> {
        self.directory().queue(queue).map_err(MessageError::from)?;
        let replies = self.reply_queue().await?;
        let id = job.correlation_id.take().unwrap_or_default();
        job.message.set(REPLY_TO, replies.to_string());
        job.message.set(CORRELATION_ID, id.clone());
        self.send(queue, Batch { jobs: vec![job], ..batch }).await?;
        Ok(self.answer(&replies, &id, (patience, is_kept)).await?)
    }

    /// The answer of this correlation in a queue, or none while patience lasts.
    pub(crate) async fn answer(
        &self,
        queue: &Name,
        correlation_id: &str,
        (patience, is_kept): (Patience, bool),
    ) -> Result<Option<Peeked>, MessageError> {
        let queue = self.directory().queue(queue)?;
        let ask = |wait_ms| {
            let correlation_id = correlation_id.to_owned();
            let answer = self.run(&queue, Answer { correlation_id, is_kept, wait_ms });
            async { Ok(answer.await?.into_iter().collect()) }
        };
        Ok(self.patiently(&queue.port.gone, patience, ask).await?.pop())
    }

    /// Answers the message of this delivery and settles it. `None`: it asks for no answer.
    pub(crate) async fn reply(
        &self,
        queue: &Name,
        id: AckId,
        message: crate::message::NewMessage,
    ) -> Result<Option<(Outcome, Asked)>, MessageError> {
        let handle = self.directory().queue(queue)?;
        let nothing = Asked { reply_to: None, correlation_id: None };
        if id.group != handle.port.id.0 || id.subscription != 0 {
            return Ok(Some((Outcome::Unknown, nothing)));
        }
        let asked = match self.run(&handle, Question { id }).await? {
            (Outcome::Ok, asked) => asked,
            (outcome, asked) => return Ok(Some((outcome, asked))),
        };
        let to = asked.reply_to.as_ref().and_then(|name| name.parse::<Name>().ok());
        let (Some(to), Some(correlation_id)) = (to, asked.correlation_id.clone()) else {
            return Ok(None);
        };
        let job = NewJob {
            message,
            // Answered twice, it is stored once.
            dedup_id: Some(format!("reply:{correlation_id}")),
            correlation_id: Some(correlation_id),
            ttl_ms: Some(REPLY_SECONDS * 1_000),
            ..NewJob::default()
        };
        self.send(&to, Batch { jobs: vec![job], ..Batch::default() }).await?;
        let outcomes = self.settle_jobs(queue, &[Some(id)], Act::Ack).await?;
        Ok(outcomes.first().map(|outcome| (*outcome, asked)))
    }

    /// The queue of answers, made if need be.
    async fn reply_queue(&self) -> Result<Name, AdminError> {
        let name: Name = REPLY_QUEUE.parse().expect("it is a name");
        if self.directory().queue(&name).is_err() {
            let ttl_ms = Some(REPLY_SECONDS * 1_000);
            let config = QueueConfig { ttl_ms, ..QueueConfig::default() };
            self.put_queue(name.clone(), config, None).await?;
        }
        Ok(name)
    }
}

/// Why a request was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// There is no queue for the answer.
    #[error(transparent)]
    Queue(#[from] AdminError),
    /// It did not reach its queue, or its answer cannot be read.
    #[error(transparent)]
    Message(#[from] MessageError),
}

/// The message of a correlation, by the leader.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    correlation_id: String,
    is_kept: bool,
    wait_ms: u64,
}

impl Op for Answer {
    const KIND: Kind = Kind::Answer;
    const BY: By = By::Leader;
    type On = QueueHandle;
    type Answer = Option<Peeked>;

    async fn run(self, at: At<QueueHandle>) -> Result<Option<Peeked>, MessageError> {
        let wait = Duration::from_millis(self.wait_ms);
        let found = find(&at, &self.correlation_id);
        let draining = at.broker.draining();
        let found = chassis::long_poll::wait(found, wait, None, draining).await.transpose()?;
        if let Some(found) = found.as_ref().filter(|_| !self.is_kept) {
            // Who asked has it, or asks in vain: nobody else can.
            let (why, items) = (Why::Acked, vec![(found.id.0, found.deliveries)]);
            let payload = at.broker.payload(&QueueCommand::Settle { why, items });
            match propose_leading(&at.group, at.term()?, (payload, true)).await {
                Ok(QueueReply::Settled(_)) => (),
                outcome => tracing::debug!(?outcome, "an answer stays until it expires"),
            }
        }
        Ok(found)
    }

    fn wait_ms(&self) -> u64 {
        self.wait_ms
    }
}

/// Resolves when there is one.
async fn find(at: &At<QueueHandle>, correlation_id: &str) -> Result<Peeked, MessageError> {
    let hash = stable_hash(correlation_id.as_bytes());
    loop {
        let look = move |machine: &mut QueueMachine| {
            let found = machine.0.by_correlation(hash).and_then(|id| {
                let deliveries = machine.0.deliveries(id);
                machine.0.get(id).map(|stored| (id, deliveries, stored))
            });
            found.ok_or_else(|| machine.1.wait(hash))
        };
        match at.group.local(look).await? {
            Ok((id, deliveries, stored)) => {
                if let Some(found) = read(at, (id, deliveries, stored), correlation_id).await? {
                    return Ok(found);
                }
                // Another text with this hash is in its place.
                std::future::pending::<()>().await;
            }
            Err(told) => {
                if told.await.is_err() {
                    return Err(LogError::NoLeader { hint: None }.into());
                }
            }
        }
    }
}

async fn read(
    at: &At<QueueHandle>,
    (id, deliveries, stored): (MessageId, u32, Stored),
    correlation_id: &str,
) -> Result<Option<Peeked>, MessageError> {
    let mut records = log::stored(&at.group, &[&stored], &at.broker.shared.recent).await?;
    at.confirm().await?;
    let record = records.pop().ok_or(LogError::Unreadable { source: None })?;
    let is_it = attribute(&record.envelope.attributes, CORRELATION_ID) == Some(correlation_id);
    Ok(is_it.then_some(Peeked { id, deliveries, stored, record }))
}

fn attribute<'a>(attributes: &'a [(String, String)], name: &str) -> Option<&'a str> {
    attributes.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
}

/// What the message of a delivery asks, by the leader, if it is still its consumer's.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Question {
    id: AckId,
}

impl Op for Question {
    const KIND: Kind = Kind::Question;
    const BY: By = By::Leader;
    type On = QueueHandle;
    type Answer = (Outcome, Asked);

    async fn run(self, at: At<QueueHandle>) -> Result<(Outcome, Asked), MessageError> {
        let (id, now) = (self.id, at.broker.now_ms());
        let look = move |machine: &mut QueueMachine| {
            machine.0.advance(now);
            let message = MessageId(id.message);
            let verdict = machine.0.verdict(message, id.delivery, id.epoch)?;
            Ok::<_, NotLeading>((verdict, machine.0.get(message)))
        };
        let (verdict, stored) = at.group.local(look).await??;
        let nothing = Asked { reply_to: None, correlation_id: None };
        let stored = match (verdict, stored) {
            (Verdict::Held, Some(stored)) => stored,
            (Verdict::Late, _) => return Ok((Outcome::Late, nothing)),
            _ => return Ok((Outcome::Unknown, nothing)),
        };
        let mut records = log::stored(&at.group, &[&stored], &at.broker.shared.recent).await?;
        let record = records.pop().ok_or(LogError::Unreadable { source: None })?;
        let named = |name| attribute(&record.envelope.attributes, name).map(str::to_owned);
        let asked = Asked { reply_to: named(REPLY_TO), correlation_id: named(CORRELATION_ID) };
        Ok((Outcome::Ok, asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_who_waits_is_told_and_who_left_is_forgotten() {
        let mut waiters = Waiters::default();
        let (mut first, mut second, mut other) =
            (waiters.wait(1), waiters.wait(1), waiters.wait(2));
        waiters.wake(1);
        assert_eq!((first.try_recv(), second.try_recv()), (Ok(()), Ok(())));
        assert!(other.try_recv().is_err());
        for correlation in 10..1_000 {
            drop(waiters.wait(correlation));
        }
        assert!(waiters.by_correlation.len() <= 64);
        waiters.clear();
        assert!(other.try_recv().is_err());
    }
}
