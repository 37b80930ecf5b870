//! A partition against a plain list of what was published.

use bytes::Bytes;
use consensus::Index;
use messaging::config::{Retention, SubscriptionConfig};
use messaging::dispatch::Release;
use messaging::dispatch::{NotLeading, Verdict};
use messaging::frame::{self, Decoded, Envelope, Records};
use messaging::ids::{Epoch, Offset, SubscriptionId};
use messaging::partition::{Partition, PartitionCommand, PartitionReply};
use messaging::subscription::{Fed, Position, Settle, SettleReply, Why};
use proptest::prelude::*;

pub(crate) const SUBSCRIPTION: SubscriptionId = SubscriptionId(1);

/// A partition over its log, with what it must hold.
pub(crate) struct PartitionHost {
    pub(crate) log: Vec<Bytes>,
    pub(crate) partition: Partition,
    pub(crate) published: Vec<u64>,
    pub(crate) now: u64,
}

impl PartitionHost {
    pub(crate) fn new() -> Self {
        let mut partition = Partition::new();
        partition.lead(Epoch(1));
        Self { log: Vec::new(), partition, published: Vec::new(), now: 1_000 }
    }

    pub(crate) fn propose(&mut self, command: &PartitionCommand) -> PartitionReply {
        self.append(frame::encode(self.now, command, &Records::default()))
    }

    pub(crate) fn publish(&mut self, count: usize, key: Option<&str>) -> PartitionReply {
        let mut records = Records::default();
        let first = self.published.len() as u64;
        for body in first..first + count as u64 {
            records.push(&Envelope::default(), body.to_string().as_bytes());
        }
        let sizes = records.sizes.clone();
        let idempotency_key = key.map(str::to_owned);
        let command = PartitionCommand::Publish { idempotency_key, sizes };
        self.append(frame::encode(self.now, &command, &records))
    }

    fn append(&mut self, payload: Bytes) -> PartitionReply {
        self.log.push(payload.clone());
        self.partition.apply(Index(self.log.len() as u64), &payload)
    }

    pub(crate) fn subscribe(&mut self, config: SubscriptionConfig, start: Position) {
        self.propose(&PartitionCommand::PutSubscription {
            id: SUBSCRIPTION,
            name: "s".parse().unwrap(),
            version: 1,
            config,
            start,
        });
    }

    /// Finds a message as the broker does: its span, then counting publishes in the log.
    pub(crate) fn read(&self, offset: u64) -> Option<u64> {
        let span = self.partition.spans().at(Offset(offset))?;
        let mut at = span.first.0;
        for index in span.first_index.0..=span.last_index.0 {
            let payload = &self.log[usize::try_from(index).unwrap() - 1];
            let Decoded { command, records: mut place, .. } = frame::decode(payload).unwrap();
            let PartitionCommand::Publish { sizes, .. } = command else { continue };
            for size in sizes {
                if at == offset {
                    let body = frame::record(payload, place, size)?.body;
                    return std::str::from_utf8(&body).ok()?.parse().ok();
                }
                at += 1;
                place += usize::try_from(size.total()).unwrap();
            }
        }
        None
    }

    pub(crate) fn ack(&mut self, offset: u64, delivery: u32) -> SettleReply {
        let generation = self.partition.subscription(SUBSCRIPTION).unwrap().generation();
        let items = vec![(offset, delivery)];
        let settle = Settle { generation, why: Why::Acked, items };
        match self.propose(&PartitionCommand::Settle { id: SUBSCRIPTION, settle }) {
            PartitionReply::Settled(replies) => replies[0],
            other => panic!("a settle answers {other:?}"),
        }
    }

    /// Pulls, looking at messages where the subscription asks for it.
    pub(crate) fn pull(&mut self, max: usize, look: impl Fn(u64) -> Fed) -> Vec<(u64, u32)> {
        let now = self.now;
        loop {
            let mut leading = self.partition.subscription_mut(SUBSCRIPTION).unwrap();
            let pulled = leading.pull(now, max, None).unwrap();
            match pulled.feed {
                Some(range) if pulled.taken.is_empty() => {
                    let found: Vec<_> = range.clone().map(&look).collect();
                    leading.feed(range, &found);
                }
                _ => return pulled.taken.iter().map(|taken| (taken.id, taken.delivery)).collect(),
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Publish { count: usize, key: Option<u8> },
    Wait(u64),
    Trim,
    Other,
}

fn step() -> impl Strategy<Value = Step> {
    let key = prop_oneof![3 => Just(None), 1 => (0_u8..3).prop_map(Some)];
    prop_oneof![
        6 => (1_usize..4, key).prop_map(|(count, key)| Step::Publish { count, key }),
        1 => (1_u64..2_000).prop_map(Step::Wait),
        1 => Just(Step::Trim),
        2 => Just(Step::Other),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Through repeats under a key, other commands in between, and retention.
    #[test]
    fn every_offset_leads_to_its_message(
        steps in proptest::collection::vec(step(), 1..120),
        bytes in prop_oneof![Just(None), (50_u64..2_000).prop_map(Some)],
        age_ms in prop_oneof![Just(None), (500_u64..5_000).prop_map(Some)],
    ) {
        let mut host = PartitionHost::new();
        let retention = Retention { bytes, age_ms };
        host.propose(&PartitionCommand::Configure { version: 1, retention });
        let mut results = std::collections::BTreeMap::new();
        for step in steps {
            match step {
                Step::Publish { count, key } => {
                    let key = key.map(|key| key.to_string());
                    let reply = host.publish(count, key.as_deref());
                    let PartitionReply::Published(published) = reply else { panic!("{reply:?}") };
                    if let Some(first) = key.as_ref().and_then(|key| results.get(key)) {
                        prop_assert_eq!(first, &published);
                        continue;
                    }
                    prop_assert_eq!(published.first.0, host.published.len() as u64);
                    let first = published.first.0;
                    host.published.extend(first..first + count as u64);
                    results.extend(key.map(|key| (key, published)));
                }
                Step::Wait(ms) => host.now += ms,
                Step::Trim => {
                    host.propose(&PartitionCommand::Trim);
                }
                Step::Other => {
                    host.propose(&PartitionCommand::DeleteSubscription { id: SUBSCRIPTION });
                }
            }
            let (earliest, next) = (host.partition.earliest().0, host.partition.next().0);
            prop_assert_eq!(next, host.published.len() as u64);
            for offset in earliest..next {
                prop_assert_eq!(host.read(offset), Some(offset));
            }
            if let Some(bytes) = bytes {
                prop_assert!(host.partition.spans().bytes() <= bytes);
            }
        }
    }

    /// Each message once, in order, however acks come in; the floor follows.
    #[test]
    fn a_subscription_delivers_every_message_until_it_is_settled(
        count in 1_usize..80,
        picks in proptest::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..120),
    ) {
        let mut host = PartitionHost::new();
        host.subscribe(SubscriptionConfig::default(), Position::Earliest);
        host.publish(count, None);
        let mut unsettled: Vec<u64> = (0..count as u64).collect();
        let mut held = host.pull(count, |_| unreachable!("nothing is filtered"));
        prop_assert_eq!(held.iter().map(|(at, _)| *at).collect::<Vec<_>>(), unsettled.clone());
        for (pick, ack) in picks {
            if held.is_empty() {
                break;
            }
            let at = pick.index(held.len());
            let (offset, delivery) = held[at];
            if ack {
                held.remove(at);
                prop_assert_eq!(host.ack(offset, delivery), SettleReply::Settled);
                prop_assert_eq!(host.ack(offset, delivery), SettleReply::Unknown);
                unsettled.retain(|other| *other != offset);
            } else {
                let mut leading = host.partition.subscription_mut(SUBSCRIPTION).unwrap();
                leading.release(offset, Release::Failed { delay_ms: None, reason: None });
                held[at] = host.pull(1, |_| unreachable!("nothing is filtered"))[0];
                prop_assert_eq!(held[at], (offset, delivery + 1));
                prop_assert_eq!(host.ack(offset, delivery), SettleReply::Settled);
                held.remove(at);
                unsettled.retain(|other| *other != offset);
            }
            let subscription = host.partition.subscription(SUBSCRIPTION).unwrap();
            prop_assert_eq!(subscription.lag(count as u64), unsettled.len() as u64);
            let floor = unsettled.first().copied().unwrap_or(count as u64);
            prop_assert_eq!(subscription.floor(), floor);
        }
    }
}

#[test]
fn a_filter_passes_over_and_a_key_goes_in_order() {
    let mut host = PartitionHost::new();
    let config = SubscriptionConfig { ordered_by_key: true, ..SubscriptionConfig::default() };
    host.subscribe(config, Position::Earliest);
    host.publish(9, None);
    // 0 1 2 are of one key, 3 4 5 of another, 6 7 8 are not wanted.
    let look = |offset| Fed { offset, wanted: offset < 6, group: Some(offset / 3) };
    let keys = |taken: Vec<(u64, u32)>| taken.into_iter().map(|(at, _)| at).collect::<Vec<_>>();
    assert_eq!(keys(host.pull(9, look)), [0, 3]);
    assert_eq!(host.ack(3, 1), SettleReply::Settled);
    assert_eq!(keys(host.pull(9, look)), [4]);
    assert_eq!(host.ack(0, 1), SettleReply::Settled);
    assert_eq!(keys(host.pull(9, look)), [1]);
    for offset in [1, 4, 2, 5] {
        host.pull(9, look);
        assert_eq!(host.ack(offset, 1), SettleReply::Settled);
    }
    let delivered =
        host.partition.subscription_mut(SUBSCRIPTION).unwrap().take_progress(99).unwrap();
    assert_eq!(delivered.passed, [(6, 8)]);
    host.propose(&PartitionCommand::Delivered { id: SUBSCRIPTION, delivered });
    assert_eq!(host.partition.subscription(SUBSCRIPTION).unwrap().floor(), 9);
}

#[test]
fn a_seek_makes_old_deliveries_late() {
    let mut host = PartitionHost::new();
    host.subscribe(SubscriptionConfig::default(), Position::Earliest);
    host.publish(3, None);
    host.pull(3, |_| unreachable!("nothing is filtered"));
    let before = host.partition.subscription(SUBSCRIPTION).unwrap().generation();
    host.propose(&PartitionCommand::Seek { id: SUBSCRIPTION, to: Position::Offset(1) });
    let settle = Settle { generation: before, why: Why::Acked, items: vec![(1, 1)] };
    let reply = host.propose(&PartitionCommand::Settle { id: SUBSCRIPTION, settle });
    assert_eq!(reply, PartitionReply::Settled(vec![SettleReply::Late]));
    let again = host.pull(9, |_| unreachable!("nothing is filtered"));
    assert_eq!(again, [(1, 1), (2, 1)]);
}

#[test]
fn a_backlog_that_is_not_settled_stays_bounded() {
    use messaging::subscription::MAX_OUTSTANDING;
    let mut host = PartitionHost::new();
    host.subscribe(SubscriptionConfig::default(), Position::Earliest);
    for _ in 0..12 {
        host.publish(1_000, None);
    }
    let taken = host.pull(12_000, |_| unreachable!("nothing is filtered"));
    assert_eq!(taken.len(), MAX_OUTSTANDING);
    assert_eq!(host.ack(5, 1), SettleReply::Settled);
    assert_eq!(host.pull(9, |_| unreachable!("nothing is filtered")).len(), 1);
}

#[test]
fn who_leads_no_more_forgets_what_it_knew_alone_and_hands_out_nothing() {
    let mut host = PartitionHost::new();
    host.subscribe(SubscriptionConfig::default(), Position::Earliest);
    host.publish(4, None);
    host.pull(2, |_| unreachable!("nothing is filtered"));
    let mut leading = host.partition.subscription_mut(SUBSCRIPTION).unwrap();
    let delivered = leading.take_progress(9).unwrap();
    host.propose(&PartitionCommand::Delivered { id: SUBSCRIPTION, delivered });
    host.pull(1, |_| unreachable!("nothing is filtered"));
    host.partition.follow();
    let mut leading = host.partition.subscription_mut(SUBSCRIPTION).unwrap();
    assert_eq!(leading.pull(host.now, 9, None), Err(NotLeading));
    assert_eq!(leading.take_progress(9), None);
    assert_eq!(leading.verdict(0, 0, 1, Epoch(1)), Err(NotLeading));
    host.partition.lead(Epoch(2));
    let again = host.pull(9, |_| unreachable!("nothing is filtered"));
    assert_eq!(again, [(2, 1), (3, 1)], "what was reported stays with its holders");
    let leading = host.partition.subscription_mut(SUBSCRIPTION).unwrap();
    assert_eq!(leading.verdict(0, 0, 1, Epoch(1)), Ok(Verdict::Held));
}
