//! A primary and its replicas under lost connections, crashes, slow disks, compaction and
//! operators who make another node the primary.
//!
//! Every run is a function of its seed. `QUARTET_SIM_SEED=17 cargo test -p replication --test
//! simulation` replays one.

mod cluster;
mod invariants;
mod node;

use cluster::{Bug, Cluster};
use invariants::Invariants;

const STEPS: usize = 1500;

/// One run. Returns the first violation.
fn run(nodes: usize, seed: u64, bug: Option<Bug>) -> Result<(), String> {
    let mut cluster = Cluster::new(nodes, seed, bug);
    let mut invariants = Invariants::default();
    for step in 0..STEPS {
        cluster.step();
        invariants.check(&cluster).map_err(|violation| format!("step {step}: {violation}"))?;
    }
    cluster.heal();
    invariants.check(&cluster)?;
    invariants.check_healed(&cluster)
}

#[test]
fn histories_never_fork_and_what_a_quorum_has_stays() {
    for seed in sim::seeds(40) {
        for nodes in [1, 2, 3, 5] {
            run(nodes, seed, None)
                .unwrap_or_else(|violation| panic!("seed {seed}, {nodes} nodes, {violation}"));
        }
    }
}

/// The checks above are worth what they catch.
#[test]
fn planted_bugs_are_caught() {
    for bug in Bug::ALL {
        let caught = (0..200).find_map(|seed| run(3, seed, Some(bug)).err());
        assert!(caught.is_some(), "{bug:?} survives 200 seeds");
    }
}

#[test]
fn a_seed_replays_to_the_same_end() {
    let end = |seed| {
        let mut cluster = Cluster::new(3, seed, None);
        (0..STEPS).for_each(|_| cluster.step());
        cluster.fingerprint()
    };
    for seed in 0..5 {
        assert_eq!(end(seed), end(seed));
    }
}
