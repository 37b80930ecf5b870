//! Acks, nacks and extensions, of queues and subscriptions.
//!
//! Who holds what is the leader's own knowledge, so each id is judged there first. An ack that is
//! judged good then goes through the log, where it meets everything that happened before it, and
//! only then is it answered.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use messaging::ack::AckId;
use messaging::dispatch::{NotLeading, Release, Verdict};
use messaging::ids::{MessageId, Name, SubscriptionId};
use messaging::partition::{PartitionCommand, PartitionReply};
use messaging::queue::{self, QueueCommand, QueueReply};
use messaging::subscription::{self, Settle, SettleReply};
use serde::{Deserialize, Serialize};
use telemetry::trace::InSpan as _;

use crate::broker::Broker;
use crate::directory::{PartitionHandle, QueueHandle};
use crate::error::{LogError, MessageError};
use crate::route::{At, By, Kind, Op, Port, propose_leading};
use crate::state_machine::{PartitionMachine, QueueMachine};
use crate::trace;

/// How long a message is kept for an ack that is on its way to the disk.
const ACK_GRACE_MS: u64 = 30_000;

/// What to do with deliveries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Act {
    /// They are done.
    Ack,
    /// They are done, also where their time is over, as long as nobody got them again. In a
    /// subscription the same as an ack.
    AckLate,
    /// They are given back.
    Nack(Release),
    /// They are held this long from now, or as the policy says.
    Extend {
        /// Milliseconds.
        ack_timeout_ms: Option<u64>,
    },
}

impl Act {
    const fn is_ack(&self) -> bool {
        matches!(self, Self::Ack | Self::AckLate)
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Ack | Self::AckLate => "ack",
            Self::Nack(_) => "nack",
            Self::Extend { .. } => "extend",
        }
    }
}

/// What became of one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// As asked.
    Ok,
    /// Its time was over, or it was delivered again. Nothing was done.
    Late,
    /// Settled already, or never there. Nothing was done.
    Unknown,
}

impl From<SettleReply> for Outcome {
    fn from(reply: SettleReply) -> Self {
        match reply {
            SettleReply::Settled => Self::Ok,
            SettleReply::Late => Self::Late,
            SettleReply::Unknown => Self::Unknown,
        }
    }
}

impl Broker {
    /// Settles, gives back or extends deliveries of a queue. One outcome for each id, in order;
    /// `None` stands for a text that is no ack id.
    pub(crate) async fn settle_jobs(
        &self,
        queue: &Name,
        ids: &[Option<AckId>],
        act: Act,
    ) -> Result<Vec<Outcome>, MessageError> {
        let begun = self.shared.clock.now();
        let queue = self.directory().queue(queue)?;
        let here = |id: &AckId| id.group == queue.port.id.0 && id.subscription == 0;
        let mine: Vec<(usize, AckId)> = selected(ids, here).collect();
        let span = trace::settle(act.name(), &queue.name);
        let settled = match mine.is_empty() {
            true => Vec::new(),
            false => {
                let op = SettleJobs { ids: only_ids(&mine), act: act.clone() };
                self.run(&queue, op).in_span(&span).await?
            }
        };
        let outcomes = scatter(ids.len(), [(mine, settled)]);
        if act.is_ack() {
            queue.metrics.settled(good(&outcomes), self.shared.clock.now() - begun);
        }
        Ok(outcomes)
    }

    /// The same for a subscription.
    pub(crate) async fn settle_messages(
        &self,
        (topic, subscription): (&Name, &Name),
        ids: &[Option<AckId>],
        act: Act,
    ) -> Result<Vec<Outcome>, MessageError> {
        let begun = self.shared.clock.now();
        let topic = self.directory().topic(topic)?;
        let subscription = topic.subscription(subscription)?;
        let (id, act) = (subscription.entry.id, &act);
        let mut span = trace::settle(act.name(), &topic.name);
        span.set("messaging.destination.subscription.name", subscription.name.to_string());
        let settles = topic.partitions.iter().filter_map(|partition| {
            let here = |ack: &AckId| ack.group == partition.port.id.0 && ack.subscription == id.0;
            let mine: Vec<(usize, AckId)> = selected(ids, here).collect();
            (!mine.is_empty()).then_some(async move {
                let (ids, act) = (only_ids(&mine), act.clone());
                let op = SettleMessages { subscription: id, ids, act };
                let settled = self.run(partition, op).await?;
                Ok::<_, MessageError>((mine, settled))
            })
        });
        // At once, so that all partitions share an fsync.
        let settled = join_all(settles).in_span(&span).await;
        let parts: Vec<_> = settled.into_iter().collect::<Result<_, _>>()?;
        let outcomes = scatter(ids.len(), parts);
        if act.is_ack() {
            subscription.metrics.settled(good(&outcomes), self.shared.clock.now() - begun);
        }
        Ok(outcomes)
    }
}

/// Deliveries of a queue, settled by its leader. One outcome for each.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SettleJobs {
    ids: Vec<AckId>,
    act: Act,
}

impl Op for SettleJobs {
    const KIND: Kind = Kind::SettleJobs;
    const BY: By = By::Leader;
    type On = QueueHandle;
    type Answer = Vec<Outcome>;

    async fn run(self, at: At<QueueHandle>) -> Result<Vec<Outcome>, MessageError> {
        Ok(settle_in_queue(&at, self.ids, &self.act).await?)
    }
}

/// The same in one partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SettleMessages {
    pub(crate) subscription: SubscriptionId,
    pub(crate) ids: Vec<AckId>,
    pub(crate) act: Act,
}

impl Op for SettleMessages {
    const KIND: Kind = Kind::SettleMessages;
    const BY: By = By::Leader;
    type On = PartitionHandle;
    type Answer = Vec<Outcome>;

    async fn run(self, at: At<PartitionHandle>) -> Result<Vec<Outcome>, MessageError> {
        Ok(settle_in_partition(&at, (self.subscription, self.ids), &self.act).await?)
    }
}

async fn settle_in_queue(
    at: &At<QueueHandle>,
    mine: Vec<AckId>,
    act: &Act,
) -> Result<Vec<Outcome>, LogError> {
    let At { broker, handle: queue, group, .. } = at;
    let term = at.term()?;
    let now = broker.now_ms();
    let ids = mine.clone();
    let asked = act.clone();
    let judge = move |machine: &mut QueueMachine| {
        let policy = machine.0.advance(now);
        let judge = |id: &AckId| {
            let message = MessageId(id.message);
            let mut verdict = machine.0.verdict(message, id.delivery, id.epoch)?;
            if verdict == Verdict::Late && asked == Act::AckLate && machine.0.was_last(id) {
                verdict = Verdict::Held;
            }
            if verdict == Verdict::Held {
                match &asked {
                    Act::Ack | Act::AckLate => machine.0.hold_for_ack(message, now + ACK_GRACE_MS),
                    Act::Nack(how) => machine.0.release(message, how.clone()),
                    Act::Extend { ack_timeout_ms } => {
                        let timeout = ack_timeout_ms.unwrap_or(policy.ack_timeout_ms);
                        machine.0.extend(message, now.saturating_add(timeout));
                    }
                }
            }
            Ok(verdict)
        };
        ids.iter().map(judge).collect::<Result<Vec<_>, NotLeading>>()
    };
    let verdicts = group.local(judge).await??;
    wake(&queue.port, act);
    let items = held(&mine, &verdicts);
    if !act.is_ack() || items.is_empty() {
        return Ok(outcomes(&verdicts, None));
    }
    let command = QueueCommand::Settle { why: queue::Why::Acked, items };
    match propose_leading(group, term, (broker.payload(&command), true)).await? {
        QueueReply::Settled(replies) => Ok(outcomes(&verdicts, Some(&replies))),
        _ => Err(LogError::Misunderstood),
    }
}

async fn settle_in_partition(
    at: &At<PartitionHandle>,
    (id, mine): (SubscriptionId, Vec<AckId>),
    act: &Act,
) -> Result<Vec<Outcome>, LogError> {
    let At { broker, handle: partition, group, .. } = at;
    let term = at.term()?;
    let now = broker.now_ms();
    let ids = mine.clone();
    let asked = act.clone();
    let judge = move |machine: &mut PartitionMachine| {
        let Some(mut leading) = machine.0.subscription_mut(id) else {
            return Ok((vec![Verdict::Unknown; ids.len()], 0));
        };
        leading.advance(now);
        let (policy, generation) = (leading.get().config().policy, leading.get().generation());
        let judge = |id: &AckId| {
            let verdict = leading.verdict(id.generation, id.message, id.delivery, id.epoch)?;
            if verdict == Verdict::Held {
                match &asked {
                    Act::Ack | Act::AckLate => leading.hold_for_ack(id.message, now + ACK_GRACE_MS),
                    Act::Nack(how) => leading.release(id.message, how.clone()),
                    Act::Extend { ack_timeout_ms } => {
                        let timeout = ack_timeout_ms.unwrap_or(policy.ack_timeout_ms);
                        leading.extend(id.message, now.saturating_add(timeout));
                    }
                }
            }
            Ok(verdict)
        };
        let verdicts = ids.iter().map(judge).collect::<Result<Vec<_>, NotLeading>>()?;
        Ok::<_, NotLeading>((verdicts, generation))
    };
    let (verdicts, generation) = group.local(judge).await??;
    wake(&partition.port, act);
    let items = held(&mine, &verdicts);
    if !act.is_ack() || items.is_empty() {
        return Ok(outcomes(&verdicts, None));
    }
    let settle = Settle { generation, why: subscription::Why::Acked, items };
    let command = PartitionCommand::Settle { id, settle };
    match propose_leading(group, term, (broker.payload(&command), true)).await? {
        PartitionReply::Settled(replies) => Ok(outcomes(&verdicts, Some(&replies))),
        PartitionReply::NoSubscription => Ok(vec![Outcome::Unknown; mine.len()]),
        _ => Err(LogError::Misunderstood),
    }
}

/// A nack may bring a message to whoever waits; nacks and extensions are to be reported.
fn wake<M>(port: &Port<M>, act: &Act) {
    if !act.is_ack() {
        port.keeper.notify_one();
        port.wake();
    }
}

fn selected<'a>(
    ids: &'a [Option<AckId>],
    mine: impl Fn(&AckId) -> bool + 'a,
) -> impl Iterator<Item = (usize, AckId)> + 'a {
    ids.iter().enumerate().filter_map(move |(at, id)| Some((at, id.filter(&mine)?)))
}

fn only_ids(mine: &[(usize, AckId)]) -> Vec<AckId> {
    mine.iter().map(|(_, id)| *id).collect()
}

fn held(mine: &[AckId], verdicts: &[Verdict]) -> Vec<(u64, u32)> {
    let held = mine.iter().zip(verdicts).filter(|(_, verdict)| **verdict == Verdict::Held);
    held.map(|(id, _)| (id.message, id.delivery)).collect()
}

/// The log's word counts for what went through it.
fn outcomes(verdicts: &[Verdict], replies: Option<&[SettleReply]>) -> Vec<Outcome> {
    let mut replies = replies.map(|replies| replies.iter());
    let outcome = |verdict: &Verdict| match verdict {
        Verdict::Late => Outcome::Late,
        Verdict::Unknown => Outcome::Unknown,
        Verdict::Held => match &mut replies {
            None => Outcome::Ok,
            Some(replies) => replies.next().map_or(Outcome::Unknown, |reply| (*reply).into()),
        },
    };
    verdicts.iter().map(outcome).collect()
}

/// Outcomes in the order of the request. What belongs to nobody here is unknown.
fn scatter(
    len: usize,
    parts: impl IntoIterator<Item = (Vec<(usize, AckId)>, Vec<Outcome>)>,
) -> Vec<Outcome> {
    let parts = parts.into_iter().flat_map(|(mine, settled)| {
        mine.into_iter().zip(settled).map(|((at, _), outcome)| (at, outcome))
    });
    let known: BTreeMap<usize, Outcome> = parts.collect();
    (0..len).map(|at| known.get(&at).copied().unwrap_or(Outcome::Unknown)).collect()
}

fn good(outcomes: &[Outcome]) -> u64 {
    outcomes.iter().filter(|outcome| **outcome == Outcome::Ok).count() as u64
}
