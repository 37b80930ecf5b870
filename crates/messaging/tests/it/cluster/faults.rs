//! Which mistakes a run's surroundings make, and how they end: a different mix for every seed.

use messaging::catalog::{CATALOG, CatalogCommand};
use messaging::frame::{self, Records};
use sim::Rng;
use sim::network::Faults;

use super::Bug;
use super::host::Tag;
use super::world::{Check, ELECTION_MS, Event, World};

/// How long things fail.
const FAULTY_MS: u64 = 25_000;
/// How long it may take until nothing is left, when nothing fails any more.
const HEALING_MS: u64 = 150_000;

/// What may happen in a run, and how often.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) nodes: usize,
    pub(super) faults: Faults,
    /// The longest a write takes, in milliseconds.
    pub(super) disk_ms: u64,
    /// The longest until an entry is applied.
    pub(super) apply_ms: u64,
    /// The longest until a host has seen who leads, and between its look and its command.
    pub(super) notice_ms: u64,
    pub(super) client_gap_ms: u64,
    pub(super) fault_gap_ms: u64,
    /// By how much clocks may differ, and by how many of 1,000 run fast or slow.
    pub(super) offset_ms: i64,
    pub(super) skew: i64,
    pub(super) recent_bytes: usize,
    pub(super) max_append_bytes: usize,
    kinds: Vec<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Crash,
    CrashAll,
    Pause,
    Isolate,
    Bridge,
    OneWay,
    Mend,
    Compact,
    Resign,
    Drain,
}

const ALL: [Fault; 10] = [
    Fault::Crash,
    Fault::CrashAll,
    Fault::Pause,
    Fault::Isolate,
    Fault::Bridge,
    Fault::OneWay,
    Fault::Mend,
    Fault::Compact,
    Fault::Resign,
    Fault::Drain,
];

impl Plan {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let faults = Faults {
            lost: one(rng, &[0, 0, 10, 50]),
            min_delay: 1,
            max_delay: one(rng, &[2, 10, 30]),
            very_late: one(rng, &[0, 5, 20]),
            very_late_by: one(rng, &[100, 1_000]),
            reordered: rng.chance(1, 2),
            ..Faults::default()
        };
        let mut kinds: Vec<Fault> = ALL.into_iter().filter(|_| rng.chance(1, 2)).collect();
        kinds.extend([Fault::Compact, Fault::Mend]);
        Self {
            nodes: one(rng, &[3, 3, 4, 5]),
            faults,
            disk_ms: one(rng, &[0, 2, 20, 200]),
            apply_ms: one(rng, &[0, 5, 60]),
            notice_ms: one(rng, &[0, 20, 300]),
            client_gap_ms: one(rng, &[4, 8, 20]),
            fault_gap_ms: one(rng, &[150, 400, 1_200]),
            offset_ms: one(rng, &[0, 50, 3_000]),
            skew: one(rng, &[0, 10, 50]),
            recent_bytes: one(rng, &[0, 2_000, 1 << 20]),
            max_append_bytes: one(rng, &[200, 2_000, 1 << 20]),
            kinds,
        }
    }
}

fn one<T: Clone>(rng: &mut Rng, from: &[T]) -> T {
    rng.pick(from).expect("there are some").clone()
}

impl World {
    pub(super) fn fault(&mut self) -> Check {
        if self.is_calm {
            return Ok(());
        }
        let gap = self.rng.range(1..2 * self.plan.fault_gap_ms);
        self.events.add(self.now + gap, Event::Fault);
        let node = self.rng.index(self.nodes.len());
        let other = self.rng.index(self.nodes.len());
        let fault = one(&mut self.rng, &self.plan.kinds.clone());
        match fault {
            Fault::Crash => self.crash_and_restart(node)?,
            Fault::CrashAll if self.rng.chance(1, 5) => {
                for node in 0..self.nodes.len() {
                    self.crash_and_restart(node)?;
                }
            }
            Fault::Pause => {
                let until = self.now + self.rng.range(1..6 * ELECTION_MS);
                self.nodes[node].paused_until = until;
            }
            Fault::Isolate => self.cut(|network| network.isolate(node)),
            Fault::Bridge => self.cut(|network| network.bridge(&[node, other], node)),
            Fault::OneWay => self.cut(|network| network.cut(node, other)),
            Fault::Mend => self.network.heal(),
            Fault::Compact => self.compact_some(node),
            Fault::Resign => {
                let groups: Vec<_> = self.nodes[node].disks.keys().copied().collect();
                let group = one(&mut self.rng, &groups);
                if let Some(up) = self.nodes[node].up.as_mut().filter(|_| group != CATALOG)
                    && let Some(raft) = up.multi.touch(group)
                {
                    raft.resign();
                }
                return self.settle(node);
            }
            Fault::Drain => return self.drain(node, other),
            Fault::CrashAll => (),
        }
        Ok(())
    }

    fn cut(&mut self, cut: impl FnOnce(&mut sim::Network<super::world::Wire>)) {
        self.counts.cuts += 1;
        cut(&mut self.network);
        let mend = self.now + self.rng.range(ELECTION_MS..15 * ELECTION_MS);
        self.events.add(mend, Event::Mend);
    }

    fn crash_and_restart(&mut self, node: usize) -> Check {
        self.crash(node)?;
        let away = if self.rng.chance(1, 6) { 8_000 } else { 1_500 };
        let back = self.now + self.rng.range(1..away);
        self.events.add(back, Event::Start { node });
        Ok(())
    }

    fn compact_some(&mut self, node: usize) {
        let groups: Vec<_> = self.nodes[node].disks.keys().copied().collect();
        for group in groups {
            let leave = one(&mut self.rng, &[0, 0, 3, 30]);
            self.compact(node, group, leave);
        }
        let _ = self.settle(node);
    }

    /// Some broker is emptied, or none.
    fn drain(&mut self, at: usize, node: usize) -> Check {
        let Some(catalog) = self.catalog(at).cloned() else { return Ok(()) };
        let mut commands: Vec<_> = catalog
            .brokers()
            .iter()
            .filter(|(_, broker)| broker.draining)
            .map(|(node, _)| CatalogCommand::SetDraining { node: *node, on: false })
            .collect();
        if self.rng.chance(2, 3) && 3 < self.nodes.len() {
            let node = self.nodes[node].id;
            commands.push(CatalogCommand::SetDraining { node, on: true });
        }
        for command in commands {
            let payload = frame::encode(self.wall(at), &command, &Records::default());
            self.propose(at, CATALOG, payload, Tag::Nobody)?;
        }
        self.settle(at)
    }

    pub(super) fn whole_run(&mut self) -> Check {
        self.run_until(FAULTY_MS)?;
        self.heal()
    }

    /// Nothing fails any more: everything that was sent comes, and is settled.
    fn heal(&mut self) -> Check {
        self.is_calm = true;
        self.network.heal();
        self.network.set_faults(Faults::default());
        for node in 0..self.nodes.len() {
            self.nodes[node].paused_until = 0;
            self.events.add(self.now + 1, Event::Start { node });
        }
        self.clients.is_draining = true;
        let end = self.now + HEALING_MS;
        let mut left = Vec::new();
        while self.now < end {
            self.run_until(self.now + 1_000)?;
            let Some(catalog) = self.catalog(0) else { continue };
            let topics = catalog.topics().values();
            let subscriptions: Vec<_> =
                topics.flat_map(|topic| topic.subscriptions.values().map(|one| one.id.0)).collect();
            left = self.log.left_over(&subscriptions);
            if left.is_empty() && self.clients.is_quiet() && subscriptions.len() == 2 {
                return self.log.ended();
            }
        }
        if self.bug == Bug::EarlyAnswer {
            self.log.ended()?;
        }
        left.truncate(5);
        Err(format!("still there: {left:?}; quiet: {}", self.clients.is_quiet()))
    }
}
