//! Puts and gets: how many a second, how long each takes, and what they cost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::args::{CoordinatorArgs, Part};
use super::super::cpu;
use super::super::load::{self, Load, Requests, Window};
use super::super::report::{self, Row, Sample};
use super::super::systems::{Cluster, System};
use super::operations::{Api, Operation, static_file};
use super::{Source, SystemInfo, dataset};
use crate::output::note;

/// Connections open, caches fill.
const WARM_UP: Duration = Duration::from_millis(500);
/// Serializable gets are measured with so many connections.
const SERIALIZABLE_CONNECTIONS: u16 = 64;

/// What is measured side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Case {
    operation: Operation,
    connections: u16,
}

/// The prebuilt requests, by what they do.
type Prepared = BTreeMap<(Operation, Api), Arc<Requests>>;
type Samples = BTreeMap<(Case, System, &'static str), Vec<Sample>>;

pub(super) async fn measure(
    args: &CoordinatorArgs,
    source: &Source,
    known: &mut Vec<SystemInfo>,
) -> anyhow::Result<Vec<Row>> {
    let cases = cases(args);
    let prepared: Prepared = cases
        .iter()
        .flat_map(|case| [Api::V3, Api::V1].map(|api| (case.operation, api)))
        .map(|(operation, api)| ((operation, api), Arc::new(api.requests(operation))))
        .collect();
    let mut samples = Samples::new();
    let yardstick = cases.iter().find(|case| case.operation == Operation::OneNodeGet);
    for run in 1..=args.runs() {
        let mut systems = source.systems(args);
        // Nobody always has the machine as the other left it.
        if run % 2 == 0 {
            systems.reverse();
        }
        for system in systems {
            note!("run {run} of {}: {}", args.runs(), system.name());
            let cluster = source.start(system, known).await?;
            dataset::load(&cluster.members[0].target, 0..dataset::KEYS).await?;
            for &case in cases.iter().filter(|case| case.is_for(system)) {
                for &api in Api::of(system) {
                    let requests = prepared[&(case.operation, api)].clone();
                    let leader = cluster.leader().await?;
                    let sample = sample(args, &cluster, leader, (case, requests)).await?;
                    samples.entry((case, system, api.name())).or_default().push(sample);
                }
            }
            cluster.stop().await?;
        }
        if let Some(&case) = yardstick
            && let Some(cluster) = source.start_nginx(&dataset::value(0), known).await?
        {
            let requests = Arc::new(static_file());
            let sample = sample(args, &cluster, 0, (case, requests)).await?;
            samples.entry((case, System::Nginx, "static file")).or_default().push(sample);
            cluster.stop().await?;
        }
    }
    Ok(rows(samples))
}

impl Case {
    /// What one node of ours serves is compared with nginx.
    fn is_for(self, system: System) -> bool {
        self.operation != Operation::OneNodeGet || system == System::Quartet
    }
}

fn cases(args: &CoordinatorArgs) -> Vec<Case> {
    let mut cases = Vec::new();
    let all = |operation| {
        args.connections.iter().map(move |&connections| Case { operation, connections })
    };
    if args.wants(Part::Puts) {
        cases.extend(all(Operation::Put));
    }
    if args.wants(Part::Gets) {
        cases.extend(all(Operation::Get));
        let connections = SERIALIZABLE_CONNECTIONS;
        for operation in [Operation::SerializableGet, Operation::OneNodeGet] {
            cases.push(Case { operation, connections });
        }
    }
    cases
}

/// One run of one case.
async fn sample(
    args: &CoordinatorArgs,
    cluster: &Cluster,
    leader: usize,
    (case, requests): (Case, Arc<Requests>),
) -> anyhow::Result<Sample> {
    let window = Window::after(WARM_UP, args.window());
    let mut targets = cluster.targets(leader);
    if case.operation == Operation::OneNodeGet {
        targets.truncate(1);
    }
    let load = Load {
        targets,
        connections: case.connections.into(),
        requests,
        window,
        threads: args.threads.into(),
        seed: 1,
    };
    let (tally, spent) = tokio::join!(load::drive(load), cpu::spent(cluster, leader, window));
    Ok(Sample::new(&tally?, window, &spent))
}

fn rows(samples: Samples) -> Vec<Row> {
    let mut rows: Vec<Row> = samples
        .into_iter()
        .map(|((case, system, api), runs)| {
            Row::new(case.operation.name(), case.connections, (system, api), runs)
        })
        .collect();
    report::compare(&mut rows);
    rows
}
