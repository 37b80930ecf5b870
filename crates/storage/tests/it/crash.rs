//! Power cuts at any moment: unsynced data lost, torn and reordered, names vanished.
//!
//! Every run is a function of its seed: `QUARTET_SIM_SEED=17 cargo test -p storage crash` replays
//! one, `QUARTET_SIM_SEEDS=5000` runs more of them.

use sim::Rng;

use crate::world::{World, tiny};

/// Runs a log through several power cuts and says what it lost, if anything.
pub(crate) fn survive(mut world: World, seed: u64) -> Result<World, String> {
    let mut rng = Rng::new(seed ^ 0x5eed);
    world.open_intact()?;
    for round in 0..6 {
        let round = |error: String| format!("round {round}: {error}");
        if rng.chance(3, 4) {
            // Somewhere in the middle of a write, a sync, a rename, a rewrite.
            world.disk.lose_power_at(rng.range(1..250));
        }
        world.steps(rng.range(1..60)).map_err(round)?;
        if rng.chance(1, 4) {
            world.kill()
        } else {
            world.crash()
        }
        if rng.chance(1, 3) {
            // And again while it recovers.
            world.disk.lose_power_at(rng.range(1..12));
            if let Ok(recovery) = world.try_open() {
                world.settle(&recovery).map_err(round)?;
                world.steps(rng.range(1..3)).map_err(round)?;
            }
            world.crash();
        }
        world.open_intact().map_err(round)?;
    }
    // And then it goes on as if nothing had happened.
    world.steps(40)?;
    world.check()?;
    Ok(world)
}

#[test]
pub(crate) fn nothing_acknowledged_is_lost_in_a_power_cut() {
    let (mut rewritten, mut flushes, mut runs) = (0, 0, 0);
    for seed in sim::seeds(150) {
        let world = World::new(seed, tiny());
        let mut world = survive(world, seed).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        rewritten += world.log().stats().rewritten_bytes;
        flushes += world.flushes;
        runs += 1;
    }
    assert!(rewritten > 0 || runs == 1, "no run rewrote a segment: the test is too short");
    assert!(flushes > 50 * runs || runs == 1, "most steps failed");
}

/// A kill -9 in the middle of writes is not a crash: everything handed to the kernel is there.
#[test]
pub(crate) fn a_killed_process_loses_nothing_it_wrote() {
    for seed in sim::seeds(50) {
        let mut world = World::new(seed, tiny());
        world.open_intact().unwrap();
        for _ in 0..5 {
            world.steps(30).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            world.kill();
            let recovery = world.open_intact().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            assert_eq!(recovery.torn, None, "seed {seed}");
        }
    }
}

/// A batch that was written but not synced when the process died is read back at the start. From
/// then on it counts, so the start has to sync it.
#[test]
pub(crate) fn what_a_start_has_read_survives_the_next_power_cut() {
    for seed in sim::seeds(60) {
        let mut world = World::new(seed, tiny());
        world.open_intact().unwrap();
        world.steps(3).unwrap();
        // Often right before a sync, of a batch, of a new segment, or of its name.
        world.disk.lose_power_at(2 + seed % 20);
        while world.log().failure().is_none() {
            world.stage().unwrap();
            world.flush();
        }
        world.kill();
        world.open_intact().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        if seed % 2 == 0 {
            world.stage().unwrap();
            assert!(world.flush());
        }
        world.crash();
        world.open_intact().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
}
