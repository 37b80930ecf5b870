//! The same log gives the same machine, from the start or from a snapshot at any point.

use bytes::Bytes;
use consensus::Index;
use messaging::config::{Overflow, Policy, QueueConfig, SubscriptionConfig};
use messaging::partition::{Partition, PartitionCommand};
use messaging::queue::{Outgoing, Queue, QueueCommand};
use messaging::subscription::Position;
use sim::Rng;

use crate::host::QueueHost;
use crate::partition_model::{PartitionHost, SUBSCRIPTION};

/// What both machines have in common here.
trait Machine {
    fn fresh() -> Self;
    fn apply(&mut self, at: usize, payload: &Bytes);
    fn encoded(&self) -> Vec<u8>;
    fn restored(snapshot: &[u8]) -> Self;
}

impl Machine for Queue {
    fn fresh() -> Self {
        Self::new()
    }
    fn apply(&mut self, at: usize, payload: &Bytes) {
        Self::apply(self, Index(at as u64 + 1), payload);
    }
    fn encoded(&self) -> Vec<u8> {
        self.snapshot()()
    }
    fn restored(snapshot: &[u8]) -> Self {
        let mut queue = Self::new();
        queue.restore(snapshot).unwrap();
        queue
    }
}

impl Machine for Partition {
    fn fresh() -> Self {
        Self::new()
    }
    fn apply(&mut self, at: usize, payload: &Bytes) {
        Self::apply(self, Index(at as u64 + 1), payload);
    }
    fn encoded(&self) -> Vec<u8> {
        self.snapshot()()
    }
    fn restored(snapshot: &[u8]) -> Self {
        let mut partition = Self::new();
        partition.restore(snapshot).unwrap();
        partition
    }
}

/// Replays `log` with a snapshot and restore after every entry, and compares with one that led.
fn every_prefix<M: Machine>(log: &[Bytes], leader: &M, seed: u64) {
    let mut plain = M::fresh();
    let mut through_snapshots = M::fresh();
    for (at, payload) in log.iter().enumerate() {
        plain.apply(at, payload);
        through_snapshots.apply(at, payload);
        assert_eq!(through_snapshots.encoded(), plain.encoded(), "seed {seed}, entry {at}");
        through_snapshots = M::restored(&through_snapshots.encoded());
    }
    assert!(plain.encoded() == leader.encoded(), "seed {seed}: leading changed what is replicated");
}

#[test]
fn a_queue_is_a_function_of_its_log() {
    for seed in sim::seeds(20) {
        let mut rng = Rng::new(seed);
        let mut host = QueueHost::new();
        let policy = Policy { ack_timeout_ms: 50, max_deliveries: Some(3), ..Policy::default() };
        let overflow = if rng.chance(1, 2) { Overflow::DropOldest } else { Overflow::Reject };
        let config = QueueConfig { max_messages: 30, policy, overflow, ..QueueConfig::default() };
        host.propose(&QueueCommand::Configure { version: 1, config });
        let mut receipts = Vec::new();
        for body in 0..120 {
            host.now += rng.range(0..20);
            match rng.range(0..6) {
                0 | 1 => {
                    let outgoing = Outgoing {
                        priority: u8::try_from(rng.range(0..10)).unwrap(),
                        group: rng.chance(1, 3).then(|| rng.range(0..3)),
                        ttl_ms: rng.chance(1, 4).then(|| rng.range(1..200)),
                        dedup_id: rng.chance(1, 4).then(|| rng.range(0..5).to_string()),
                        ..Outgoing::default()
                    };
                    host.send(&[body, body + 1_000], &outgoing);
                }
                2 | 3 => receipts.extend(host.receive(rng.index(4) + 1)),
                4 => {
                    if let Some(receipt) = rng.pick(&receipts) {
                        let id = host.ack_id(receipt);
                        host.ack(&id);
                    }
                }
                _ => host.tend(),
            }
        }
        every_prefix(&host.log.clone(), &host.queue, seed);
    }
}

#[test]
fn a_partition_is_a_function_of_its_log() {
    for seed in sim::seeds(20) {
        let mut rng = Rng::new(seed);
        let mut host = PartitionHost::new();
        host.subscribe(SubscriptionConfig::default(), Position::Earliest);
        let mut held = Vec::new();
        for _ in 0..120 {
            host.now += rng.range(0..3_000);
            match rng.range(0..6) {
                0 | 1 => {
                    let count = rng.index(3) + 1;
                    let key = rng.chance(1, 4).then(|| rng.range(0..4).to_string());
                    host.publish(count, key.as_deref());
                    let next = host.partition.next().0;
                    host.published.resize(usize::try_from(next).unwrap(), 0);
                }
                2 => held.extend(host.pull(rng.index(5) + 1, |_| unreachable!("no filter"))),
                3 => {
                    if let Some((offset, delivery)) = rng.pick(&held).copied() {
                        host.ack(offset, delivery);
                    }
                }
                4 => {
                    let mut leading = host.partition.subscription_mut(SUBSCRIPTION).unwrap();
                    if let Some(delivered) = leading.take_progress(99) {
                        let id = SUBSCRIPTION;
                        host.propose(&PartitionCommand::Delivered { id, delivered });
                    }
                }
                _ if rng.chance(1, 10) => {
                    let to = Position::Offset(rng.range(0..50));
                    host.propose(&PartitionCommand::Seek { id: SUBSCRIPTION, to });
                }
                _ => {
                    host.propose(&PartitionCommand::Trim);
                }
            }
        }
        every_prefix(&host.log.clone(), &host.partition, seed);
    }
}
