//! Memory and disk space of many keys, once all of them are loaded.

use std::time::Duration;

use futures_util::future::try_join_all;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::super::args::CoordinatorArgs;
use super::super::host::{self, Memory};
use super::super::systems::{Cluster, System};
use super::{Source, SystemInfo, dataset};
use crate::output::{Table, note};

/// Loading is not what is measured: enough to be done soon.
const CONNECTIONS: usize = 16;
/// Background work, such as snapshots and cutting the log, gets so long to end.
const SETTLE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, Serialize)]
pub(super) struct Capacity {
    pub(super) system: System,
    pub(super) keys: usize,
    pub(super) load_seconds: f64,
    /// The leader first.
    pub(super) nodes: Vec<Use>,
}

/// What one node takes.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Use {
    pub(super) memory: Memory,
    pub(super) disk_bytes: u64,
}

pub(super) async fn measure(
    args: &CoordinatorArgs,
    source: &Source,
    known: &mut Vec<SystemInfo>,
) -> anyhow::Result<Vec<Capacity>> {
    let mut all = Vec::new();
    for system in source.systems(args) {
        note!("loading {} keys: {}", args.keys(), system.name());
        let cluster = source.start(system, known).await?;
        all.push(fill(&cluster, args.keys()).await?);
        cluster.stop().await?;
    }
    Ok(all)
}

async fn fill(cluster: &Cluster, keys: usize) -> anyhow::Result<Capacity> {
    let leader = cluster.leader().await?;
    let targets = cluster.targets(leader);
    let began = Instant::now();
    let each = keys.div_ceil(CONNECTIONS);
    let loads = (0..CONNECTIONS).map(|at| {
        let range = (at * each).min(keys)..((at + 1) * each).min(keys);
        dataset::load(&targets[at % targets.len()], range)
    });
    try_join_all(loads).await?;
    let load_seconds = began.elapsed().as_secs_f64();
    sleep(SETTLE).await;
    let mut nodes: Vec<Use> = cluster
        .members
        .iter()
        .filter_map(|member| member.process.as_ref())
        .filter_map(|process| {
            let disk_bytes = host::disk_bytes(process.directory());
            host::memory(process.pid()).map(|memory| Use { memory, disk_bytes })
        })
        .collect();
    if nodes.len() == cluster.members.len() {
        nodes.rotate_left(leader);
    }
    Ok(Capacity { system: cluster.system, keys, load_seconds, nodes })
}

pub(super) fn print(all: &[Capacity]) {
    let mut table = Table::new([
        "SYSTEM",
        "KEYS",
        "LOADED IN S",
        "LEADER MIB",
        "OF THAT HEAP",
        "ALL MIB",
        "LEADER DISK MIB",
        "ALL DISK MIB",
    ]);
    for one in all {
        let Some(leader) = one.nodes.first() else { continue };
        let sum = |of: fn(&Use) -> u64| mib(one.nodes.iter().map(of).sum());
        table.row([
            one.system.name().to_owned(),
            one.keys.to_string(),
            format!("{:.1}", one.load_seconds),
            mib(leader.memory.resident_bytes),
            mib(leader.memory.anonymous_bytes),
            sum(|node| node.memory.resident_bytes),
            mib(leader.disk_bytes),
            sum(|node| node.disk_bytes),
        ]);
    }
    (1..=7).for_each(|column| table.right(column));
    table.print();
}

fn mib(bytes: u64) -> String {
    format!("{:.0}", bytes as f64 / f64::from(1 << 20))
}
