//! The whole core of a broker: nodes with their logs and machines, the catalog, queues, partitions
//! and subscriptions, moves, leaders and those who follow them, under crashes that lose what was
//! not synced, cuts, slow disks, slow hosts and wrong clocks.
//!
//! Consensus and machines are the real ones, and so are the rules of placement; the host between
//! them is written here once more, step by step, so that anything may come between two steps.
//! Every run is a function of its seed: `QUARTET_SIM_SEED=17 cargo test -p messaging --test it
//! cluster` replays one, `QUARTET_SIM_SEEDS=10000` runs that many. Each planted bug is a rule that
//! a host could forget. The checks must find it: those that show soon in every run of the tests, the
//! others in the long form.

mod catalog;
mod checks;
mod clients;
mod disk;
mod faults;
mod host;
mod keeper;
mod logs;
mod machine;
mod told;
mod world;

use clients::Done;
use world::{Counts, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// The log says that it has what only the cache has.
    AckBeforeSync,
    /// A client is answered when its command is placed.
    EarlyAnswer,
    /// Commands that follow from what a leader alone knows are passed on to the next one.
    Forwards,
    /// Messages reach consumers before a majority has confirmed who leads.
    NoBarrier,
    /// Who leads hands out messages before it has applied what was acknowledged before.
    LeadsAtOnce,
    /// Who leads no more keeps what it knew alone.
    NoFollow,
    /// Every leader hands out in the same epoch.
    OneEpoch,
    /// A snapshot is confirmed before everything is there that its machine reads.
    TicketBeforeFilled,
    /// An installed snapshot drops what its machine reads, and says nothing of it.
    ResetDropsKept,
    /// A message is settled before the dead-letter queue has it.
    SettlesFirst,
}

/// One run. Returns the first violation.
fn run(seed: u64, bug: Bug) -> Result<(Counts, Done), String> {
    let mut world = World::new(seed, bug);
    let outcome = world.whole_run();
    outcome.map_err(|violation| {
        format!("seed {seed}, {} ms: {violation}\n{:?}\n{:?}", world.now, world.plan, world.counts)
    })?;
    Ok((world.counts, world.clients.done))
}

#[test]
fn nothing_is_lost_and_nothing_promised_is_broken() {
    let seeds = sim::seeds(12);
    let is_band = seeds.start == 0 && 12 <= seeds.end;
    let (mut sum, mut done) = (Counts::default(), Done::default());
    for seed in seeds {
        let (counts, told) = run(seed, Bug::None).unwrap_or_else(|violation| panic!("{violation}"));
        sum.add(&counts);
        done.add(&told);
    }
    println!("{sum:?}\n{done:?}");
    if is_band {
        sum.demand_that_it_happened();
    }
}

/// In these a broker restarts with a catalog older than its leaving of a group, begins a copy of it
/// once more, and what goes through that copy finds no leader.
#[test]
fn a_copy_that_an_old_catalog_has_begun_keeps_nobody_waiting() {
    for seed in [52, 61] {
        run(seed, Bug::None).unwrap_or_else(|violation| panic!("{violation}"));
    }
}

/// In this one messages come to a queue before its leader has told it its capacity.
#[test]
fn a_queue_that_is_being_made_holds_no_more_than_it_may() {
    run(142, Bug::None).unwrap_or_else(|violation| panic!("{violation}"));
}

#[test]
fn a_seed_replays_to_the_same_end() {
    let (one, other) = (run(1, Bug::None).unwrap(), run(1, Bug::None).unwrap());
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
}

#[test]
fn planted_bugs_are_found() {
    for bug in [Bug::AckBeforeSync, Bug::EarlyAnswer, Bug::Forwards] {
        find(bug, 60);
    }
}

#[test]
#[ignore = "takes an hour"]
fn bugs_that_take_many_seeds_are_found() {
    for bug in [
        Bug::ResetDropsKept,
        Bug::SettlesFirst,
        Bug::TicketBeforeFilled,
        Bug::OneEpoch,
        Bug::LeadsAtOnce,
        Bug::NoBarrier,
        Bug::NoFollow,
    ] {
        find(bug, 2_000);
    }
}

fn find(bug: Bug, seeds: u64) {
    let found = (0..seeds).find_map(|seed| Some((seed, run(seed, bug).err()?)));
    let Some((seed, violation)) = found else { panic!("{bug:?} lives through {seeds} seeds") };
    println!("{bug:?} | seed {seed} | {}", violation.lines().next().unwrap_or_default());
}

impl Done {
    fn add(&mut self, other: &Self) {
        self.sends += other.sends;
        self.publishes += other.publishes;
        self.deliveries += other.deliveries;
        self.again += other.again;
        self.acks += other.acks;
        self.refused += other.refused;
        self.unknown += other.unknown;
    }
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.crashes += other.crashes;
        self.lost_writes += other.lost_writes;
        self.cuts += other.cuts;
        self.leads += other.leads;
        self.moves += other.moves;
        self.installs += other.installs;
        self.refills += other.refills;
        self.snapshots += other.snapshots;
        self.forwards += other.forwards;
        self.deposed_answers += other.deposed_answers;
    }

    /// Seeds in which nothing happened prove nothing.
    fn demand_that_it_happened(&self) {
        for (what, count) in [
            ("crash", self.crashes),
            ("lost write", self.lost_writes),
            ("cut", self.cuts),
            ("leader", self.leads),
            ("change of members", self.moves),
            ("install", self.installs),
            ("fetched body", self.refills),
            ("snapshot", self.snapshots),
            ("command passed on", self.forwards),
            ("answer of a deposed leader held back", self.deposed_answers),
        ] {
            assert!(0 < count, "never a {what}: {self:?}");
        }
    }
}
