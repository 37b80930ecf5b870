//! Many topics written at once, against one: a message costs the same wherever it goes, and the
//! disk is synced for all of them together.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use super::super::host;
use super::super::load::Requests;
use super::super::report::{CpuSpent, Sample, median};
use super::super::systems::{Cluster, System};
use super::args::BrokerArgs;
use super::{Source, api, publish};
use crate::output::{Table, note, say};

const SIZE: usize = 256;
/// Topics that are made at the same time.
const AT_ONCE: usize = 16;

/// Publishing to so many topics, with as many connections as there are topics in the other line.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Topics {
    pub(super) topics: usize,
    pub(super) connections: usize,
    pub(super) messages_per_second: f64,
    pub(super) fsyncs_per_second: f64,
    pub(super) p99_ms: f64,
    pub(super) server_us_per_message: Option<f64>,
    pub(super) errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_error: Option<String>,
}

pub(super) async fn measure(args: &BrokerArgs, source: &mut Source) -> anyhow::Result<Vec<Topics>> {
    host::raise_open_files();
    let mut runs = [Vec::new(), Vec::new()];
    for run in 1..=args.runs() {
        note!("run {run} of {}: one topic and {}", args.runs(), args.topics());
        let cluster = source.start(System::Quartet, 1).await?;
        let names: Vec<String> =
            (0..args.topics()).map(|number| format!("many-{number}")).collect();
        stream::iter(&names)
            .map(|name| api::create_topic(&cluster, name))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        api::leader(&cluster, &names[names.len() - 1]).await?;
        for (names, runs) in [&names[..1], &names].into_iter().zip(&mut runs) {
            runs.push(sample(args, &cluster, names).await?);
        }
        cluster.stop().await?;
    }
    Ok(runs.into_iter().map(medians).collect())
}

async fn sample(args: &BrokerArgs, cluster: &Cluster, names: &[String]) -> anyhow::Result<Topics> {
    let requests = names
        .iter()
        .enumerate()
        .map(|(number, name)| api::publish(&api::messages_of(name), api::payload(number, SIZE)));
    let requests = Arc::new(Requests::new(requests, 1));
    let connections = u16::try_from(args.topics()).unwrap_or(u16::MAX);
    let before = api::fsyncs(cluster).await?;
    let began = tokio::time::Instant::now();
    let (tally, spent, window): (_, CpuSpent, _) =
        publish::drive(args, cluster, 0, (connections, requests)).await?;
    let fsyncs = api::fsyncs(cluster).await? - before;
    let sample = Sample::new(&tally, window, &spent);
    Ok(Topics {
        topics: names.len(),
        connections: connections.into(),
        messages_per_second: sample.requests_per_second,
        fsyncs_per_second: fsyncs as f64 / began.elapsed().as_secs_f64(),
        p99_ms: sample.p99_ms,
        server_us_per_message: sample.cpu_us_per_request.total(),
        errors: sample.errors,
        first_error: sample.first_error,
    })
}

fn medians(runs: Vec<Topics>) -> Topics {
    let figure = |of: fn(&Topics) -> f64| median(runs.iter().map(of));
    Topics {
        messages_per_second: figure(|run| run.messages_per_second),
        fsyncs_per_second: figure(|run| run.fsyncs_per_second),
        p99_ms: figure(|run| run.p99_ms),
        server_us_per_message: runs
            .iter()
            .map(|run| run.server_us_per_message)
            .collect::<Option<Vec<f64>>>()
            .map(median),
        errors: runs.iter().map(|run| run.errors).sum(),
        first_error: runs.iter().find_map(|run| run.first_error.clone()),
        ..runs[0]
    }
}

pub(super) fn print(all: &[Topics]) {
    let mut table = Table::new([
        "TOPICS",
        "CONNECTIONS",
        "MESSAGES/S",
        "FSYNCS/S",
        "P99 MS",
        "SERVER US/MESSAGE",
        "ERRORS",
    ]);
    for one in all {
        table.row([
            one.topics.to_string(),
            one.connections.to_string(),
            format!("{:.0}", one.messages_per_second),
            format!("{:.0}", one.fsyncs_per_second),
            format!("{:.1}", one.p99_ms),
            one.server_us_per_message.map_or_else(String::new, |cpu| format!("{cpu:.1}")),
            one.errors.to_string(),
        ]);
    }
    (0..=6).for_each(|column| table.right(column));
    table.print();
    for one in all {
        if let Some(error) = &one.first_error {
            say!("{} topics: the first error: {error}", one.topics);
        }
    }
}
