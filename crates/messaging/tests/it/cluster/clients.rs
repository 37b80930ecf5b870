//! Who sends, publishes, receives, pulls and settles, and what each of them was told.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use consensus::{GroupId, Term};
use messaging::catalog::{CATALOG, CatalogCommand, Copies, Kind};
use messaging::config::{Backoff, Policy, QueueConfig, Retention, Start, SubscriptionConfig};
use messaging::dispatch::{Dispatcher, Release, Taken, Verdict};
use messaging::frame::{self, Envelope, Records};
use messaging::ids::{Epoch, MessageId, SubscriptionId};
use messaging::partition::{PartitionCommand, Producer};
use messaging::queue::{Outgoing, QueueCommand, Why};
use messaging::subscription::{self, Fed, Settle};

use super::host::{Outcome, Tag, Then};
use super::machine::{Machine, body_of, published, stored};
use super::world::{Check, Event, World};

pub(super) const CAPACITY: u64 = 30;
pub(super) const MAX_DELIVERIES: u32 = 3;
const HOLD_MS: u64 = 400;
const KEYS: u64 = 3;
const MAX_BODIES: u64 = 900;
/// After this long a client knows nothing of its request.
const PATIENCE_MS: u64 = 3_000;

/// A queue, or a subscription in one partition.
pub(super) type Line = (GroupId, u64);

/// A delivery, as its consumer has it.
#[derive(Clone, Debug)]
pub(super) struct Handed {
    pub(super) line: Line,
    pub(super) generation: u32,
    pub(super) taken: Taken,
    pub(super) epoch: Epoch,
    pub(super) body: u64,
    /// Messages of one go one at a time.
    pub(super) order: Option<u64>,
    /// The leader's clock then, and how far its machine was.
    pub(super) wall: u64,
    pub(super) applied: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Ack,
    Fail,
    Free,
    Extend,
}

#[derive(Clone, Debug)]
pub(super) enum Ask {
    Put,
    /// To a queue; repeated until it is known if it has a dedup id.
    Send {
        group: GroupId,
        body: u64,
        dedup: bool,
        order: Option<u64>,
    },
    Publish {
        group: GroupId,
        body: u64,
        producer: Option<Producer>,
        key: Option<String>,
    },
    Receive {
        lost: bool,
    },
    Settle {
        handed: Handed,
        act: Act,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Op {
    begun: u64,
    pub(super) ask: Ask,
}

/// One that numbers its publishes, one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbered {
    pub(super) epoch: u64,
    pub(super) seq: u64,
    /// Not known yet whether it was taken.
    pub(super) open: Option<Ask>,
}

#[derive(Default)]
pub(super) struct Clients {
    next_op: u64,
    next_body: u64,
    pub(super) ops: BTreeMap<u64, Op>,
    held: Vec<Handed>,
    pub(super) repeats: Vec<Ask>,
    pub(super) numbered: BTreeMap<GroupId, Numbered>,
    /// Bodies that somebody tried to send, and where.
    pub(super) tried: BTreeMap<u64, GroupId>,
    /// Deliveries whose ack somebody tried.
    pub(super) acked: BTreeSet<(Line, u64)>,
    pub(super) is_draining: bool,
    pub(super) done: Done,
}

/// What clients were told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    pub(super) sends: u64,
    pub(super) publishes: u64,
    pub(super) deliveries: u64,
    pub(super) again: u64,
    pub(super) acks: u64,
    pub(super) refused: u64,
    pub(super) unknown: u64,
}

impl Clients {
    fn begin(&mut self, now: u64, ask: Ask) -> u64 {
        self.next_op += 1;
        self.ops.insert(self.next_op, Op { begun: now, ask });
        self.next_op
    }

    /// Nothing is under way, and nothing has to be repeated.
    pub(super) fn is_quiet(&self) -> bool {
        let sends = |op: &Op| matches!(op.ask, Ask::Send { .. } | Ask::Publish { .. });
        self.repeats.is_empty()
            && self.numbered.values().all(|one| one.open.is_none())
            && !self.ops.values().any(sends)
    }
}

fn policy() -> Policy {
    let backoff = Backoff::Doubling { initial_ms: 50, max_ms: 200 };
    Policy { ack_timeout_ms: HOLD_MS, max_deliveries: Some(MAX_DELIVERIES), backoff }
}

fn put_queue(name: &str, config: QueueConfig) -> CatalogCommand {
    let name = name.parse().unwrap();
    CatalogCommand::PutQueue { name, config, copies: Copies { asked: Some(3), default: 3 } }
}

/// What there should be.
fn wanted() -> Vec<CatalogCommand> {
    let dead_letter = Some("dead".parse().unwrap());
    let queue = QueueConfig { policy: policy(), ..QueueConfig::default() };
    let dead_policy = Policy { max_deliveries: None, ..policy() };
    let subscription = SubscriptionConfig {
        policy: policy(),
        dead_letter: dead_letter.clone(),
        ..SubscriptionConfig::default()
    };
    let ordered = SubscriptionConfig { ordered_by_key: true, ..subscription.clone() };
    let topic: messaging::ids::Name = "t".parse().unwrap();
    let put = |name: &str, config| CatalogCommand::PutSubscription {
        topic: topic.clone(),
        name: name.parse().unwrap(),
        config,
        start: Start::Earliest,
        push: None,
    };
    vec![
        put_queue("dead", QueueConfig { policy: dead_policy, ..queue.clone() }),
        put_queue(
            "small",
            QueueConfig {
                max_messages: CAPACITY,
                dead_letter: dead_letter.clone(),
                ..queue.clone()
            },
        ),
        put_queue("fifo", QueueConfig { fifo: true, dead_letter, ..queue }),
        CatalogCommand::PutTopic {
            name: topic.clone(),
            partitions: Some(2),
            retention: Retention::default(),
            copies: Copies { asked: Some(3), default: 3 },
        },
        put("plain", subscription),
        put("ordered", ordered),
    ]
}

impl World {
    /// Somebody does something.
    pub(super) fn client(&mut self) -> Check {
        let gap = if self.is_calm { 5 } else { self.rng.range(1..2 * self.plan.client_gap_ms + 1) };
        self.events.add(self.now + gap, Event::Client);
        let up: Vec<usize> = (0..self.nodes.len())
            .filter(|node| self.nodes[*node].up.is_some() && self.is_awake(*node))
            .collect();
        let Some(node) = self.rng.pick(&up).copied() else { return Ok(()) };
        let Some(catalog) = self.catalog(node) else { return Ok(()) };
        let groups: Vec<_> =
            catalog.groups().iter().map(|(id, at)| (*id, at.kind.clone())).collect();
        let subscriptions: Vec<_> = catalog
            .topics()
            .values()
            .flat_map(|topic| topic.subscriptions.values().map(|one| one.id.0))
            .collect();
        if groups.len() < 5 || subscriptions.len() < 2 {
            let (enough, wanted) = (catalog.brokers().len() == self.nodes.len(), wanted());
            let command = &wanted[self.rng.index(wanted.len())];
            if !enough {
                return Ok(());
            }
            let payload = frame::encode(self.wall(node), command, &Records::default());
            let op = self.clients.begin(self.now, Ask::Put);
            self.clients.ops.remove(&op);
            return self
                .propose(node, CATALOG, payload, Tag::Client(op))
                .and_then(|()| self.settle(node));
        }
        let (group, kind) = self.rng.pick(&groups).cloned().expect("there are groups");
        let draining = self.clients.is_draining;
        match self.rng.range(0..10) {
            0..4 if !draining && self.clients.next_body < MAX_BODIES => {
                self.produce(node, group, &kind)?;
            }
            0 | 1 => self.repeat(node)?,
            2..7 => self.consume(group, &kind, &subscriptions)?,
            _ => self.settle_one()?,
        }
        self.settle(node)
    }

    pub(super) fn is_awake(&self, node: usize) -> bool {
        self.nodes[node].paused_until <= self.now
    }

    fn produce(&mut self, node: usize, group: GroupId, kind: &Kind) -> Check {
        if self.rng.chance(1, 4) {
            return self.repeat(node);
        }
        self.clients.next_body += 1;
        let body = self.clients.next_body;
        match kind {
            Kind::Streams { .. } => Ok(()),
            Kind::Queue { name } if name.as_str() == "dead" => Ok(()),
            Kind::Queue { name } => {
                let order = (name.as_str() == "fifo").then(|| self.rng.range(0..KEYS));
                let dedup = self.rng.chance(1, 2);
                self.request(node, Ask::Send { group, body, dedup, order })
            }
            Kind::Partition { .. } => {
                let key = self.rng.chance(2, 3).then(|| format!("k{}", self.rng.range(0..KEYS)));
                if self.rng.chance(1, 2) {
                    let producer = None;
                    return self.request(node, Ask::Publish { group, body, producer, key });
                }
                let renew = self.rng.chance(1, 20);
                let one = self.clients.numbered.entry(group).or_default();
                if renew {
                    *one = Numbered { epoch: one.epoch + 1, ..Numbered::default() };
                }
                if one.open.is_some() {
                    return Ok(());
                }
                let id = format!("p{group}");
                let producer = Some(Producer { id, epoch: one.epoch, seq: one.seq });
                let ask = Ask::Publish { group, body, producer, key };
                one.open = Some(ask.clone());
                self.request(node, ask)
            }
        }
    }

    /// What is not known to be done is done again.
    fn repeat(&mut self, node: usize) -> Check {
        if !self.clients.repeats.is_empty() {
            let at = self.rng.index(self.clients.repeats.len());
            let ask = self.clients.repeats.swap_remove(at);
            return self.request(node, ask);
        }
        let open: Vec<_> =
            self.clients.numbered.values().filter_map(|one| one.open.clone()).collect();
        match self.rng.pick(&open).cloned() {
            Some(ask) => self.request(node, ask),
            None => Ok(()),
        }
    }

    fn request(&mut self, node: usize, ask: Ask) -> Check {
        let wall = self.wall(node);
        let mut records = Records::default();
        let (group, payload) = match &ask {
            Ask::Send { group, body, dedup, order } => {
                self.clients.tried.insert(*body, *group);
                records.push(&Envelope::default(), body.to_string().as_bytes());
                let message = Outgoing {
                    size: records.sizes[0],
                    priority: (body % 3) as u8,
                    dedup_id: dedup.then(|| body.to_string()),
                    group: *order,
                    ..Outgoing::default()
                };
                let messages = vec![message];
                let command = QueueCommand::Send { idempotency_key: None, messages };
                (*group, frame::encode(wall, &command, &records))
            }
            Ask::Publish { group, body, producer, key } => {
                self.clients.tried.insert(*body, *group);
                let envelope = Envelope { key: key.clone(), ..Envelope::default() };
                records.push(&envelope, body.to_string().as_bytes());
                let sizes = records.sizes.clone();
                let command = match producer.clone() {
                    Some(producer) => PartitionCommand::PublishAs { producer, sizes },
                    None => PartitionCommand::Publish { idempotency_key: None, sizes },
                };
                (*group, frame::encode(wall, &command, &records))
            }
            Ask::Put | Ask::Receive { .. } | Ask::Settle { .. } => return Ok(()),
        };
        let op = self.clients.begin(self.now, ask);
        self.events.add(self.now + PATIENCE_MS, Event::Timeout(op));
        self.propose(node, group, payload, Tag::Client(op))
    }

    pub(super) fn timeout(&mut self, op: u64) -> Check {
        self.answer(op, Outcome::Unknown)
    }

    /// Somebody who believes that it leads is asked.
    fn leader_for(&mut self, group: GroupId) -> Option<(usize, Term)> {
        let led = (0..self.nodes.len()).filter(|node| self.is_awake(*node));
        let led: Vec<_> = led.filter_map(|node| Some((node, self.led(node, group)?))).collect();
        self.rng.pick(&led).copied()
    }

    fn consume(&mut self, group: GroupId, kind: &Kind, subscriptions: &[u64]) -> Check {
        let Some((node, term)) = self.leader_for(group) else { return Ok(()) };
        let lost = !self.is_calm && self.rng.chance(1, 15);
        let op = self.clients.begin(self.now, Ask::Receive { lost });
        self.events.add(self.now + PATIENCE_MS, Event::Timeout(op));
        let handed = match kind {
            Kind::Streams { .. } => return Ok(()),
            Kind::Queue { .. } => self.take_jobs(node, group),
            Kind::Partition { .. } => {
                let id = subscriptions[self.rng.index(subscriptions.len())];
                self.take_messages(node, group, SubscriptionId(id))
            }
        };
        let handed = match handed {
            // It is being filled, and its host has not seen yet that another leads.
            Err(_) if self.leads(node, group) != Some(term) => {
                return self.answer(op, Outcome::NotDone);
            }
            handed => handed?,
        };
        for one in &handed {
            self.log.took(one);
        }
        let then = Then::Deliver { op, term, handed };
        match self.bug == super::Bug::NoBarrier {
            true => match then {
                Then::Deliver { handed, .. } => self.hand_over(node, (group, op), handed)?,
                _ => unreachable!("it was just made"),
            },
            false => self.read(node, group, then),
        }
        self.settle(node)
    }

    fn take_jobs(&mut self, node: usize, group: GroupId) -> Result<Vec<Handed>, String> {
        let (wall, max) = (self.wall(node), 1 + self.rng.index(3));
        let at = &mut self.nodes[node];
        let copy = at.up.as_mut().expect("it leads").copies.get_mut(&group).expect("it leads");
        let Machine::Queue(queue) = &mut copy.machine else { return Ok(Vec::new()) };
        let Ok(received) = queue.receive(wall, max, None) else { return Ok(Vec::new()) };
        let epoch = received.epoch;
        let handed = received.receipts.into_iter().map(|receipt| {
            let record = stored(&at.disks[&group], &receipt.stored).ok_or_else(|| {
                format!("{} lacks message {} of {group}", at.id, receipt.taken.id)
            })?;
            Ok(Handed {
                line: (group, 0),
                generation: 0,
                taken: receipt.taken,
                epoch,
                body: body_of(&record),
                order: receipt.stored.group,
                wall,
                applied: copy.applied.0,
            })
        });
        handed.collect()
    }

    fn take_messages(
        &mut self,
        node: usize,
        group: GroupId,
        id: SubscriptionId,
    ) -> Result<Vec<Handed>, String> {
        let (wall, max) = (self.wall(node), 1 + self.rng.index(3));
        let at = &mut self.nodes[node];
        let (disk, name) = (&at.disks[&group], at.id);
        let copy = at.up.as_mut().expect("it leads").copies.get_mut(&group).expect("it leads");
        let Machine::Partition(partition) = &mut copy.machine else { return Ok(Vec::new()) };
        let read = |partition: &_, offset| {
            published(disk, partition, offset)
                .ok_or_else(|| format!("{name} lacks offset {offset} of {group}"))
        };
        let hash = |key: &String| messaging::ids::stable_hash(key.as_bytes());
        let Some(mut leading) = partition.subscription_mut(id) else { return Ok(Vec::new()) };
        let Ok(mut pulled) = leading.pull(wall, max, None) else { return Ok(Vec::new()) };
        if let Some(range) = pulled.feed.clone() {
            let mut found = Vec::new();
            for offset in range.clone() {
                let group = read(partition, offset)?.envelope.key.as_ref().map(hash);
                found.push(Fed { offset, wanted: true, group });
            }
            let mut leading = partition.subscription_mut(id).expect("it was just there");
            leading.feed(range, &found);
            let more = leading.pull(wall, max - pulled.taken.len(), None).expect("it leads");
            pulled.taken.extend(more.taken);
        }
        let subscription = partition.subscription(id).expect("it was just there");
        let (generation, ordered) =
            (subscription.generation(), subscription.config().ordered_by_key);
        let handed = pulled.taken.into_iter().map(|taken| {
            let record = read(partition, taken.id)?;
            Ok(Handed {
                line: (group, id.0),
                generation,
                taken,
                epoch: pulled.epoch,
                body: body_of(&record),
                order: record.envelope.key.as_ref().filter(|_| ordered).map(hash),
                wall,
                applied: copy.applied.0,
            })
        });
        handed.collect()
    }

    /// The consumer gets them, unless it has left meanwhile.
    pub(super) fn hand_over(
        &mut self,
        node: usize,
        (group, op): (GroupId, u64),
        handed: Vec<Handed>,
    ) -> Check {
        let ask = self.clients.ops.remove(&op);
        let Some(Op { begun, ask: Ask::Receive { lost: false } }) = ask else {
            self.take_back(node, group, &handed);
            return Ok(());
        };
        for one in handed {
            self.clients.done.deliveries += 1;
            self.clients.done.again += u64::from(1 < one.taken.delivery);
            self.log.delivered(begun, &one, &self.clients)?;
            self.clients.held.push(one);
        }
        Ok(())
    }

    /// What did not reach its consumer goes back, where it is still known.
    pub(super) fn take_back(&mut self, node: usize, group: GroupId, handed: &[Handed]) {
        let term = self.led(node, group);
        for one in handed {
            if term != Some(Term(one.epoch.0)) {
                continue;
            }
            let Some(copy) = self.copy(node, group) else { return };
            // What was held too long meanwhile has failed.
            let holds = |dispatcher: &Dispatcher| {
                let held = dispatcher.held(one.taken.id);
                held.is_some_and(|held| held.delivery == one.taken.delivery)
            };
            let is_held = match &mut copy.machine {
                Machine::Queue(queue) => {
                    let is_held = holds(queue.dispatcher());
                    queue.untake(&[one.taken]);
                    is_held
                }
                Machine::Partition(partition) => {
                    let id = SubscriptionId(one.line.1);
                    let Some(mut leading) = partition.subscription_mut(id) else { return };
                    let is_held = holds(leading.get().dispatcher());
                    leading.untake(&[one.taken]);
                    is_held
                }
                Machine::Catalog(_) => false,
            };
            if is_held {
                self.log.took_back(one);
            }
        }
    }

    fn settle_one(&mut self) -> Check {
        if self.clients.held.is_empty() {
            return Ok(());
        }
        let at = self.rng.index(self.clients.held.len());
        // Some do so twice, and some late.
        let handed = match self.rng.chance(1, 6) && !self.is_calm {
            true => self.clients.held[at].clone(),
            false => self.clients.held.swap_remove(at),
        };
        let act = match self.rng.range(0..12) {
            _ if self.clients.is_draining => Act::Ack,
            0..7 => Act::Ack,
            7..9 => Act::Fail,
            9 => Act::Free,
            10 => Act::Extend,
            _ => return Ok(()),
        };
        let (group, _) = handed.line;
        let Some((node, term)) = self.leader_for(group) else { return Ok(()) };
        let op =
            self.clients.begin(self.now, Ask::Settle { handed: handed.clone(), act: act.clone() });
        self.events.add(self.now + PATIENCE_MS, Event::Timeout(op));
        self.log.gives(&handed, &act);
        let wall = self.wall(node);
        let copy = self.copy(node, group).expect("it leads");
        let verdict = judge(&mut copy.machine, &handed, &act, wall);
        if verdict != Some(Verdict::Held) {
            return self.answer(op, Outcome::NotDone).and_then(|()| self.settle(node));
        }
        match act {
            Act::Ack => {
                self.clients.acked.insert((handed.line, handed.taken.id));
                let payload = acked(wall, &handed);
                self.place_later(node, (group, term), payload, Tag::Client(op));
            }
            Act::Extend => {
                self.log.extended(&handed, wall + HOLD_MS);
                self.clients.held.push(handed);
                self.clients.ops.remove(&op);
            }
            Act::Free => {
                self.log.took_back(&handed);
                self.clients.ops.remove(&op);
            }
            Act::Fail => drop(self.clients.ops.remove(&op)),
        }
        self.settle(node)
    }
}

fn judge(machine: &mut Machine, handed: &Handed, act: &Act, wall: u64) -> Option<Verdict> {
    let Handed { line: (_, line), generation, taken, epoch, .. } = handed;
    let how = match act {
        Act::Free => Release::Free { delay_ms: 20 },
        _ => Release::Failed { delay_ms: None, reason: None },
    };
    match machine {
        Machine::Queue(queue) => {
            queue.advance(wall);
            let id = MessageId(taken.id);
            let verdict = queue.verdict(id, taken.delivery, *epoch).ok()?;
            match act {
                _ if verdict != Verdict::Held => (),
                Act::Ack => queue.hold_for_ack(id, wall + 30_000),
                Act::Fail | Act::Free => queue.release(id, how),
                Act::Extend => queue.extend(id, wall + HOLD_MS),
            }
            Some(verdict)
        }
        Machine::Partition(partition) => {
            let mut leading = partition.subscription_mut(SubscriptionId(*line))?;
            leading.advance(wall);
            let verdict = leading.verdict(*generation, taken.id, taken.delivery, *epoch).ok()?;
            match act {
                _ if verdict != Verdict::Held => (),
                Act::Ack => leading.hold_for_ack(taken.id, wall + 30_000),
                Act::Fail | Act::Free => leading.release(taken.id, how),
                Act::Extend => leading.extend(taken.id, wall + HOLD_MS),
            }
            Some(verdict)
        }
        Machine::Catalog(_) => None,
    }
}

fn acked(wall: u64, handed: &Handed) -> Bytes {
    let items = vec![(handed.taken.id, handed.taken.delivery)];
    match handed.line.1 {
        0 => {
            let command = QueueCommand::Settle { why: Why::Acked, items };
            frame::encode(wall, &command, &Records::default())
        }
        id => {
            let why = subscription::Why::Acked;
            let settle = Settle { generation: handed.generation, why, items };
            let command = PartitionCommand::Settle { id: SubscriptionId(id), settle };
            frame::encode(wall, &command, &Records::default())
        }
    }
}
