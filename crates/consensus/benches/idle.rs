//! What groups cost that have nothing to do: `cargo bench -p consensus --bench idle -- [GROUPS]`.
//!
//! Three nodes, each with 10,000 groups, on a network and disks that are memory; each leads
//! about a third of the groups. Once all have a leader, time goes on by heartbeats only. Measured is
//! one node: the time its core needs per second of simulated time, with both of its peers alive,
//! and the memory that its groups hold. Targets: 1 % of a core, 2 KiB a group.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use consensus::{
    Config, Effect, GroupEffect, GroupId, Membership, Multi, MultiConfig, NodeId, Output, Raft,
    Restored,
};
use peak_alloc::PeakAlloc;

/// Counts what is allocated.
#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const GROUPS: u64 = 10_000;
const HEARTBEAT_MS: u64 = 100;
const ELECTION_MS: u64 = 1_000;
const COMMAND_BYTES: usize = 256;
/// How long the nodes are idle, in their own time.
const IDLE_MS: u64 = 1_000_000;
const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
const MEASURED: NodeId = NODES[0];
const TARGET_CORE_SHARE: f64 = 0.01;
const TARGET_BYTES: f64 = 2_048.0;

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

/// Nothing is lost, and disks take no time.
struct Cluster {
    nodes: BTreeMap<NodeId, Multi>,
    now_ms: u64,
    /// What the measured node's core has used.
    busy: Duration,
}

impl Cluster {
    fn new(groups: u64) -> Self {
        let nodes = NODES.map(|node| (node, host(node, groups)));
        Self { nodes: BTreeMap::from(nodes), now_ms: 0, busy: Duration::ZERO }
    }

    /// One input, and the time it takes if it is that of the measured node.
    fn input<T>(&mut self, node: NodeId, give: impl FnOnce(&mut Multi) -> T) -> T {
        let multi = self.nodes.get_mut(&node).expect("it is one of three");
        let begin = now();
        let result = give(multi);
        if node == MEASURED {
            self.busy += begin.elapsed();
        }
        result
    }

    /// Everything that needs no time.
    fn settle(&mut self) {
        let mut waiting = BTreeSet::from(NODES);
        while let Some(from) = waiting.pop_first() {
            let mut output = Output::default();
            self.input(from, |multi| multi.flush(&mut output));
            for (to, heartbeat) in output.heartbeats {
                self.input(to, |multi| multi.receive_heartbeat(from, heartbeat));
                waiting.insert(to);
            }
            for GroupEffect { group, effect } in output.effects {
                match effect {
                    Effect::Persist(persist) => {
                        let persisted = |multi: &mut Multi| {
                            let raft = multi.touch(group).expect("it is hosted");
                            raft.handle_persisted(persist.ticket);
                        };
                        self.input(from, persisted);
                        waiting.insert(from);
                    }
                    Effect::Send { to, message } => {
                        self.input(to, |multi| multi.receive(from, group, message));
                        waiting.insert(to);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Wakes every node when it wants to be woken.
    fn run(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        loop {
            let deadlines = self.nodes.values().filter_map(Multi::deadline_ms);
            let next = deadlines.min().unwrap_or(end).max(self.now_ms + 1);
            if end < next {
                self.now_ms = end;
                return;
            }
            self.now_ms = next;
            for node in NODES {
                self.input(node, |multi| multi.tick(next));
            }
            self.settle();
        }
    }

    fn led_by(&self, node: NodeId) -> usize {
        self.nodes[&node].groups().filter(|(_, raft)| raft.is_leader()).count()
    }
}

fn host(node: NodeId, groups: u64) -> Multi {
    let config = MultiConfig {
        node,
        epoch: 1_000 + node.0,
        heartbeat_ms: HEARTBEAT_MS,
        election_ms: ELECTION_MS,
    };
    let mut multi = Multi::new(config, 0);
    for group in 0..groups {
        let address = |node: NodeId| format!("http://10.0.0.{}:2380", node.0);
        // Read from its log, every group has a membership of its own.
        let members = Membership::of(NODES.map(|node| (node, Bytes::from(address(node)))));
        let config = Config { election_ms: ELECTION_MS, ..Config::new(node) };
        let seed = node.0 * 7_919 + group;
        multi.add(GroupId(group), Raft::new(config, Restored::founded(members), 0, seed));
    }
    multi
}

/// Every group gets these commands, so that there is something it could hold on to.
fn propose(cluster: &mut Cluster, commands: usize) {
    for node in NODES {
        let groups: Vec<GroupId> = cluster.nodes[&node]
            .groups()
            .filter(|(_, raft)| raft.is_leader())
            .map(|(group, _)| group)
            .collect();
        for group in groups {
            cluster.input(node, |multi| {
                let raft = multi.touch(group).expect("it is hosted");
                let payload = || Bytes::from(vec![7; COMMAND_BYTES]);
                raft.propose((0..commands).map(|_| payload()).collect()).expect("it leads");
            });
        }
    }
    cluster.settle();
}

/// Bytes that the measured node's groups hold. What nodes share on this network, such as the
/// payloads of entries, counts as its own, as it is when they are processes.
fn bytes_per_group(mut cluster: Cluster, groups: u64) -> f64 {
    cluster.nodes.retain(|node, _| *node == MEASURED);
    let with = HEAP.current_usage();
    drop(cluster);
    (with - HEAP.current_usage()) as f64 / groups as f64
}

fn measure(groups: u64, commands: usize) {
    let mut cluster = Cluster::new(groups);
    // Every group elects its leader.
    cluster.run(10 * ELECTION_MS);
    let led = NODES.map(|node| cluster.led_by(node));
    assert_eq!(led.iter().sum::<usize>() as u64, groups, "every group has one leader");
    propose(&mut cluster, commands);
    cluster.run(10 * ELECTION_MS);
    cluster.busy = Duration::ZERO;
    cluster.run(IDLE_MS);
    let share = cluster.busy.as_secs_f64() / Duration::from_millis(IDLE_MS).as_secs_f64();
    let bytes = bytes_per_group(cluster, groups);
    let verdict = |met| if met { "met" } else { "MISSED" };
    println!(
        "{groups} groups, {} of them led here, {commands} commands of {COMMAND_BYTES} bytes in each: \
         {:.4} % of a core ({}), {bytes:.0} bytes a group ({})",
        led[0],
        share * 100.0,
        verdict(share < TARGET_CORE_SHARE),
        verdict(bytes <= TARGET_BYTES),
    );
}

fn main() {
    // `cargo bench` adds a flag of its own.
    let groups = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(GROUPS);
    for commands in [0, 10] {
        measure(groups, commands);
    }
}
