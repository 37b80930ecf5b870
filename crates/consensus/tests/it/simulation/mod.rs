//! Whole clusters under loss, delay, repetition, partitions, crashes, lost disks, slow disks, slow
//! machines, wrong clocks, compaction, membership changes and transfers.
//!
//! Every run is a function of its seed. `QUARTET_SIM_SEED=17 cargo test -p consensus --test it
//! simulation` replays one; `QUARTET_SIM_SEEDS=100000` runs that many.

mod clients;
mod faults;
mod healing;
mod plan;
mod world;

use world::{Counts, ELECTION_MS, World};

/// How long things fail, in election timeouts.
const FAULTY: u64 = 100;

/// One run. Returns the first violation.
pub(crate) fn run(seed: u64) -> Result<(Counts, u64), String> {
    let mut world = World::new(seed);
    let described = |world: &World, violation: String| {
        format!("seed {seed}, {} ms: {violation}\n{:?}", world.now, world.plan)
    };
    let end = FAULTY * ELECTION_MS;
    world.run_until(end).map_err(|violation| described(&world, violation))?;
    world.heal().map_err(|violation| described(&world, violation))?;
    let mut counts = world.counts;
    let searched = world.clients.check().map_err(|violation| described(&world, violation))?;
    counts.gave_up = u64::from(searched.is_none());
    counts.elections = world.oracle.terms() as u64;
    (counts.writes, counts.reads) = (world.clients.writes_done, world.clients.reads_done);
    Ok((counts, world.trace))
}

/// Runs seeds and adds up what they saw.
fn band(seeds: std::ops::Range<u64>) -> Result<Counts, String> {
    let mut sum = Counts::default();
    for seed in seeds {
        let (counts, _) = run(seed)?;
        sum.add(&counts);
    }
    Ok(sum)
}

#[test]
fn the_invariants_hold_and_the_cluster_heals() {
    let seeds = sim::seeds(60);
    let is_band = seeds.start == 0 && 60 <= seeds.end;
    let sum = band(seeds).unwrap_or_else(|violation| panic!("{violation}"));
    println!("{sum:?}");
    if is_band {
        sum.demand_that_it_happened();
    }
}

#[test]
fn a_seed_replays_to_the_same_end() {
    for seed in 0..5 {
        let (counts, trace) = run(seed).unwrap_or_else(|violation| panic!("{violation}"));
        let (again, same) = run(seed).unwrap_or_else(|violation| panic!("{violation}"));
        assert_eq!((counts.steps, trace), (again.steps, same), "seed {seed}");
    }
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.messages += other.messages;
        self.crashes += other.crashes;
        self.cuts += other.cuts;
        self.changes += other.changes;
        self.transfers += other.transfers;
        self.snapshots += other.snapshots;
        self.installs += other.installs;
        self.wipes += other.wipes;
        self.leaves += other.leaves;
        self.loads += other.loads;
        self.elections += other.elections;
        self.writes += other.writes;
        self.reads += other.reads;
        self.gave_up += other.gave_up;
    }

    /// A band in which nothing happened proves nothing.
    fn demand_that_it_happened(&self) {
        for (what, count) in [
            ("crash", self.crashes),
            ("cut", self.cuts),
            ("membership change", self.changes),
            ("transfer", self.transfers),
            ("snapshot", self.snapshots),
            ("install", self.installs),
            ("lost disk", self.wipes),
            ("log let go", self.leaves),
            ("load from disk", self.loads),
            ("election", self.elections),
            ("write", self.writes),
            ("read", self.reads),
        ] {
            assert!(count > 10, "only {count} times a {what}: {self:?}");
        }
        assert_eq!(self.gave_up, 0, "histories whose search gave up prove nothing: {self:?}");
    }
}
