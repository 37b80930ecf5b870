//! The owner of a group's timed work on the node that leads it.
//!
//! It reports progress to the log in batches, gives up what failed too often or expired, takes
//! back what did not reach its consumer, and lets retention go on when nobody publishes. It sleeps
//! until it is woken or something is due; a group where nothing happens costs nothing.

use std::sync::Arc;

use messaging::catalog::{QueueEntry, Topic};
use messaging::dispatch::{Doomed, Progress, Reason};
use messaging::ids::{Epoch, Millis, Name, SubscriptionId};
use messaging::partition::PartitionCommand;
use messaging::queue::{QueueCommand, Stored};
use messaging::subscription::Delivered;

use crate::directory::{Directory, PartitionHandle, QueueHandle};
use crate::error::MessageError;
use crate::host::{Keep, Next};
use crate::push::Pushers;
use crate::route::{At, propose_leading};
use crate::state_machine::{PartitionMachine, QueueMachine};
use crate::{admin, dead_letter, moves};

/// Most messages reported in one log entry.
const MAX_PROGRESS: usize = 1_000;
/// Most messages given up at a time.
const MAX_DOOMED: usize = 64;

impl Keep for QueueHandle {
    type Entry = QueueEntry;
    type Attended = ();

    fn title(&self) -> String {
        self.name.to_string()
    }

    fn entry(&self, directory: &Directory) -> Option<Arc<QueueEntry>> {
        let now = directory.queue_in(self.port.id)?;
        Some(now.entry.clone())
    }

    async fn configure(at: &At<Self>) -> Result<(), MessageError> {
        admin::configure_queue(at).await
    }

    fn attend(_: &At<Self>, (): &mut ()) {}

    async fn tend(at: &At<Self>) -> Result<Next, MessageError> {
        tend_queue(at).await
    }
}

impl Keep for PartitionHandle {
    type Entry = Topic;
    type Attended = Pushers;

    fn title(&self) -> String {
        format!("{}, partition {}", self.topic, self.number)
    }

    fn entry(&self, directory: &Directory) -> Option<Arc<Topic>> {
        Some(self.topic_in(directory)?.entry.clone())
    }

    async fn configure(at: &At<Self>) -> Result<(), MessageError> {
        admin::configure_partition(at).await
    }

    fn attend(at: &At<Self>, pushers: &mut Pushers) {
        pushers.follow(at);
    }

    async fn tend(at: &At<Self>) -> Result<Next, MessageError> {
        tend_partition(at).await
    }
}

struct QueueLook {
    progress: Vec<(u64, Progress)>,
    doomed: Vec<(Doomed, Stored)>,
    dead_letter: Option<Name>,
    /// Those that expired are no dead letters.
    drop_expired: bool,
    next_due: Option<Millis>,
}

async fn tend_queue(at: &At<QueueHandle>) -> Result<Next, MessageError> {
    let At { broker, handle: queue, group, .. } = at;
    let term = at.term()?;
    let (now, returned) = (broker.now_ms(), queue.returned.take());
    let look = move |machine: &mut QueueMachine| {
        let mine = returned.iter().filter(|(epoch, _)| *epoch == Epoch(term.0));
        for (_, taken) in mine {
            machine.0.untake(taken);
        }
        machine.0.advance(now);
        QueueLook {
            progress: machine.0.take_progress(MAX_PROGRESS),
            doomed: machine.0.doomed(MAX_DOOMED),
            dead_letter: machine.0.config().dead_letter.clone(),
            drop_expired: machine.0.config().drop_expired,
            next_due: machine.0.dispatcher().next_due(),
        }
    };
    let look = group.local(look).await?;
    // Time has passed or messages came back: whoever waits looks again.
    queue.port.wake();
    let more = look.progress.len() == MAX_PROGRESS || look.doomed.len() == MAX_DOOMED;
    if !look.progress.is_empty() {
        let command = QueueCommand::Delivered { progress: look.progress.clone() };
        let command = (broker.payload(&command), false);
        if let Err(error) = propose_leading(group, term, command).await {
            group.local(move |machine| machine.0.report_again(&look.progress)).await?;
            return Err(error.into());
        }
    }
    if !look.doomed.is_empty() {
        let QueueLook { doomed, drop_expired, .. } = look;
        let is_letter = |doomed: &Doomed| !drop_expired || doomed.reason == Reason::MaxDeliveries;
        let (letters, dropped): (Vec<_>, Vec<_>) =
            doomed.into_iter().partition(|(doomed, _)| is_letter(doomed));
        dead_letter::give_up_jobs(at, &dropped, None).await?;
        dead_letter::give_up_jobs(at, &letters, look.dead_letter.as_ref()).await?;
    }
    Ok(match moves::tend(at).await? {
        Next::Due(due) if !more => Next::Due(look.next_due.into_iter().chain(due).min()),
        Next::Due(_) | Next::Now => Next::Now,
    })
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

async fn tend_partition(at: &At<PartitionHandle>) -> Result<Next, MessageError> {
    let At { broker, handle: partition, group, .. } = at;
    let term = at.term()?;
    let (now, returned) = (broker.now_ms(), partition.returned.take());
    let look = move |machine: &mut PartitionMachine| {
        let mine = returned.iter().filter(|((.., epoch), _)| *epoch == Epoch(term.0));
        for ((id, generation, _), taken) in mine {
            if let Some(mut leading) = machine.0.subscription_mut(*id)
                && leading.get().generation() == *generation
            {
                leading.untake(taken);
            }
        }
        look_at(machine, now)
    };
    let look = group.local(look).await?;
    partition.port.wake();
    if look.trim {
        let trim = (broker.payload(&PartitionCommand::Trim), true);
        propose_leading(group, term, trim).await?;
    }
    let mut more = look.trim;
    for subscription in look.subscriptions {
        let SubscriptionLook { id, delivered, doomed, .. } = &subscription;
        more |= doomed.len() == MAX_DOOMED;
        if let Some(delivered) = delivered {
            more |= delivered.progress.len() == MAX_PROGRESS;
            let (id, delivered) = (*id, delivered.clone());
            let command = PartitionCommand::Delivered { id, delivered: delivered.clone() };
            let command = (broker.payload(&command), false);
            if let Err(error) = propose_leading(group, term, command).await {
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
                at,
                subscription: (*id, &subscription.name, subscription.generation),
                doomed,
            };
            given_up.give_up(subscription.dead_letter.as_ref()).await?;
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
