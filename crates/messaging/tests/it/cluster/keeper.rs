//! What the leader of a group does now and then: settings, reports, and what is given up.

use consensus::{GroupId, Term};
use messaging::catalog::Kind;
use messaging::frame;
use messaging::partition::PartitionCommand;
use messaging::queue::QueueCommand;

use super::Bug;
use super::host::Tag;
use super::machine::Machine;
use super::world::{Check, What, World};

impl World {
    /// What the leader of a group does now and then.
    pub(super) fn tend(&mut self, node: usize, group: GroupId) -> Check {
        let Some(term) = self.led(node, group) else { return Ok(()) };
        self.later(node, 50, What::Tend(group));
        let wall = self.wall(node);
        let Some(catalog) = self.catalog(node) else { return Ok(()) };
        let entry = catalog.groups().get(&group).map(|placement| placement.kind.clone());
        let tended = match entry {
            Some(Kind::Queue { name }) => {
                let Some(entry) = catalog.queues().get(&name).cloned() else { return Ok(()) };
                self.tend_queue(node, (group, term, wall), &entry)
            }
            Some(Kind::Partition { topic, number }) => {
                let Some(entry) = catalog.topics().get(&topic).cloned() else { return Ok(()) };
                self.tend_partition(node, (group, term, wall), (&entry, number))
            }
            Some(Kind::Streams { .. }) | None => Ok(()),
        };
        // What it would give up it may not have: see `World::consume`.
        tended.or_else(|violation| match self.leads(node, group) == Some(term) {
            true => Err(violation),
            false => Ok(()),
        })
    }

    fn tend_queue(
        &mut self,
        node: usize,
        (group, term, wall): (GroupId, Term, u64),
        entry: &messaging::catalog::QueueEntry,
    ) -> Check {
        let now = self.now;
        let at = &mut self.nodes[node];
        let copy = at.up.as_mut().expect("it leads").copies.get_mut(&group).expect("it leads");
        let Machine::Queue(queue) = &mut copy.machine else { return Ok(()) };
        let mut commands = Vec::new();
        if queue.version() < entry.version {
            let (version, config) = (entry.version, entry.config.clone());
            commands.push((QueueCommand::Configure { version, config }, Tag::Nobody));
        }
        queue.advance(wall);
        let progress = queue.take_progress(1_000);
        if !progress.is_empty() {
            let tag = Tag::Progress(group, term);
            commands.push((QueueCommand::Delivered { progress }, tag));
        }
        let led = copy.led.as_mut().expect("it leads");
        let mut letters = Vec::new();
        if led.busy_until < now {
            for (doomed, stored) in queue.doomed(64) {
                let Some(record) = super::machine::stored(&at.disks[&group], &stored) else {
                    return Err(format!("{} lacks message {} of {group}", at.id, doomed.id));
                };
                letters.push((doomed, 0, record));
            }
            if !letters.is_empty() {
                led.busy_until = now + 3_000;
            }
        }
        for (command, tag) in commands {
            let payload = frame::encode(wall, &command, &Default::default());
            self.place_later(node, (group, term), payload, tag);
        }
        match letters.is_empty() {
            true => Ok(()),
            false => self.dead_letter(node, (group, term), (0, 0), letters),
        }
    }

    fn tend_partition(
        &mut self,
        node: usize,
        (group, term, wall): (GroupId, Term, u64),
        (entry, number): (&messaging::catalog::Topic, u32),
    ) -> Check {
        let now = self.now;
        let at = &mut self.nodes[node];
        let copy = at.up.as_mut().expect("it leads").copies.get_mut(&group).expect("it leads");
        let Machine::Partition(partition) = &mut copy.machine else { return Ok(()) };
        let mut commands = Vec::new();
        if partition.version() < entry.version {
            let (version, retention) = (entry.version, entry.retention);
            commands.push((PartitionCommand::Configure { version, retention }, Tag::Nobody));
        }
        let mut letters = None;
        for (name, subscription) in &entry.subscriptions {
            let id = subscription.id;
            let has = partition.subscription(id).map(|has| has.version());
            if has.is_none_or(|has| has < subscription.version) {
                assert_eq!(subscription.start_in(number), messaging::config::Start::Earliest);
                let command = PartitionCommand::PutSubscription {
                    id,
                    name: name.clone(),
                    version: subscription.version,
                    config: subscription.config.clone(),
                    start: messaging::subscription::Position::Earliest,
                };
                commands.push((command, Tag::Nobody));
                continue;
            }
            let Some(mut leading) = partition.subscription_mut(id) else { continue };
            leading.advance(wall);
            if let Some(delivered) = leading.take_progress(1_000) {
                let command = PartitionCommand::Delivered { id, delivered };
                commands.push((command, Tag::Progress(group, term)));
            }
            let (doomed, generation) = (leading.doomed(64), leading.get().generation());
            let led = copy.led.as_mut().expect("it leads");
            if doomed.is_empty() || now <= led.busy_until {
                continue;
            }
            led.busy_until = now + 3_000;
            let mut found = Vec::new();
            for doomed in doomed {
                let record = super::machine::published(&at.disks[&group], partition, doomed.id);
                let Some(record) = record else {
                    return Err(format!("{} lacks offset {} of {group}", at.id, doomed.id));
                };
                found.push((doomed, id.0, record));
            }
            letters = Some(((id.0, generation), found));
        }
        for (command, tag) in commands {
            let payload = frame::encode(wall, &command, &Default::default());
            self.place_later(node, (group, term), payload, tag);
        }
        match letters {
            None => Ok(()),
            Some((subscription, letters)) => {
                self.dead_letter(node, (group, term), subscription, letters)
            }
        }
    }

    /// Stores messages in the dead-letter queue; they are settled where they come from when that
    /// is answered.
    fn dead_letter(
        &mut self,
        node: usize,
        (group, term): (GroupId, Term),
        (subscription, generation): (u64, u32),
        letters: Vec<(messaging::dispatch::Doomed, u64, frame::Record)>,
    ) -> Check {
        use messaging::queue::{Outgoing, Source, Why};
        let wall = self.wall(node);
        let items: Vec<_> =
            letters.iter().map(|(doomed, ..)| (doomed.id, doomed.attempts)).collect();
        let settle = match subscription {
            0 => {
                let command = QueueCommand::Settle { why: Why::DeadLettered, items };
                frame::encode(wall, &command, &Default::default())
            }
            id => {
                let why = messaging::subscription::Why::DeadLettered;
                let settle = messaging::subscription::Settle { generation, why, items };
                let id = messaging::ids::SubscriptionId(id);
                let command = PartitionCommand::Settle { id, settle };
                frame::encode(wall, &command, &Default::default())
            }
        };
        let mut records = frame::Records::default();
        letters.iter().for_each(|(.., record)| records.push(&record.envelope, &record.body));
        let messages = letters.iter().zip(&records.sizes).map(|((doomed, ..), size)| Outgoing {
            size: *size,
            source: Some(Source { group: group.0, subscription, message: doomed.id }),
            dead_lettered: true,
            ..Outgoing::default()
        });
        let command = QueueCommand::Send { idempotency_key: None, messages: messages.collect() };
        let payload = frame::encode(wall, &command, &records);
        if self.bug == Bug::SettlesFirst {
            self.place_later(node, (group, term), settle, Tag::GivenUp(group));
            return Ok(());
        }
        let dead = self.catalog(node).and_then(|catalog| catalog.queues().get("dead").cloned());
        let Some(dead) = dead else { return Ok(()) };
        self.propose(node, dead.group, payload, Tag::DeadLetter { group, term, settle })
    }
}
