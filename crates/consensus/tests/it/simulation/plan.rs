//! Which mistakes a run's surroundings make: a different mix for every seed.
//!
//! A run with every kind of fault at once rarely gets anywhere interesting; one with two or three
//! of them does (swarm testing).

use sim::Rng;
use sim::network::Faults;

/// What may happen in a run, and how often.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) founders: u64,
    pub(crate) faults: Faults,
    /// The longest a write takes, in milliseconds.
    pub(crate) disk_ms: u64,
    /// The longest until an entry is applied.
    pub(crate) apply_ms: u64,
    /// Milliseconds between two client requests, about.
    pub(crate) client_gap_ms: u64,
    /// How many writes may be without an answer; more overlapping ones are more than the
    /// linearizability checker can search.
    pub(crate) max_open: usize,
    /// How often each kind of fault is drawn.
    pub(crate) weights: Vec<(Fault, u32)>,
    /// Milliseconds between two faults, about.
    pub(crate) fault_gap_ms: u64,
    /// By how many of 1,000 clocks may run fast or slow.
    pub(crate) skew: i64,
    pub(crate) max_append_bytes: usize,
    pub(crate) max_in_flight_appends: usize,
    pub(crate) recent_bytes: usize,
    /// How many entries a compaction leaves, at most.
    pub(crate) keep: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Crash,
    CrashAll,
    Pause,
    Partition,
    OneWay,
    Bridge,
    Mend,
    Compact,
    Change,
    Transfer,
    Resign,
    /// A disk is lost for good; a new node takes the place.
    Wipe,
    /// A node that is no member any more lets its log go; it may be made one again.
    Leave,
    /// A broken connection is noticed at once.
    Refuse,
}

const ALL: [(Fault, u32); 14] = [
    (Fault::Crash, 10),
    (Fault::CrashAll, 1),
    (Fault::Pause, 5),
    (Fault::Partition, 5),
    (Fault::OneWay, 4),
    (Fault::Bridge, 3),
    (Fault::Mend, 8),
    (Fault::Compact, 15),
    (Fault::Change, 8),
    (Fault::Transfer, 6),
    (Fault::Resign, 2),
    (Fault::Wipe, 1),
    (Fault::Refuse, 3),
    (Fault::Leave, 10),
];

impl Plan {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let weights = ALL.into_iter().filter(|_| rng.chance(1, 2)).collect();
        let often = |rng: &mut Rng, rates: &[u32]| *rng.pick(rates).expect("there are rates");
        let long = |rng: &mut Rng, times: &[u64]| *rng.pick(times).expect("there are times");
        let size = |rng: &mut Rng, sizes: &[usize]| *rng.pick(sizes).expect("there are sizes");
        let faults = Faults {
            lost: often(rng, &[0, 0, 10, 50, 200]),
            repeated: often(rng, &[0, 10, 100, 300]),
            min_delay: 1,
            max_delay: long(rng, &[2, 10, 40]),
            very_late: often(rng, &[0, 5, 30]),
            very_late_by: long(rng, &[100, 1_000, 5_000]),
            reordered: rng.chance(1, 2),
            link_capacity: size(rng, &[20, 1_000]),
        };
        Self {
            founders: *rng.pick(&[1, 2, 3, 3, 3, 4, 5, 5, 7]).expect("there are sizes"),
            faults,
            disk_ms: long(rng, &[0, 2, 20, 300, 1_000]),
            apply_ms: long(rng, &[0, 5, 100, 1_000]),
            client_gap_ms: long(rng, &[1, 2, 5, 20]),
            max_open: size(rng, &[4, 12, 12, 1_000]),
            weights,
            fault_gap_ms: long(rng, &[20, 60, 200, 600]),
            skew: rng.range(0..100) as i64,
            max_append_bytes: size(rng, &[1, 200, 2_000, 1 << 20]),
            max_in_flight_appends: size(rng, &[1, 3, 256]),
            recent_bytes: size(rng, &[0, 300, 1 << 20]),
            keep: long(rng, &[0, 3, 30]),
        }
    }

    /// One of the kinds of this run.
    pub(crate) fn fault(&self, rng: &mut Rng) -> Option<Fault> {
        let total: u32 = self.weights.iter().map(|(_, weight)| weight).sum();
        if total == 0 {
            return None;
        }
        let mut left = rng.range(0..u64::from(total)) as u32;
        let chosen = self.weights.iter().find(|(_, weight)| {
            let here = left < *weight;
            left = left.saturating_sub(*weight);
            here
        });
        chosen.map(|(fault, _)| *fault)
    }
}
