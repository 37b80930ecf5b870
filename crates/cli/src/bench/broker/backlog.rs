//! A queue with very many messages: what one of them costs in memory, whether receiving takes
//! longer than from a queue that is empty, and how soon it is back after a crash.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::super::host;
use super::super::load::{self, Connection, Exchange, Tally, Target, Written};
use super::super::report::median;
use super::super::systems::{Cluster, System};
use super::args::BrokerArgs;
use super::cycle::Received;
use super::{Source, api};
use crate::output::{Table, note, say};

const SIZE: usize = 256;
const QUEUE: &str = "backlog";
/// Those that fill the queue.
const FILLERS: usize = 16;
/// Messages in one of their requests.
const BATCH: usize = 500;
/// After so many messages the broker's cache of bodies is full: what grows then is the rest.
const CACHED: usize = 100_000;
/// Background work, such as snapshots and cutting the log, gets so long to end.
const SETTLE: Duration = Duration::from_secs(5);
/// A receiver sends, receives and acknowledges so many messages.
const CYCLES: usize = 2_000;
/// Those at the same time.
const RECEIVERS: usize = 4;
const RESTART_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

#[derive(Clone, Debug, Serialize)]
pub(super) struct Backlog {
    pub(super) messages: usize,
    pub(super) fill_seconds: f64,
    /// Of the process, at the end.
    pub(super) resident_bytes: u64,
    /// What a message adds, beyond the cache of bodies.
    pub(super) bytes_per_message: f64,
    /// One receive, while the queue is empty but for what was just sent.
    pub(super) empty_p99_ms: f64,
    /// The same, of a queue with all these messages.
    pub(super) full_p99_ms: f64,
    /// From the start of the process, which was killed, to the first message it hands out.
    pub(super) restart_seconds: f64,
    pub(super) errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_error: Option<String>,
}

pub(super) async fn measure(
    args: &BrokerArgs,
    source: &mut Source,
) -> anyhow::Result<Option<Backlog>> {
    let mut runs = Vec::new();
    for run in 1..=args.runs() {
        note!("run {run} of {}: {} queued messages", args.runs(), args.backlog());
        let mut cluster = source.start(System::Quartet, 1).await?;
        runs.push(sample(&mut cluster, args.backlog()).await?);
        cluster.stop().await?;
    }
    Ok(medians(&runs))
}

async fn sample(cluster: &mut Cluster, messages: usize) -> anyhow::Result<Backlog> {
    api::create_queue(cluster, QUEUE, 2 * messages).await?;
    api::leader(cluster, QUEUE).await?;
    let target = cluster.members[0].target.clone();
    let empty = cycles(&target).await?;
    let first = CACHED.min(messages / 2);
    let rest = messages - first;
    let began = Instant::now();
    fill(&target, first).await?;
    sleep(SETTLE).await;
    let cached = resident(cluster)?;
    fill(&target, rest).await?;
    let fill_seconds = (began.elapsed() - SETTLE).as_secs_f64();
    sleep(SETTLE).await;
    let full = resident(cluster)?;
    let mut late = cycles(&target).await?;
    let restart_seconds = restart(cluster, &target).await?.as_secs_f64();
    let (empty_p99_ms, full_p99_ms) = (empty.quantile_ms(0.99), late.quantile_ms(0.99));
    late.add(&empty);
    Ok(Backlog {
        messages,
        fill_seconds,
        resident_bytes: full,
        bytes_per_message: (full as f64 - cached as f64) / rest as f64,
        empty_p99_ms,
        full_p99_ms,
        restart_seconds,
        errors: late.errors,
        first_error: late.first_error,
    })
}

fn resident(cluster: &Cluster) -> anyhow::Result<u64> {
    let process = cluster.members[0].process.as_ref().context("it was not started here")?;
    let memory = host::memory(process.pid()).context("nobody knows its memory")?;
    Ok(memory.resident_bytes)
}

async fn fill(target: &Target, messages: usize) -> anyhow::Result<()> {
    let path = format!("/v1/queues/{QUEUE}/messages");
    // The time of sending does not matter here.
    let line = |number| api::timed(0, &api::payload(number, SIZE));
    let request = api::publish_all(&path, (0..BATCH).map(line));
    try_join_all((0..FILLERS).map(async |filler| {
        let mut connection = Connection::open(target).await?;
        for _ in (filler * BATCH..messages).step_by(FILLERS * BATCH) {
            api::until_taken(&mut connection, &request).await?;
        }
        anyhow::Ok(())
    }))
    .await?;
    Ok(())
}

/// How long receives take while as many messages come as go.
async fn cycles(target: &Target) -> anyhow::Result<Tally> {
    let target = target.clone();
    load::on_thread("cycles", async move || {
        let mut workers = JoinSet::new();
        for _ in 0..RECEIVERS {
            workers.spawn_local(cycle(target.clone()));
        }
        let mut all = Tally::new();
        while let Some(tally) = workers.join_next().await {
            all.add(&tally.context("a receiver panicked")??);
        }
        Ok(all)
    })
    .await
}

async fn cycle(target: Target) -> anyhow::Result<Tally> {
    let path = |what| format!("/v1/queues/{QUEUE}/{what}");
    let body = api::timed(0, &api::payload(0, SIZE));
    let send = Written::new(&api::publish(&path("messages"), body));
    let receive =
        Written::new(&api::post(&path("receive"), &json!({ "max": 1, "wait_seconds": 1 })));
    let mut connection = Exchange::open(&target).await?;
    let mut tally = Tally::new();
    for _ in 0..CYCLES {
        let sent = connection.ask(&send).await?;
        ensure!(sent.status.is_success(), "sending answers {sent}");
        let began = Instant::now();
        let answer = connection.ask(&receive).await?;
        ensure!(answer.status.is_success(), "receive answers {answer}");
        let ack_ids = Received::read(&answer.body)?.ack_ids;
        if ack_ids.is_empty() {
            tally.fail(1, || "nothing is received, though something was sent".to_owned());
            continue;
        }
        tally.took(began.elapsed());
        let ack = api::post(&path("ack"), &json!({ "ack_ids": ack_ids }));
        let acked = connection.ask(&Written::new(&ack)).await?;
        ensure!(acked.status.is_success(), "ack answers {acked}");
    }
    Ok(tally)
}

async fn restart(cluster: &mut Cluster, target: &Target) -> anyhow::Result<Duration> {
    let process = cluster.members[0].process.as_mut().context("it was not started here")?;
    process.kill().await?;
    let began = Instant::now();
    process.restart().await?;
    let receive = api::post(&format!("/v1/queues/{QUEUE}/receive"), &json!({ "max": 1 }));
    let receive = Written::new(&receive);
    loop {
        if let Ok(mut connection) = Exchange::open(target).await
            && let Ok(answer) = connection.ask(&receive).await
            && answer.status.is_success()
            && !Received::read(&answer.body)?.ack_ids.is_empty()
        {
            return Ok(began.elapsed());
        }
        ensure!(began.elapsed() < RESTART_MAX, "nothing is handed out for {RESTART_MAX:?}");
        sleep(POLL).await;
    }
}

fn medians(runs: &[Backlog]) -> Option<Backlog> {
    let figure = |of: fn(&Backlog) -> f64| median(runs.iter().map(of));
    Some(Backlog {
        fill_seconds: figure(|run| run.fill_seconds),
        bytes_per_message: figure(|run| run.bytes_per_message),
        empty_p99_ms: figure(|run| run.empty_p99_ms),
        full_p99_ms: figure(|run| run.full_p99_ms),
        restart_seconds: figure(|run| run.restart_seconds),
        errors: runs.iter().map(|run| run.errors).sum(),
        first_error: runs.iter().find_map(|run| run.first_error.clone()),
        ..runs.first()?.clone()
    })
}

pub(super) fn print(one: &Backlog) {
    let mut table = Table::new([
        "MESSAGES",
        "SENT IN S",
        "RESIDENT MIB",
        "BYTES/MESSAGE",
        "RECEIVE P99 MS, EMPTY",
        "FULL",
        "RESTART S",
        "ERRORS",
    ]);
    table.row([
        one.messages.to_string(),
        format!("{:.1}", one.fill_seconds),
        format!("{:.0}", one.resident_bytes as f64 / f64::from(1 << 20)),
        format!("{:.0}", one.bytes_per_message),
        format!("{:.2}", one.empty_p99_ms),
        format!("{:.2}", one.full_p99_ms),
        format!("{:.2}", one.restart_seconds),
        one.errors.to_string(),
    ]);
    (0..=7).for_each(|column| table.right(column));
    table.print();
    if let Some(error) = &one.first_error {
        say!("the first error: {error}");
    }
}
