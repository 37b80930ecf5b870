//! Dead letters on their way back, by leaders that are lost at any moment.
//!
//! Every run is a function of its seed, and planted bugs must be found.

use std::collections::{BTreeMap, BTreeSet};

use messaging::ids::{MessageId, Name};
use messaging::queue::{
    MoveBatch, MoveOrder, MoveState, MoveStep, NextMove, Outgoing, QueueCommand, QueueReply, Source,
};
use messaging::subscription::SettleReply;
use sim::Rng;

use crate::host::QueueHost;

const DEAD: u64 = 7;
const RATE: u32 = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// Removed here before it is stored there.
    RemovedFirst,
    /// Stored there without saying where it was.
    NoSource,
    /// The next leader goes on behind what the last one began.
    Skips,
}

struct Run {
    rng: Rng,
    dead: QueueHost,
    home: QueueHost,
    /// By body: the group it came from.
    sent: BTreeMap<u64, u64>,
    acked: BTreeSet<u64>,
    bug: Bug,
}

impl Run {
    fn new(seed: u64, bug: Bug) -> Self {
        let (dead, home) = (QueueHost::new(), QueueHost::new());
        let (sent, acked) = (BTreeMap::new(), BTreeSet::new());
        Self { rng: Rng::new(seed), dead, home, sent, acked, bug }
    }

    fn step(&mut self) -> Result<(), String> {
        self.dead.now += self.rng.range(0..200);
        match self.rng.range(0..12) {
            0 | 1 => self.dead_letter(),
            2 => self.consume(),
            3 => self.begin(),
            4 if self.rng.chance(1, 3) => self.cancel(),
            5 => self.dead.take_snapshot(),
            6 => self.dead.restart(),
            7 => self.dead.depose(true)?,
            _ => self.tend(),
        }
        Ok(())
    }

    fn dead_letter(&mut self) {
        for _ in 0..self.rng.range(1..12) {
            let body = self.sent.len() as u64 + 1;
            let group = 50 + self.rng.range(0..2);
            self.sent.insert(body, group);
            let source = Some(Source { group, subscription: 0, message: body });
            let outgoing = Outgoing { source, dead_lettered: true, ..Outgoing::default() };
            self.dead.send(&[body], &outgoing);
        }
    }

    /// Somebody looks after the dead letters by hand.
    fn consume(&mut self) {
        for receipt in self.dead.receive(3) {
            let (body, id) = (self.dead.body(&receipt), self.dead.ack_id(&receipt));
            if self.rng.chance(1, 2) && self.dead.ack(&id) == SettleReply::Settled {
                self.acked.insert(body);
            }
        }
    }

    fn begin(&mut self) {
        let order = MoveOrder {
            to: Some("home".parse::<Name>().unwrap()),
            only: self.rng.chance(1, 2).then_some(50),
            rate: self.rng.chance(1, 2).then_some(RATE),
            max: self.rng.chance(1, 3).then(|| self.rng.range(1..20)),
        };
        self.dead.propose(&QueueCommand::BeginMove(order));
    }

    fn cancel(&mut self) {
        if let Some(id) = self.dead.queue.task().map(|task| task.id) {
            let reply = self.dead.propose(&QueueCommand::CancelMove(id));
            assert!(matches!(reply, QueueReply::Move(task) if task.state == MoveState::Cancelled));
        }
    }

    /// What the keeper does, and may be lost while it does it.
    fn tend(&mut self) {
        let NextMove::Batch(batch) = self.dead.queue.next_move(self.dead.now, 10) else { return };
        let step = MoveStep {
            task: batch.task,
            moved: batch.messages.iter().map(|(id, attempts, _)| (id.0, *attempts)).collect(),
            left: batch.held.len() as u64,
            reason: (!batch.held.is_empty()).then(|| "held".to_owned()),
            through: batch.through,
            failed: false,
        };
        let advance = QueueCommand::AdvanceMove(step);
        let lost = self.rng.chance(1, 4);
        match self.bug {
            Bug::RemovedFirst => {
                let batch_bodies = self.bodies(&batch);
                self.dead.propose(&advance);
                if !lost {
                    self.store(&batch, &batch_bodies);
                }
                return;
            }
            Bug::Skips if lost => {
                let QueueCommand::AdvanceMove(step) = advance else { unreachable!() };
                let step = MoveStep { moved: Vec::new(), ..step };
                self.dead.propose(&QueueCommand::AdvanceMove(step));
                return self.dead.restart();
            }
            _ => (),
        }
        let bodies = self.bodies(&batch);
        self.store(&batch, &bodies);
        if lost {
            return self.dead.restart();
        }
        self.dead.propose(&advance);
    }

    fn bodies(&self, batch: &MoveBatch) -> Vec<u64> {
        let messages = batch.messages.iter();
        messages.map(|(_, _, stored)| self.dead.body_of(stored)).collect()
    }

    fn store(&mut self, batch: &MoveBatch, bodies: &[u64]) {
        for ((id, ..), body) in batch.messages.iter().zip(bodies) {
            let source = Source { group: DEAD, subscription: 0, message: id.0 };
            let source = (self.bug != Bug::NoSource).then_some(source);
            self.home.send(&[*body], &Outgoing { source, ..Outgoing::default() });
        }
    }

    /// Everything heals, and one task without limits takes the rest.
    fn finish(&mut self) -> Result<(), String> {
        let id = self.dead.queue.task().map_or(0, |task| task.id);
        self.dead.propose(&QueueCommand::CancelMove(id));
        self.dead.now += 500_000;
        self.dead.queue.advance(self.dead.now);
        self.dead.tend();
        // What was delivered and came to nothing waits no more.
        self.dead.now += 500_000;
        let before = self.dead.queue.len();
        let only = Some(50);
        self.dead.propose(&QueueCommand::BeginMove(MoveOrder { only, ..MoveOrder::default() }));
        let bug = self.bug;
        self.carry_through();
        let task = self.dead.queue.tasks().last().unwrap().clone();
        if (task.state, task.left) != (MoveState::Done, 0) {
            return Err(format!("it does not end: {task:?}"));
        }
        if bug == Bug::None && before - self.dead.queue.len() != task.moved {
            return Err(format!("{} are gone, {task:?}", before - self.dead.queue.len()));
        }
        let all = MoveOrder { rate: None, ..MoveOrder::default() };
        self.dead.propose(&QueueCommand::BeginMove(all));
        self.carry_through();
        self.check()
    }

    fn carry_through(&mut self) {
        for _ in 0..1_000 {
            if self.dead.queue.task().is_none() {
                return;
            }
            self.tend();
        }
    }

    fn check(&mut self) -> Result<(), String> {
        let at_home: Vec<u64> =
            self.home.receive(usize::MAX).iter().map(|r| self.home.body(r)).collect();
        let home: BTreeSet<u64> = at_home.iter().copied().collect();
        if home.len() < at_home.len() {
            return Err("a message is there twice".to_owned());
        }
        if !self.dead.queue.is_empty() {
            return Err(format!("{} stay behind", self.dead.queue.len()));
        }
        match self.sent.keys().find(|body| !home.contains(body) && !self.acked.contains(body)) {
            Some(lost) => Err(format!("message {lost} is in neither queue")),
            None => Ok(()),
        }
    }
}

fn run(seed: u64, bug: Bug) -> Result<(), String> {
    let mut run = Run::new(seed, bug);
    for _ in 0..150 {
        run.step().map_err(|violation| format!("seed {seed}: {violation}"))?;
    }
    run.finish().map_err(|violation| format!("seed {seed}, at the end: {violation}"))
}

#[test]
fn every_dead_letter_comes_home_once() {
    for seed in sim::seeds(50) {
        run(seed, Bug::None).unwrap_or_else(|violation| panic!("{violation}"));
    }
}

#[test]
fn every_planted_bug_of_a_task_is_found() {
    for bug in [Bug::RemovedFirst, Bug::NoSource, Bug::Skips] {
        let found = (0..50).find(|seed| run(*seed, bug).is_err());
        assert!(found.is_some(), "{bug:?} was not found in 50 seeds");
    }
}

#[test]
fn a_task_keeps_to_its_rate_and_its_maximum_and_can_be_cancelled() {
    let mut host = QueueHost::new();
    host.send(&(1..=1_000).collect::<Vec<_>>(), &Outgoing::default());
    let order = MoveOrder { rate: Some(RATE), max: Some(60), ..MoveOrder::default() };
    let begun = host.propose(&QueueCommand::BeginMove(order.clone()));
    assert!(matches!(begun, QueueReply::Move(_)));
    assert!(matches!(host.propose(&QueueCommand::BeginMove(order)), QueueReply::Moving(_)));
    let begin = host.now;
    loop {
        let batch = match host.queue.next_move(host.now, 100) {
            NextMove::Idle => break,
            NextMove::Wait(due) => {
                host.now = due;
                continue;
            }
            NextMove::Batch(batch) => batch,
        };
        let moved: Vec<_> = batch.messages.iter().map(|(id, n, _)| (id.0, *n)).collect();
        let through = batch.through;
        let (left, reason, failed) = (0, None, false);
        let step = MoveStep { task: batch.task, moved, left, reason, through, failed };
        host.propose(&QueueCommand::AdvanceMove(step));
        let elapsed = host.now - begin;
        assert!(host.queue.counters().redriven <= u64::from(RATE) * (elapsed + 100) / 1_000);
    }
    let task = host.queue.tasks().last().unwrap();
    assert_eq!((task.state, task.moved), (MoveState::Done, 60));
    // All but a tenth of a second of what 60 messages take at 50 a second.
    assert!(1_000 <= host.now - begin);

    host.propose(&QueueCommand::BeginMove(MoveOrder::default()));
    let NextMove::Batch(batch) = host.queue.next_move(host.now, 100) else {
        panic!("it may begin")
    };
    assert_eq!(batch.messages[0].0, MessageId(61));
    let reply = host.propose(&QueueCommand::CancelMove(2));
    assert!(matches!(reply, QueueReply::Move(task) if task.state == MoveState::Cancelled));
    assert_eq!(host.queue.next_move(host.now, 100), NextMove::Idle);
    assert_eq!(host.propose(&QueueCommand::CancelMove(9)), QueueReply::NoMove);
    for _ in 0..20 {
        host.propose(&QueueCommand::BeginMove(MoveOrder::default()));
        host.propose(&QueueCommand::CancelMove(host.queue.task().unwrap().id));
    }
    assert_eq!(host.queue.tasks().count(), messaging::queue::MAX_TASKS);
}
