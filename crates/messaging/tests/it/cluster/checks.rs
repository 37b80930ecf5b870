//! What must hold of everything that was committed, and of everything that clients were told.

use std::collections::{BTreeMap, BTreeSet};

use consensus::{Entry, EntryKind, GroupId, Index};
use messaging::dispatch::Progress;
use messaging::frame::{self, Decoded};
use messaging::ids::stable_hash;
use messaging::partition::{PartitionCommand, PartitionReply};
use messaging::queue::{QueueCommand, QueueReply, Why};
use messaging::subscription::{self, SettleReply};

use super::clients::{Act, CAPACITY, Clients, Handed, Line, MAX_DELIVERIES};
use super::machine::{Reply, bodies};
use super::world::Check;

macro_rules! ensure {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err(format!($($text)+));
        }
    };
}

/// A delivery that its consumer may still believe in.
#[derive(Clone, Copy, Debug)]
struct Holder {
    epoch: u64,
    delivery: u32,
    /// On the clock of the leader of that epoch.
    until: u64,
}

/// One line of messages: a queue, or a subscription in one partition.
#[derive(Default)]
struct LineLog {
    /// Settled in the log.
    settled: BTreeSet<u64>,
    /// An ack was answered, and when.
    acked: BTreeMap<u64, u64>,
    holders: BTreeMap<u64, Vec<Holder>>,
    /// What the log says of deliveries: newest, with where it says so.
    reported: BTreeMap<u64, (u64, Progress)>,
    /// Deliveries that were handed out and not given back untried.
    tries: BTreeMap<u64, u32>,
}

/// What is committed of one group, entry by entry.
#[derive(Default)]
struct GroupLog {
    /// Hashes of entries and replies.
    seen: Vec<u64>,
    /// Bodies by id or offset, and the order that they are in.
    stored: BTreeMap<u64, u64>,
    orders: BTreeMap<u64, u64>,
    /// The other way round.
    ids: BTreeMap<u64, u64>,
    epoch: u64,
    seq: Option<u64>,
}

/// Everything that was committed, as whoever applied it first found it, and what clients know.
#[derive(Default)]
pub(super) struct Log {
    groups: BTreeMap<GroupId, GroupLog>,
    lines: BTreeMap<Line, LineLog>,
    denied: BTreeSet<u64>,
    /// Told to be done by a planted bug.
    believed: Vec<(GroupId, u64)>,
    pub(super) dead: Option<GroupId>,
    pub(super) small: Option<GroupId>,
}

impl Log {
    /// A node has applied an entry.
    pub(super) fn observe(
        &mut self,
        group: GroupId,
        entry: &Entry,
        reply: &Reply,
        clients: &Clients,
    ) -> Check {
        let of = self.groups.entry(group).or_default();
        let mut text = format!("{} {:?} {reply:?}", entry.term, entry.kind).into_bytes();
        text.extend_from_slice(&entry.payload);
        let (hash, at) = (stable_hash(&text), entry.index.0 as usize - 1);
        if let Some(known) = of.seen.get(at) {
            ensure!(*known == hash, "{group}/{} is applied differently", entry.index);
            return Ok(());
        }
        ensure!(of.seen.len() == at, "{group}/{} is applied before others", entry.index);
        of.seen.push(hash);
        if entry.kind != EntryKind::Command {
            return Ok(());
        }
        match reply {
            Reply::Queue(reply) => self.queue(group, entry, reply, clients),
            Reply::Partition(reply) => self.partition(group, entry, reply, clients),
            Reply::Catalog(_) | Reply::Nothing => Ok(()),
        }
    }

    fn queue(
        &mut self,
        group: GroupId,
        entry: &Entry,
        reply: &QueueReply,
        clients: &Clients,
    ) -> Check {
        let decoded = frame::decode(&entry.payload).map_err(|error| error.to_string())?;
        let Decoded { command, records, .. } = decoded;
        match (command, reply) {
            (QueueCommand::Send { messages, .. }, QueueReply::Sent(replies)) => {
                let sizes: Vec<_> = messages.iter().map(|message| message.size).collect();
                let all = bodies(&entry.payload, &sizes, records);
                for ((body, reply), message) in all.into_iter().zip(replies).zip(&messages) {
                    if !reply.duplicate {
                        let order = message.group;
                        self.store(
                            group,
                            (reply.id.0, body, order),
                            message.dead_lettered,
                            clients,
                        )?;
                    }
                }
                let line = self.lines.entry((group, 0)).or_default();
                let len = self.groups[&group].stored.len() - line.settled.len();
                let is_full = self.small == Some(group) && CAPACITY < len as u64;
                ensure!(!is_full, "{group} holds {len}, beyond its capacity");
            }
            (QueueCommand::Delivered { progress }, _) => {
                self.delivered_in(group, entry.index, 0, &progress);
            }
            (QueueCommand::Settle { why, items }, QueueReply::Settled(replies)) => {
                for ((id, _), _) in
                    items.iter().zip(replies).filter(|(_, reply)| **reply == SettleReply::Settled)
                {
                    let why = if why == Why::Acked { Some(()) } else { None };
                    self.settle((group, 0), *id, why.is_some(), clients)?;
                }
            }
            _ => (),
        }
        Ok(())
    }

    fn partition(
        &mut self,
        group: GroupId,
        entry: &Entry,
        reply: &PartitionReply,
        clients: &Clients,
    ) -> Check {
        let decoded = frame::decode(&entry.payload).map_err(|error| error.to_string())?;
        let Decoded { command, records, .. } = decoded;
        match (command, reply) {
            (PartitionCommand::Publish { sizes, .. }, PartitionReply::Published(published)) => {
                let all = bodies(&entry.payload, &sizes, records);
                self.append(group, (published.first.0, entry, records), (&all, &sizes), clients)?;
            }
            (
                PartitionCommand::PublishAs { producer, sizes },
                PartitionReply::Published(published),
            ) => {
                let of = self.groups.get_mut(&group).expect("it was just made");
                let expected = match of.epoch == producer.epoch {
                    true => of.seq.map_or(0, |seq| seq + 1),
                    false => 0,
                };
                let is_next = of.epoch <= producer.epoch && producer.seq == expected;
                ensure!(is_next, "{group} takes {producer:?}, expected was {expected}");
                (of.epoch, of.seq) = (producer.epoch, Some(producer.seq));
                let all = bodies(&entry.payload, &sizes, records);
                self.append(group, (published.first.0, entry, records), (&all, &sizes), clients)?;
            }
            (PartitionCommand::Delivered { id, delivered }, _) => {
                self.delivered_in(group, entry.index, id.0, &delivered.progress);
            }
            (PartitionCommand::Settle { id, settle }, PartitionReply::Settled(replies)) => {
                for ((offset, _), _) in settle
                    .items
                    .iter()
                    .zip(replies)
                    .filter(|(_, reply)| **reply == SettleReply::Settled)
                {
                    let is_ack = settle.why == subscription::Why::Acked;
                    self.settle((group, id.0), *offset, is_ack, clients)?;
                }
            }
            _ => (),
        }
        Ok(())
    }

    fn append(
        &mut self,
        group: GroupId,
        (first, entry, mut at): (u64, &Entry, usize),
        (all, sizes): (&[u64], &[frame::RecordSize]),
        clients: &Clients,
    ) -> Check {
        for ((offset, body), size) in (first..).zip(all).zip(sizes) {
            let record = frame::record(&entry.payload, at, *size);
            at += usize::try_from(size.total()).expect("it is small");
            let key = record.and_then(|record| record.envelope.key);
            let order = key.map(|key| stable_hash(key.as_bytes()));
            self.store(group, (offset, *body, order), false, clients)?;
        }
        Ok(())
    }

    fn store(
        &mut self,
        group: GroupId,
        (id, body, order): (u64, u64, Option<u64>),
        is_letter: bool,
        clients: &Clients,
    ) -> Check {
        let tried = clients.tried.get(&body);
        ensure!(is_letter || tried == Some(&group), "{group} stores {body}, which nobody sent");
        ensure!(is_letter || !self.denied.contains(&body), "{body} is stored, and was denied");
        let of = self.groups.entry(group).or_default();
        let letters = self.dead == Some(group);
        // What two subscriptions give up is there for each of them.
        let is_new = of.ids.insert(body, id).is_none() || letters;
        ensure!(is_new, "{body} is stored twice in {group}");
        let is_free = of.stored.insert(id, body).is_none();
        ensure!(is_free, "id {id} is given out twice in {group}");
        of.orders.extend(order.map(|order| (id, order)));
        Ok(())
    }

    fn delivered_in(
        &mut self,
        group: GroupId,
        index: Index,
        line: u64,
        progress: &[(u64, Progress)],
    ) {
        let line = self.lines.entry((group, line)).or_default();
        for (id, progress) in progress {
            line.reported.insert(*id, (index.0, progress.clone()));
        }
    }

    fn settle(&mut self, line: Line, id: u64, is_ack: bool, clients: &Clients) -> Check {
        let body = self.groups[&line.0].stored.get(&id).copied();
        let tries = self.lines.entry(line).or_default().tries.get(&id).copied().unwrap_or(0);
        if is_ack {
            let asked = clients.acked.contains(&(line, id));
            ensure!(asked, "{line:?}/{id} is acked, and nobody asked for it");
        } else {
            let letters = self.dead.and_then(|dead| self.groups.get(&dead));
            let is_letter = letters.zip(body).is_some_and(|(of, body)| of.ids.contains_key(&body));
            ensure!(is_letter, "{line:?}/{id} is given up, and is in no other queue");
            ensure!(MAX_DELIVERIES <= tries, "{line:?}/{id} is given up after {tries} tries");
        }
        let line_log = self.lines.entry(line).or_default();
        ensure!(line_log.settled.insert(id), "{line:?}/{id} is settled twice");
        Ok(())
    }

    /// A send or publish was answered.
    pub(super) fn sent(&self, group: GroupId, body: u64, id: u64) -> Check {
        let stored = self.groups.get(&group).and_then(|of| of.stored.get(&id));
        ensure!(stored == Some(&body), "{body} is not {id} in {group}, but {stored:?}");
        Ok(())
    }

    /// A client was told that nothing was done.
    pub(super) fn denied(&mut self, body: u64) -> Check {
        let is_there = self.groups.values().any(|of| of.ids.contains_key(&body));
        ensure!(!is_there, "{body} is denied, and is there");
        self.denied.insert(body);
        Ok(())
    }

    pub(super) fn believed(&mut self, group: GroupId, body: u64) {
        self.believed.push((group, body));
    }

    /// A leader hands one out; whether it reaches its consumer is another question.
    pub(super) fn took(&mut self, one: &Handed) {
        let line = self.lines.entry(one.line).or_default();
        *line.tries.entry(one.taken.id).or_default() += 1;
    }

    /// It did not, or was not tried.
    pub(super) fn took_back(&mut self, one: &Handed) {
        let line = self.lines.entry(one.line).or_default();
        *line.tries.entry(one.taken.id).or_default() -= 1;
    }

    /// A consumer gets one that it asked for at `begun`.
    pub(super) fn delivered(&mut self, begun: u64, one: &Handed, clients: &Clients) -> Check {
        let Handed { line, taken, epoch, body, order, wall, applied, .. } = one;
        let (name, id) = (format!("{line:?}/{}", taken.id), taken.id);
        let of = self.groups.get(&line.0);
        let known = of.and_then(|of| of.stored.get(&id));
        ensure!(known == Some(body), "{name} is delivered with {body}, stored is {known:?}");
        ensure!(clients.tried.contains_key(body), "{name} holds {body}, which nobody sent");
        let log = self.lines.entry(*line).or_default();
        if let Some(acked) = log.acked.get(&id) {
            ensure!(
                begun < *acked,
                "{name} was acked at {acked} and is delivered, asked at {begun}"
            );
        }
        let holders = log.holders.entry(id).or_default();
        let valid = holders.iter().find(|other| other.epoch == epoch.0 && *wall < other.until);
        ensure!(valid.is_none(), "{name} is handed out at {wall}, held by {valid:?}");
        if let Some((index, progress)) = log.reported.get(&id)
            && index <= applied
            && progress.held
            && progress.epoch < *epoch
            && *wall < progress.until
        {
            let holds = |other: &&Holder| {
                (other.epoch, other.delivery) == (progress.epoch.0, progress.attempts)
            };
            let holder = holders.iter().find(holds);
            ensure!(holder.is_none(), "{name} goes out at {wall}; {holder:?} was reported");
        }
        holders.push(Holder { epoch: epoch.0, delivery: taken.delivery, until: taken.until });
        if let Some(order) = order {
            let of = &self.groups[&line.0];
            let earlier = of
                .orders
                .range(..id)
                .find(|(other, its)| *its == order && !log.settled.contains(other));
            ensure!(earlier.is_none(), "{name} overtook {earlier:?}");
        }
        Ok(())
    }

    /// A consumer gives it back or acks it: from now on somebody else may have it.
    pub(super) fn gives(&mut self, one: &Handed, act: &Act) {
        if *act == Act::Extend {
            return;
        }
        let holders = self.lines.entry(one.line).or_default().holders.entry(one.taken.id);
        let (epoch, delivery) = (one.epoch.0, one.taken.delivery);
        holders.or_default().retain(|other| (other.epoch, other.delivery) != (epoch, delivery));
    }

    pub(super) fn extended(&mut self, one: &Handed, until: u64) {
        let holders = self.lines.entry(one.line).or_default().holders.entry(one.taken.id);
        for holder in holders.or_default() {
            if (holder.epoch, holder.delivery) == (one.epoch.0, one.taken.delivery) {
                holder.until = until;
            }
        }
    }

    /// An ack was answered.
    pub(super) fn acked(&mut self, one: &Handed, now: u64) -> Check {
        let line = self.lines.entry(one.line).or_default();
        let id = one.taken.id;
        ensure!(line.settled.contains(&id), "{:?}/{id} is acked, and not in the log", one.line);
        line.acked.entry(id).or_insert(now);
        Ok(())
    }

    /// Every message of every line is settled.
    pub(super) fn left_over(&self, subscriptions: &[u64]) -> Vec<(Line, u64)> {
        let mut left = Vec::new();
        for (group, of) in &self.groups {
            let is_topic = self.lines.keys().any(|line| line.0 == *group && line.1 != 0);
            let lines = if is_topic { subscriptions } else { &[0][..] };
            for line in lines.iter().map(|line| (*group, *line)) {
                let settled = self.lines.get(&line).map(|line| &line.settled);
                let open = of
                    .stored
                    .keys()
                    .filter(|id| settled.is_none_or(|settled| !settled.contains(id)));
                left.extend(open.map(|id| (line, *id)));
            }
        }
        left
    }

    pub(super) fn ended(&self) -> Check {
        for (group, body) in &self.believed {
            let of = self.groups.get(group);
            let is_there = of.is_some_and(|of| of.ids.contains_key(body));
            ensure!(is_there, "{body} was acknowledged by {group}, and is not there");
        }
        Ok(())
    }
}
