//! A queue with senders, consumers that come late or not at all, and crashes at any moment.
//!
//! Every run is a function of its seed. Each planted bug is a way in which the code around or in
//! a queue could go wrong; the checks must find every one of them.

use messaging::ack::AckId;
use messaging::config::{Policy, QueueConfig};
use messaging::dispatch::{Release, Verdict};
use messaging::ids::MessageId;
use messaging::queue::{Outgoing, QueueCommand, QueueReply, Receipt, Why};
use messaging::subscription::SettleReply;
use sim::Rng;

use crate::checks::{History, Seen};
use crate::host::QueueHost;

const CAPACITY: u64 = 25;
const GROUPS: u64 = 3;
const MAX_DELIVERIES: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// A send is answered before it is in the log.
    LostSend,
    /// An ack is answered before it is in the log.
    LostAck,
    /// Deliveries of earlier lives settle what was delivered again since.
    StaleAck,
    /// Progress is counted as reported and does not reach the log.
    LostProgress,
    /// Groups are not passed on.
    NoGroups,
    /// The queue is told of a larger capacity.
    Overshoot,
    /// What is given back untried counts as failed.
    FreeBurns,
    /// Who is deposed keeps what it knew alone, and uses it when it leads again.
    NoFollow,
}

struct Run {
    rng: Rng,
    host: QueueHost,
    history: History,
    held: Vec<(Receipt, AckId)>,
    next_body: u64,
    /// How much leadership moves. Where it does not, failures add up.
    turbulence: u64,
    bug: Bug,
}

impl Run {
    fn new(seed: u64, bug: Bug) -> Self {
        let mut host = QueueHost::new();
        let policy = Policy {
            ack_timeout_ms: 200,
            max_deliveries: Some(MAX_DELIVERIES),
            ..Policy::default()
        };
        let more = if bug == Bug::Overshoot { 1 } else { 0 };
        let config =
            QueueConfig { max_messages: CAPACITY + more, policy, ..QueueConfig::default() };
        host.propose(&QueueCommand::Configure { version: 1, config });
        let mut rng = Rng::new(seed);
        let turbulence = if rng.chance(1, 2) { 20 } else { 24 };
        let (history, held) = (History::default(), Vec::new());
        Self { rng, host, history, held, next_body: 1, turbulence, bug }
    }

    fn step(&mut self) -> Result<(), String> {
        self.host.now += self.rng.range(0..40);
        match self.rng.range(0..self.turbulence) {
            0..6 => self.send()?,
            6..12 => self.receive()?,
            12..16 => self.ack()?,
            16 => self.give_back(),
            17 => self.tend()?,
            18 => self.host.take_snapshot(),
            19 => self.crash(),
            _ => self.host.depose(self.bug != Bug::NoFollow)?,
        }
        if CAPACITY < self.host.queue.len() {
            return Err(format!("{} messages are beyond the capacity", self.host.queue.len()));
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), String> {
        let count = self.rng.range(1..4);
        let bodies: Vec<u64> = (self.next_body..self.next_body + count).collect();
        self.next_body += count;
        let group = self.rng.chance(2, 3).then(|| self.rng.range(0..GROUPS));
        let outgoing = Outgoing {
            priority: u8::try_from(self.rng.range(0..10)).unwrap(),
            group: group.filter(|_| self.bug != Bug::NoGroups),
            ..Outgoing::default()
        };
        if let QueueReply::Sent(replies) = self.host.send(&bodies, &outgoing) {
            for (body, reply) in bodies.iter().zip(replies) {
                self.history.sent(*body, reply.id.0, group)?;
            }
            if self.bug == Bug::LostSend && self.rng.chance(1, 4) {
                self.host.log.pop();
                self.crash();
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), String> {
        let max = self.rng.index(4) + 1;
        for receipt in self.host.receive(max) {
            let seen = Seen {
                body: self.host.body(&receipt),
                id: receipt.taken.id,
                delivery: receipt.taken.delivery,
                group: receipt.stored.group,
            };
            // Only what the sender said counts, whatever the queue made of it.
            let group = self.group_of(seen.id).or(seen.group);
            self.history.delivered(Seen { group, ..seen })?;
            let id = self.host.ack_id(&receipt);
            self.held.push((receipt, id));
        }
        Ok(())
    }

    fn ack(&mut self) -> Result<(), String> {
        if self.held.is_empty() {
            return Ok(());
        }
        let at = self.rng.index(self.held.len());
        // Some consumers send an ack twice.
        let (_, id) =
            if self.rng.chance(1, 5) { self.held[at].clone() } else { self.held.remove(at) };
        let reply = if self.bug == Bug::StaleAck {
            self.host.settle(id.message, u32::MAX, Why::Acked)
        } else {
            self.host.ack(&id)
        };
        if reply == SettleReply::Settled {
            // A delivery that was followed by another is not the one to settle the message.
            let newer = self.held.iter().any(|(_, other)| {
                other.message == id.message
                    && (other.epoch, other.delivery) > (id.epoch, id.delivery)
            });
            if newer {
                return Err(format!("a stale ack settled message {}", id.message));
            }
            self.history.settled(id.message)?;
            if self.bug == Bug::LostAck && self.rng.chance(1, 4) {
                self.host.log.pop();
                self.crash();
            }
        }
        Ok(())
    }

    fn give_back(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let (_, id) = self.held.remove(self.rng.index(self.held.len()));
        if self.host.verdict(&id) != Verdict::Held {
            return;
        }
        let tried = self.rng.chance(1, 3);
        if !tried {
            self.history.untried(id.message);
        }
        let how = if tried || self.bug == Bug::FreeBurns {
            Release::Failed { delay_ms: None, reason: None }
        } else {
            Release::Free { delay_ms: self.rng.range(0..50) }
        };
        self.host.queue.release(MessageId(id.message), how);
    }

    fn tend(&mut self) -> Result<(), String> {
        self.host.queue.advance(self.host.now);
        let progress = self.host.queue.take_progress(usize::MAX);
        for (id, progress) in &progress {
            self.history.reported(*id, progress.attempts);
        }
        if !progress.is_empty() && self.bug != Bug::LostProgress {
            self.host.propose(&QueueCommand::Delivered { progress });
        }
        for (doomed, _) in self.host.queue.doomed(usize::MAX) {
            let reply = self.host.settle(doomed.id, doomed.attempts, Why::Discarded);
            if reply == SettleReply::Settled {
                self.history.given_up(doomed.id, MAX_DELIVERIES)?;
                self.history.settled(doomed.id)?;
            }
        }
        Ok(())
    }

    /// What was delivered and not reported is forgotten; consumers still hold their ack ids.
    fn crash(&mut self) {
        self.host.restart();
    }

    /// Everything heals: consumers take and ack until nothing is left.
    fn drain(&mut self) -> Result<(), String> {
        for _ in 0..400 {
            self.host.now += 250;
            self.tend()?;
            self.receive()?;
            for (_, id) in std::mem::take(&mut self.held) {
                if self.host.ack(&id) == SettleReply::Settled {
                    self.history.settled(id.message)?;
                }
            }
        }
        if !self.host.queue.is_empty() {
            return Err(format!("{} messages are stuck", self.host.queue.len()));
        }
        self.history.drained()
    }

    fn group_of(&self, id: u64) -> Option<u64> {
        (0..GROUPS).find(|group| self.history.is_in(*group, id))
    }
}

fn run(seed: u64, bug: Bug) -> Result<(), String> {
    let mut run = Run::new(seed, bug);
    for step in 0..300 {
        run.step().map_err(|violation| format!("seed {seed}, step {step}: {violation}"))?;
    }
    run.drain().map_err(|violation| format!("seed {seed}, draining: {violation}"))
}

#[test]
fn every_promise_is_kept_through_crashes() {
    for seed in sim::seeds(200) {
        run(seed, Bug::None).unwrap_or_else(|violation| panic!("{violation}"));
    }
}

#[test]
fn every_planted_bug_is_found() {
    for bug in [
        Bug::LostSend,
        Bug::LostAck,
        Bug::StaleAck,
        Bug::LostProgress,
        Bug::NoGroups,
        Bug::Overshoot,
        Bug::FreeBurns,
        Bug::NoFollow,
    ] {
        let found = (0..100).find(|seed| run(*seed, bug).is_err());
        assert!(found.is_some(), "{bug:?} was not found in 100 seeds");
    }
}
