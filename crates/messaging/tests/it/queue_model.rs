//! A queue against a list that is searched from end to end.

use std::collections::BTreeSet;

use messaging::config::{Backoff, Overflow, Policy, QueueConfig};
use messaging::dispatch::Release;
use messaging::ids::MessageId;
use messaging::queue::{Outgoing, QueueCommand, QueueReply, Receipt, Refused};
use messaging::subscription::SettleReply;
use proptest::prelude::*;

use crate::host::QueueHost;

const CAPACITY: u64 = 12;
const TIMEOUT: u64 = 100;
const MAX_DELIVERIES: u32 = 3;
const BACKOFF: Backoff = Backoff::Doubling { initial_ms: 20, max_ms: 50 };

#[derive(Clone, Debug)]
enum Step {
    Send {
        priority: u8,
        group: Option<u64>,
        delay_ms: Option<u64>,
        ttl_ms: Option<u64>,
        count: usize,
    },
    Receive {
        max: usize,
    },
    /// Which of the deliveries so far.
    Ack(prop::sample::Index),
    Nack(prop::sample::Index, Release),
    Extend(prop::sample::Index),
    Wait(u64),
    Tend,
    Purge,
}

fn step() -> impl Strategy<Value = Step> {
    let ttl = prop_oneof![3 => Just(None), 1 => (1_u64..200).prop_map(Some)];
    let delay = prop_oneof![3 => Just(None), 1 => (0_u64..100).prop_map(Some)];
    let group = prop_oneof![2 => Just(None), 2 => (1_u64..4).prop_map(Some)];
    let send = (0_u8..4, group, delay, ttl, 1_usize..4).prop_map(
        |(priority, group, delay_ms, ttl_ms, count)| Step::Send {
            priority,
            group,
            delay_ms,
            ttl_ms,
            count,
        },
    );
    let how = prop_oneof![
        Just(Release::Failed { delay_ms: None, reason: None }),
        (0_u64..80).prop_map(|delay| Release::Failed { delay_ms: Some(delay), reason: None }),
        (0_u64..80).prop_map(|delay_ms| Release::Free { delay_ms }),
    ];
    prop_oneof![
        4 => send,
        4 => (1_usize..5).prop_map(|max| Step::Receive { max }),
        3 => any::<prop::sample::Index>().prop_map(Step::Ack),
        2 => (any::<prop::sample::Index>(), how).prop_map(|(at, how)| Step::Nack(at, how)),
        1 => any::<prop::sample::Index>().prop_map(Step::Extend),
        3 => (1_u64..150).prop_map(Step::Wait),
        1 => Just(Step::Tend),
        1 => Just(Step::Purge),
    ]
}

/// What may be set differently from run to run.
#[derive(Clone, Copy, Debug)]
struct Settings {
    overflow: Overflow,
    max_in_flight: Option<u64>,
    delay_ms: u64,
}

fn settings() -> impl Strategy<Value = Settings> {
    let overflow = prop_oneof![Just(Overflow::Reject), Just(Overflow::DropOldest)];
    let most = prop_oneof![2 => Just(None), 1 => (1_u64..6).prop_map(Some)];
    let delay = prop_oneof![2 => Just(0_u64), 1 => 1_u64..100];
    (overflow, most, delay).prop_map(|(overflow, max_in_flight, delay_ms)| Settings {
        overflow,
        max_in_flight,
        delay_ms,
    })
}

/// One message, as simply as it can be put.
#[derive(Clone, Debug)]
struct Naive {
    id: u64,
    priority: u8,
    group: Option<u64>,
    due: u64,
    expires: u64,
    deliveries: u32,
    failed: u32,
    held_until: Option<u64>,
    doomed: bool,
}

struct Model {
    settings: Settings,
    messages: Vec<Naive>,
    next: u64,
    now: u64,
}

impl Model {
    /// Deadlines in the order they pass.
    fn advance(&mut self, now: u64) {
        self.now = now;
        for message in &mut self.messages {
            if message.held_until.is_some_and(|until| until <= now) {
                give_back(message, now, &Release::Failed { delay_ms: None, reason: None });
            }
            if message.held_until.is_none() && message.expires != 0 && message.expires <= now {
                message.doomed = true;
            }
        }
    }

    fn receive(&mut self, max: usize) -> Vec<(u64, u32)> {
        let mut taken = Vec::new();
        let held = self.messages.iter().filter(|message| message.held_until.is_some()).count();
        let most = self
            .settings
            .max_in_flight
            .map_or(max, |most| usize::try_from(most).unwrap().saturating_sub(held).min(max));
        while taken.len() < most {
            let first_of_group = |message: &Naive| {
                message.group.is_none()
                    || !self
                        .messages
                        .iter()
                        .any(|other| other.group == message.group && other.id < message.id)
            };
            let best = self
                .messages
                .iter()
                .filter(|message| !message.doomed && message.held_until.is_none())
                .filter(|message| message.due <= self.now && first_of_group(message))
                .max_by_key(|message| (message.priority, std::cmp::Reverse(message.id)))
                .map(|message| message.id);
            let Some(id) = best else { break };
            let now = self.now;
            let message = self.get(id).unwrap();
            message.held_until = Some(now + TIMEOUT);
            message.deliveries += 1;
            taken.push((id, message.deliveries));
        }
        taken
    }

    fn get(&mut self, id: u64) -> Option<&mut Naive> {
        self.messages.iter_mut().find(|message| message.id == id)
    }

    /// Whether so many fit; and what goes for them, if something may.
    fn admit(&mut self, count: usize, priority: u8) -> bool {
        let fits = |len: usize| len + count <= usize::try_from(CAPACITY).unwrap();
        let drops = self.settings.overflow == Overflow::DropOldest;
        let may_go = |message: &Naive| drops && message.priority <= priority;
        let stays = self.messages.iter().filter(|message| !may_go(message)).count();
        if !fits(self.messages.len()) && !fits(stays) {
            return false;
        }
        while !fits(self.messages.len()) {
            let oldest = self.messages.iter().filter(|message| may_go(message));
            let oldest = oldest.min_by_key(|message| (message.priority, message.id)).unwrap().id;
            self.messages.retain(|message| message.id != oldest);
        }
        true
    }

    /// What an ack of this delivery must answer.
    fn judge(&mut self, id: u64, delivery: u32) -> SettleReply {
        match self.get(id) {
            None => SettleReply::Unknown,
            Some(it) if it.held_until.is_some() && it.deliveries == delivery => {
                SettleReply::Settled
            }
            Some(_) => SettleReply::Late,
        }
    }
}

fn give_back(message: &mut Naive, now: u64, how: &Release) {
    message.held_until = None;
    let wait = match how {
        Release::Free { delay_ms } => *delay_ms,
        Release::Failed { delay_ms, .. } => {
            message.failed += 1;
            delay_ms.unwrap_or_else(|| BACKOFF.after(message.id, message.failed))
        }
    };
    let expired = message.expires != 0 && message.expires <= now;
    message.doomed = MAX_DELIVERIES <= message.failed || expired;
    message.due = now + wait;
}

struct Both {
    host: QueueHost,
    model: Model,
    deliveries: Vec<Receipt>,
}

impl Both {
    fn new(settings: Settings) -> Self {
        let mut host = QueueHost::new();
        let max_deliveries = Some(MAX_DELIVERIES);
        let policy = Policy { ack_timeout_ms: TIMEOUT, max_deliveries, backoff: BACKOFF };
        let Settings { overflow, max_in_flight, delay_ms } = settings;
        let config = QueueConfig {
            max_messages: CAPACITY,
            policy,
            overflow,
            max_in_flight,
            delay_ms,
            ..QueueConfig::default()
        };
        host.propose(&QueueCommand::Configure { version: 1, config });
        let model = Model { settings, messages: Vec::new(), next: 1, now: 0 };
        Self { host, model, deliveries: Vec::new() }
    }

    fn run(&mut self, step: &Step) {
        let now = self.host.now;
        self.model.advance(now);
        self.host.queue.advance(now);
        match step {
            Step::Send { priority, group, delay_ms, ttl_ms, count } => {
                let (priority, group, delay_ms, ttl_ms) = (*priority, *group, *delay_ms, *ttl_ms);
                let outgoing =
                    Outgoing { priority, group, delay_ms, ttl_ms, ..Outgoing::default() };
                self.send(&outgoing, *count);
            }
            Step::Receive { max } => {
                let receipts = self.host.receive(*max);
                let taken: Vec<_> =
                    receipts.iter().map(|it| (it.taken.id, it.taken.delivery)).collect();
                assert_eq!(taken, self.model.receive(*max));
                for receipt in &receipts {
                    assert_eq!(self.host.body(receipt), receipt.taken.id);
                }
                self.deliveries.extend(receipts);
            }
            Step::Ack(at) if !self.deliveries.is_empty() => {
                let id = self.host.ack_id(at.get(&self.deliveries));
                let expected = self.model.judge(id.message, id.delivery);
                assert_eq!(self.host.ack(&id), expected);
                if expected == SettleReply::Settled {
                    self.model.messages.retain(|message| message.id != id.message);
                }
            }
            Step::Nack(at, how) if !self.deliveries.is_empty() => {
                let id = self.host.ack_id(at.get(&self.deliveries));
                if self.model.judge(id.message, id.delivery) == SettleReply::Settled {
                    self.host.queue.release(MessageId(id.message), how.clone());
                    give_back(self.model.get(id.message).unwrap(), now, how);
                }
            }
            Step::Extend(at) if !self.deliveries.is_empty() => {
                let id = self.host.ack_id(at.get(&self.deliveries));
                if self.model.judge(id.message, id.delivery) == SettleReply::Settled {
                    self.host.queue.extend(MessageId(id.message), now + 300);
                    self.model.get(id.message).unwrap().held_until = Some(now + 300);
                }
            }
            Step::Ack(_) | Step::Nack(..) | Step::Extend(_) => (),
            // One at a time: the list does not order what happens at different moments.
            Step::Wait(ms) => {
                for _ in 0..*ms {
                    self.host.now += 1;
                    self.model.advance(self.host.now);
                    self.host.queue.advance(self.host.now);
                }
            }
            Step::Tend => {
                self.host.tend();
                self.model.messages.retain(|message| !message.doomed);
            }
            Step::Purge => {
                let removed = self.model.messages.drain(..).count() as u64;
                let reply = self.host.propose(&QueueCommand::Purge);
                assert_eq!(reply, QueueReply::Purged(removed));
            }
        }
        self.compare();
    }

    fn send(&mut self, outgoing: &Outgoing, count: usize) {
        let ids: Vec<u64> = (0..count as u64).map(|at| self.model.next + at).collect();
        let fits = self.model.admit(count, outgoing.priority);
        match self.host.send(&ids, outgoing) {
            QueueReply::Sent(replies) => {
                assert!(fits, "beyond its capacity");
                let stored: Vec<u64> = replies.iter().map(|reply| reply.id.0).collect();
                assert_eq!(stored, ids);
            }
            QueueReply::Refused(_) => {
                assert!(!fits, "refused though there is room");
                return;
            }
            other => panic!("a send answers {other:?}"),
        }
        let now = self.host.now;
        self.model.next += count as u64;
        self.model.messages.extend(ids.into_iter().map(|id| Naive {
            id,
            priority: outgoing.priority,
            group: outgoing.group,
            due: now + outgoing.delay_ms.unwrap_or(self.model.settings.delay_ms),
            expires: outgoing.ttl_ms.map_or(0, |ttl| now + ttl),
            deliveries: 0,
            failed: 0,
            held_until: None,
            doomed: false,
        }));
    }

    fn compare(&self) {
        let depth = self.host.queue.dispatcher().depth();
        let count = |what: fn(&Naive) -> bool| {
            self.model.messages.iter().filter(|message| what(message)).count() as u64
        };
        assert_eq!(self.host.queue.len(), self.model.messages.len() as u64);
        assert_eq!(depth.in_flight, count(|message| message.held_until.is_some()));
        assert_eq!(depth.doomed, count(|message| message.doomed));
        let waiting = count(|message| message.held_until.is_none() && !message.doomed);
        assert_eq!(depth.ready + depth.delayed, waiting);
        assert_eq!(self.host.queue.dispatcher().len(), self.model.messages.len());
        let index = |message: &Naive| self.host.queue.get(MessageId(message.id)).unwrap().index.0;
        let live: BTreeSet<u64> = self.model.messages.iter().map(index).collect();
        let retained = self.host.queue.retained().into_iter();
        let retained: Vec<u64> = retained.flat_map(|it| it.start().0..=it.end().0).collect();
        assert_eq!(retained, Vec::from_iter(live));
    }
}

#[test]
fn nothing_is_taken_before_the_limits_are_known() {
    let mut host = QueueHost::unconfigured();
    let refused = host.send(&[1], &Outgoing::default());
    assert_eq!(refused, QueueReply::Refused(Refused::Unconfigured));
    let config = QueueConfig { max_messages: 1, ..QueueConfig::default() };
    host.propose(&QueueCommand::Configure { version: 1, config });
    assert!(matches!(host.send(&[1], &Outgoing::default()), QueueReply::Sent(_)));
    let refused = host.send(&[2], &Outgoing::default());
    assert_eq!(refused, QueueReply::Refused(Refused::TooMany { len: 1, max: 1 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_queue_equals_a_naive_list(
        settings in settings(),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut both = Both::new(settings);
        for step in &steps {
            both.run(step);
        }
    }
}
