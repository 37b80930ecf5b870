//! One subscription in one partition, pushed from where the partition is led.

use std::sync::Arc;
use std::time::Duration;

use client::Url;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use messaging::catalog::Push;
use messaging::dispatch::Release;
use resilience::breaker::Guard;
use telemetry::trace::InSpan as _;

use super::endpoint::{Gate, Slot, Slots};
use super::judge::{Judgement, judge};
use super::letter::{self, Subject};
use crate::directory::{PartitionHandle, SubscriptionHandle};
use crate::pull::{Delivered, Take};
use crate::route::{At, Moment, Op as _};
use crate::settle::{Act, SettleMessages};
use crate::trace;

/// Most messages taken at a time.
const MAX_TAKE: usize = 64;
/// How much longer than its call a message is held: for the ack.
const GRACE_MS: u64 = 10_000;
/// Longest wait of a message whose endpoint is away: then the breaker decides.
const MAX_AWAY_MS: u64 = 60_000;
/// After something that passes, such as a partition that is not configured yet.
const PAUSE: Duration = Duration::from_millis(200);
/// Looks at least this often: clocks are set.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// How often an ack is tried while the log is too busy.
const ACK_TRIES: u32 = 5;

pub(super) struct Pusher {
    pub(super) at: At<PartitionHandle>,
    pub(super) subscription: Arc<SubscriptionHandle>,
    pub(super) push: Push,
    pub(super) url: Url,
    pub(super) gate: Arc<Gate>,
    pub(super) slots: Arc<Slots>,
}

/// The right to make one call.
struct Admitted {
    guard: Guard,
    slot: Slot,
}

/// What to wait for when nothing can be sent.
enum Wait {
    /// Its settings are not these any more: another pusher takes its place.
    End,
    For(Duration),
    Freed,
    More(Moment, Duration),
}

impl Pusher {
    /// Takes and calls until it is cancelled or the broker drains.
    pub(super) async fn run(self) {
        let draining = self.at.broker.draining().clone();
        let mut calls = FuturesUnordered::new();
        while !draining.is_cancelled() {
            let wait = match self.turn().await {
                Ok(taken) => {
                    let taken = taken.into_iter();
                    calls.extend(taken.map(|(message, admitted)| self.deliver(message, admitted)));
                    continue;
                }
                Err(Wait::End) => break,
                Err(wait) => wait,
            };
            tokio::select! {
                () = draining.cancelled() => (),
                Some(()) = calls.next(), if !calls.is_empty() => (),
                () = self.wait(wait) => (),
            }
        }
        while calls.next().await.is_some() {}
    }

    /// Takes no more than may be called now: what is not taken waits, and nothing is used up.
    async fn turn(&self) -> Result<Vec<(Delivered, Admitted)>, Wait> {
        if !self.is_current() {
            return Err(Wait::End);
        }
        let admitted = self.admit()?;
        let ack_timeout_ms = Some(self.push.timeout_ms + GRACE_MS);
        let take =
            Take { subscription: self.subscription.entry.id, max: admitted.len(), ack_timeout_ms };
        match take.run(self.at.clone()).await {
            Ok(Some(taken)) if taken.messages.is_empty() => {
                let due = taken.due_in_ms.map_or(MAX_PAUSE, Duration::from_millis);
                Err(Wait::More(taken.seen, due.clamp(Duration::from_millis(1), MAX_PAUSE)))
            }
            Ok(Some(taken)) => Ok(taken.messages.into_iter().zip(admitted).collect()),
            // Not configured yet, or led by another in a moment.
            Ok(None) | Err(_) => Err(Wait::For(PAUSE)),
        }
    }

    fn is_current(&self) -> bool {
        let topic = self.at.handle.topic_in(&self.at.broker.directory());
        let now = topic.as_ref().and_then(|topic| topic.subscriptions.get(&self.subscription.name));
        now.is_some_and(|now| Arc::ptr_eq(now, &self.subscription))
    }

    fn admit(&self) -> Result<Vec<Admitted>, Wait> {
        let now = self.at.broker.shared.clock.now();
        let share = self.share();
        let mut admitted = Vec::new();
        while admitted.len() < MAX_TAKE
            && let Some(slot) = self.slots.take(share)
        {
            match self.gate.enter(now) {
                Ok(guard) => admitted.push(Admitted { guard, slot }),
                Err(left) if admitted.is_empty() => return Err(Wait::For(left)),
                Err(_) => break,
            }
        }
        if admitted.is_empty() { Err(Wait::Freed) } else { Ok(admitted) }
    }

    /// How many of the subscription's calls may be made from here: as large a part as of its
    /// partitions is led here.
    fn share(&self) -> usize {
        let max = self.push.max_in_flight as usize;
        let Some(topic) = self.at.handle.topic_in(&self.at.broker.directory()) else { return 1 };
        let led = topic.partitions.iter().filter(|one| one.port.led().is_some()).count();
        (max * led / topic.partitions.len()).max(1)
    }

    async fn wait(&self, wait: Wait) {
        match wait {
            Wait::End => (),
            // A breaker may be asked again earlier than an hour: it may be somebody else's probe.
            Wait::For(left) => tokio::time::sleep(left.min(MAX_PAUSE)).await,
            Wait::Freed => {
                let _ = tokio::time::timeout(PAUSE, self.slots.freed()).await;
            }
            Wait::More(seen, due) => {
                let more = self.at.handle.port.after(&self.at.group, seen);
                let _ = tokio::time::timeout(due, more).await;
            }
        }
    }

    async fn deliver(&self, message: Delivered, Admitted { guard, slot }: Admitted) {
        let broker = &self.at.broker;
        let (topic, begun) = (&self.at.handle.topic, broker.shared.clock.now());
        let correlation = broker.shared.correlation;
        let subscription = &self.subscription.name;
        let envelope = &message.record.envelope;
        let mut span = trace::process(correlation, (topic, subscription), envelope);
        let subject = Subject {
            topic: topic.as_str(),
            subscription: subscription.as_str(),
            message: &message,
        };
        let letter =
            letter::write(&subject, (&self.url, &self.push), broker.now_ms(), span.context());
        let called = broker.shared.pushing.caller.post(letter).in_span(&span).await;
        if let Ok(answered) = &called {
            span.set("http.response.status_code", answered.status);
        }
        let (judgement, outcome, alone) = judge(&called);
        guard.record(outcome);
        let now = broker.shared.clock.now();
        if let Some(alone) = alone {
            self.gate.close(now + alone);
        }
        let metrics = &self.subscription.metrics;
        metrics.consumed(1, now - begun);
        broker.shared.metrics.pushed((topic, subscription), judgement.name(), now - begun);
        if judgement != Judgement::Delivered {
            span.fail(judgement.name());
        }
        self.settle(&message, judgement, alone).in_span(&span).await;
        drop(slot);
    }

    async fn settle(&self, message: &Delivered, judgement: Judgement, alone: Option<Duration>) {
        let alone = alone.map(|alone| u64::try_from(alone.as_millis()).unwrap_or(u64::MAX));
        let act = match judgement {
            Judgement::Delivered => Act::Ack,
            Judgement::Failed { reason } => {
                Act::Nack(Release::Failed { delay_ms: alone, reason: Some(reason) })
            }
            Judgement::Away => {
                let backoff = self.subscription.entry.config.policy.backoff;
                let wait = backoff.after(message.taken.id, message.taken.delivery);
                let delay_ms = alone.unwrap_or(wait.min(MAX_AWAY_MS));
                Act::Nack(Release::Free { delay_ms })
            }
            Judgement::Stop { reason } => {
                self.stop(reason).await;
                Act::Nack(Release::Free { delay_ms: 0 })
            }
        };
        for _ in 0..ACK_TRIES {
            let (subscription, ids) = (self.subscription.entry.id, vec![message.ack_id]);
            let op = SettleMessages { subscription, ids, act: act.clone() };
            match op.run(self.at.clone()).await {
                Ok(_) if act == Act::Ack => {
                    return self.subscription.metrics.settled(1, Duration::ZERO);
                }
                Ok(_) => return,
                Err(error) => {
                    let offset = message.taken.id;
                    tracing::debug!(offset, %error, "what a webhook answered is not kept yet");
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        // It comes again when its time is over.
    }

    /// All brokers stop: this one with the catalog's answer, before it takes anything more.
    async fn stop(&self, reason: String) {
        let (topic, name) = (self.at.handle.topic.clone(), self.subscription.name.clone());
        tracing::warn!(%topic, subscription = %name, reason, "a subscription stops pushing");
        let broker = &self.at.broker;
        let paused = broker.pause_push((topic, name), self.push.url.clone(), Some(reason)).await;
        if let Err(error) = paused {
            tracing::warn!(%error, "the catalog does not know yet that a subscription is paused");
            // Until the next answer says the same.
            self.gate.close(broker.shared.clock.now() + MAX_PAUSE);
        }
    }
}
