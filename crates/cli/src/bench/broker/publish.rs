//! Publishing to one topic, queue or stream from many connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::cpu;
use super::super::load::{self, Load, Requests, Tally, Window};
use super::super::report::{CpuSpent, Sample};
use super::super::systems::{Cluster, System};
use super::args::BrokerArgs;
use super::table::{self, Row};
use super::{Source, api, clients};
use crate::output::note;

/// Connections open, caches fill.
pub(super) const WARM_UP: Duration = Duration::from_millis(500);
const SIZES: [usize; 2] = [256, 1_024];
const BATCH: u16 = 100;
const TOPIC: &str = "bench";

/// What is measured side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Case {
    pub(super) nodes: u16,
    /// Messages in a request.
    pub(super) batch: u16,
    /// Of a message, in bytes.
    pub(super) size: usize,
    pub(super) connections: u16,
}

impl Case {
    pub(super) fn name(self) -> String {
        let (size, connections) = (self.size, self.connections);
        match self.batch {
            1 => format!("publish {size} B, {connections} connections"),
            batch => format!("publish {size} B, {connections} connections, batches of {batch}"),
        }
    }
}

pub(super) async fn measure(args: &BrokerArgs, source: &mut Source) -> anyhow::Result<Vec<Row>> {
    let mut samples = BTreeMap::<(Case, System), Vec<Sample>>::new();
    let prepared = prepare();
    for run in 1..=args.runs() {
        for &nodes in &args.nodes {
            for system in source.systems(run) {
                note!("run {run} of {}: publish, {nodes} nodes: {}", args.runs(), system.name());
                let cluster = source.start(system, nodes).await?;
                for case in cases(args, nodes) {
                    let sample = match source.peer(system) {
                        Some(peer) => clients::publish(peer, &cluster, case, args.window()).await?,
                        None => sample(args, &cluster, case, &prepared).await?,
                    };
                    samples.entry((case, system)).or_default().push(sample);
                }
                cluster.stop().await?;
            }
        }
    }
    let mut rows: Vec<Row> = samples
        .into_iter()
        .map(|((case, system), runs)| Row::new(case.name(), case.nodes, system, runs))
        .collect();
    table::compare(&mut rows);
    Ok(rows)
}

fn cases(args: &BrokerArgs, nodes: u16) -> impl Iterator<Item = Case> {
    let connections = args.connections;
    let all = [1, BATCH].into_iter().flat_map(|batch| SIZES.map(|size| (batch, size)));
    all.map(move |(batch, size)| Case { nodes, batch, size, connections })
}

/// The requests, by messages in each and their size.
type Prepared = BTreeMap<(u16, usize), Arc<Requests>>;

fn prepare() -> Prepared {
    let path = api::messages_of(TOPIC);
    let requests = |batch: u16, size| {
        (0..api::PAYLOADS).map(move |number| (number, batch, size)).map(|(number, batch, size)| {
            if batch == 1 {
                return api::publish(&path, api::payload(number, size));
            }
            let first = number * usize::from(batch);
            let numbers = first..first + usize::from(batch);
            api::publish_all(&path, numbers.map(|number| api::payload(number, size)))
        })
    };
    let all = [1, BATCH].into_iter().flat_map(|batch| SIZES.map(|size| (batch, size)));
    all.map(|(batch, size)| ((batch, size), Arc::new(Requests::new(requests(batch, size), 1))))
        .collect()
}

async fn sample(
    args: &BrokerArgs,
    cluster: &Cluster,
    case: Case,
    prepared: &Prepared,
) -> anyhow::Result<Sample> {
    api::create_topic(cluster, TOPIC).await?;
    let leader = api::leader(cluster, TOPIC).await?;
    let requests = prepared[&(case.batch, case.size)].clone();
    let (mut tally, spent, window) =
        drive(args, cluster, leader, (case.connections, requests)).await?;
    tally.answered *= u64::from(case.batch);
    Ok(Sample::new(&tally, window, &spent))
}

/// Our own load on our own brokers.
pub(super) async fn drive(
    args: &BrokerArgs,
    cluster: &Cluster,
    leader: usize,
    (connections, requests): (u16, Arc<Requests>),
) -> anyhow::Result<(Tally, CpuSpent, Window)> {
    let window = Window::after(WARM_UP, args.window());
    let load = Load {
        targets: cluster.targets(leader),
        connections: connections.into(),
        requests,
        window,
        threads: args.threads.into(),
        seed: 1,
    };
    let (tally, spent) = tokio::join!(load::drive(load), cpu::spent(cluster, leader, window));
    Ok((tally?, spent, window))
}
