//! The owner of a group's timed work: one task for each queue and partition.
//!
//! It reports progress to the log in batches, gives up what failed too often or expired, takes
//! back what did not reach its consumer, and lets retention go on when nobody publishes. It sleeps
//! until it is woken or something is due; a group where nothing happens costs nothing.

use std::sync::Arc;
use std::time::Duration;

use messaging::dispatch::{Doomed, Progress};
use messaging::ids::{Millis, Name, SubscriptionId};
use messaging::partition::PartitionCommand;
use messaging::queue::{QueueCommand, Stored};
use messaging::subscription::Delivered;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::dead_letter;
use crate::directory::{PartitionHandle, QueueHandle};
use crate::error::MessageError;
use crate::state_machine::PartitionMachine;

/// How long progress is gathered before it is reported: what a restart may deliver again at once.
const GATHER: Duration = Duration::from_millis(50);
/// Most messages reported in one log entry.
const MAX_PROGRESS: usize = 1_000;
/// Most messages given up at a time.
const MAX_DOOMED: usize = 64;
/// After a failure, above all a dead-letter queue that is full.
const RETRY: Duration = Duration::from_secs(1);
/// Looks at least this often, as clocks are set and delays are long.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// When to look again.
enum Next {
    /// There was more than one look takes.
    Now,
    /// When woken, or at this time.
    Due(Option<Millis>),
}

/// Keeps a queue until it is deleted.
pub(crate) fn spawn_queue(broker: Broker, queue: &Arc<QueueHandle>) {
    let queue = queue.clone();
    let tasks = broker.shared.tasks.clone();
    let keep = async move {
        let sleep = Sleep::new(&broker, &queue.served.keeper, &queue.served.gone);
        loop {
            let next = tend_queue(&broker, &queue).await;
            if !sleep.until(next, queue.name.as_str()).await {
                return;
            }
        }
    };
    tasks.spawn(keep);
}

/// Keeps a partition, with its part of every subscription, until it is deleted.
pub(crate) fn spawn_partition(broker: Broker, partition: Arc<PartitionHandle>) {
    let tasks = broker.shared.tasks.clone();
    let keep = async move {
        let sleep = Sleep::new(&broker, &partition.served.keeper, &partition.served.gone);
        loop {
            let next = tend_partition(&broker, &partition).await;
            if !sleep.until(next, "partition").await {
                return;
            }
        }
    };
    tasks.spawn(keep);
}

struct Sleep {
    broker: Broker,
    woken: Arc<Notify>,
    gone: CancellationToken,
}

impl Sleep {
    fn new(broker: &Broker, woken: &Arc<Notify>, gone: &CancellationToken) -> Self {
        Self { broker: broker.clone(), woken: woken.clone(), gone: gone.clone() }
    }

    /// False when there is nothing left to keep.
    async fn until(&self, next: Result<Next, MessageError>, name: &str) -> bool {
        let stop = &self.broker.shared.stop;
        let pause = match next {
            Ok(Next::Now) => Duration::ZERO,
            Ok(Next::Due(due)) => due.map_or(MAX_SLEEP, |due| {
                Duration::from_millis(due.saturating_sub(self.broker.now_ms())).min(MAX_SLEEP)
            }),
            Err(error) => {
                if !self.gone.is_cancelled() && !stop.is_cancelled() {
                    tracing::debug!(name, %error, "keeping a queue or partition is put off");
                }
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => return true,
                    () = stop.cancelled() => return false,
                    () = self.gone.cancelled() => return false,
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => return false,
            () = self.gone.cancelled() => return false,
            () = tokio::time::sleep(pause) => return true,
            () = self.woken.notified() => (),
        }
        tokio::select! {
            () = stop.cancelled() => false,
            () = self.gone.cancelled() => false,
            () = tokio::time::sleep(GATHER) => true,
        }
    }
}

struct QueueLook {
    progress: Vec<(u64, Progress)>,
    doomed: Vec<(Doomed, Stored)>,
    dead_letter: Option<Name>,
    next_due: Option<Millis>,
}

async fn tend_queue(broker: &Broker, queue: &Arc<QueueHandle>) -> Result<Next, MessageError> {
    let group = queue.served.group()?;
    let (now, returned) = (broker.now_ms(), queue.returned.take());
    let look = move |machine: &mut crate::state_machine::QueueMachine| {
        for ((), taken) in &returned {
            machine.0.untake(taken);
        }
        machine.0.advance(now);
        QueueLook {
            progress: machine.0.take_progress(MAX_PROGRESS),
            doomed: machine.0.doomed(MAX_DOOMED),
            dead_letter: machine.0.config().dead_letter.clone(),
            next_due: machine.0.dispatcher().next_due(),
        }
    };
    let look = group.local(look).await?;
    // Time has passed or messages came back: whoever waits looks again.
    queue.served.changed.notify_one();
    let more = look.progress.len() == MAX_PROGRESS || look.doomed.len() == MAX_DOOMED;
    if !look.progress.is_empty() {
        let command = QueueCommand::Delivered { progress: look.progress.clone() };
        if let Err(error) = group.propose(broker.payload(&command)).await {
            group.local(move |machine| machine.0.report_again(&look.progress)).await?;
            return Err(error.into());
        }
    }
    if !look.doomed.is_empty() {
        dead_letter::give_up_jobs(broker, queue, &look.doomed, look.dead_letter.as_ref()).await?;
    }
    Ok(if more { Next::Now } else { Next::Due(look.next_due) })
}

struct PartitionLook {
    subscriptions: Vec<SubscriptionLook>,
    next_due: Option<Millis>,
    trim: bool,
}

struct SubscriptionLook {
    id: SubscriptionId,
    name: Name,
    generation: u32,
    delivered: Option<Delivered>,
    doomed: Vec<Doomed>,
    dead_letter: Option<Name>,
}

async fn tend_partition(
    broker: &Broker,
    partition: &Arc<PartitionHandle>,
) -> Result<Next, MessageError> {
    let group = partition.served.group()?;
    let (now, returned) = (broker.now_ms(), partition.returned.take());
    let look = move |machine: &mut PartitionMachine| {
        for ((id, generation), taken) in &returned {
            if let Some(mut leading) = machine.0.subscription_mut(*id)
                && leading.get().generation() == *generation
            {
                leading.untake(taken);
            }
        }
        look_at(machine, now)
    };
    let look = group.local(look).await?;
    partition.served.changed.notify_one();
    if look.trim {
        group.propose_freeing(broker.payload(&PartitionCommand::Trim)).await?;
    }
    let mut more = look.trim;
    for subscription in look.subscriptions {
        let SubscriptionLook { id, delivered, doomed, .. } = &subscription;
        more |= doomed.len() == MAX_DOOMED;
        if let Some(delivered) = delivered {
            more |= delivered.progress.len() == MAX_PROGRESS;
            let (id, delivered) = (*id, delivered.clone());
            let command = PartitionCommand::Delivered { id, delivered: delivered.clone() };
            if let Err(error) = group.propose(broker.payload(&command)).await {
                let again = move |machine: &mut PartitionMachine| {
                    if let Some(mut leading) = machine.0.subscription_mut(id) {
                        leading.report_again(&delivered);
                    }
                };
                group.local(again).await?;
                return Err(error.into());
            }
        }
        if !doomed.is_empty() {
            let given_up = dead_letter::Messages {
                partition,
                subscription: (*id, &subscription.name, subscription.generation),
                doomed,
            };
            given_up.give_up(broker, subscription.dead_letter.as_ref()).await?;
        }
    }
    Ok(if more { Next::Now } else { Next::Due(look.next_due) })
}

fn look_at(machine: &mut PartitionMachine, now: Millis) -> PartitionLook {
    let ids: Vec<_> = machine.0.subscriptions().map(|(id, _)| id).collect();
    let mut next_due = None;
    let mut subscriptions = Vec::new();
    for id in ids {
        let Some(mut leading) = machine.0.subscription_mut(id) else { continue };
        leading.advance(now);
        let (delivered, doomed) = (leading.take_progress(MAX_PROGRESS), leading.doomed(MAX_DOOMED));
        let subscription = leading.get();
        next_due = next_due.into_iter().chain(subscription.dispatcher().next_due()).min();
        if delivered.is_some() || !doomed.is_empty() {
            subscriptions.push(SubscriptionLook {
                id,
                name: subscription.name().clone(),
                generation: subscription.generation(),
                delivered,
                doomed,
                dead_letter: subscription.config().dead_letter.clone(),
            });
        }
    }
    let oldest = machine.0.spans().at(machine.0.earliest());
    let expires = machine.0.retention().age_ms.zip(oldest);
    // A message goes when it is older than the limit, not when it is as old.
    let expires = expires.map(|(age, span)| span.last_ms.saturating_add(age).saturating_add(1));
    let trim = expires.is_some_and(|at| at <= now);
    let next_due = next_due.into_iter().chain(expires).min();
    PartitionLook { subscriptions, next_due, trim }
}
