//! `quartet demo`: a week of flights through all four services, with a crash in the middle.
//!
//! Every flight is published to a topic through the gateway. Workers that share one subscription
//! count flights and cancellations per carrier in the replicated store, and turn departures that
//! were an hour late or more into jobs on a priority queue; other workers take the jobs and count
//! delays. Half way through, the broker is killed with SIGKILL and started again. At the end the
//! totals are read back through a replica and compared with those of the file.
//!
//! Delivery is at least once, so the workers are idempotent: the value that holds a carrier's
//! totals also holds which flights are in them, and both change in one compare-and-set. A message
//! is acknowledged only after that.
//!
//! **Invariant:** a carrier's totals and the set of flights they are made of are one value.
//! **Invariant:** nothing is acknowledged before it is counted or handed on.

mod expected;
mod flights;
mod ledger;
mod outage;
mod patience;
mod publish;
mod report;
mod verify;
mod workers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::args::DemoArgs;
use crate::cluster::banner::{JAEGER_OTLP, JAEGER_UI};
use crate::cluster::{Cluster, Node, Service, down, up};
use crate::http::{Http, Request};
use patience::persist;

const TOPIC: &str = "flights";
const SUBSCRIPTION: &str = "totals";
const QUEUE: &str = "late-departures";
const PARTITIONS: u32 = 4;
/// Short, so that what was in flight at the crash comes back soon.
const ACK_DEADLINE_SECONDS: f64 = 5.0;
/// After the last publish, everything has to be counted within this time.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

const GATEWAY: Node = Node { service: Service::Gateway, number: 1 };
const BROKER: Node = Node { service: Service::Broker, number: 1 };
/// Not the primary: what is read here has been replicated.
const REPLICA: Node = Node { service: Service::Replica, number: 2 };

/// What the tasks of the demo share.
pub(crate) struct Demo {
    http: Http,
    cluster: Cluster,
    /// `http://127.0.0.1:8080`, the only entrance that publishers and workers use.
    gateway: String,
    ledger: ledger::Ledger,
    published: AtomicU64,
    redelivered: AtomicU64,
    progress: ProgressBar,
    /// Ends the workers once everything is counted.
    done: CancellationToken,
}

/// Starts a cluster of its own, runs, verifies, and leaves nothing behind unless told to.
pub(crate) async fn run(args: DemoArgs, port_offset: u16) -> anyhow::Result<()> {
    let input = flights::load(args.file.as_deref(), args.rows)?;
    let own = std::env::temp_dir().join(format!("quartet-demo-{}", std::process::id()));
    let data = args.data.clone().unwrap_or_else(|| own.clone());
    if args.data.is_some() && data.join("run").exists() {
        bail!("{} already holds a cluster; the demo needs a new directory", data.display());
    }
    let cluster = Cluster::new(&data, port_offset)?;
    let mut plan = up::Plan::new(1, Some(2), &[])?;
    plan.otlp = traces(&args).await;

    crate::output::note!("starting a cluster of its own in {}", data.display());
    let outcome = tokio::select! {
        outcome = play(&cluster, &plan, input) => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    if let Ok(story) = &outcome {
        report::print(story, &cluster, &plan, &args);
    }
    if args.keep {
        crate::output::note!("left running: quartet down --wipe --data {}", data.display());
    } else {
        down::stop_all(&cluster).await?;
        if outcome.is_ok() {
            down::wipe_all(&cluster)?;
        } else {
            crate::output::note!("logs and data are kept in {}", data.display());
        }
    }
    outcome.and_then(|story| story.verdict())
}

/// Where traces go: as told, else to a Jaeger that runs here anyway.
async fn traces(args: &DemoArgs) -> Option<String> {
    if args.otlp.endpoint.is_some() {
        return args.otlp.endpoint.clone();
    }
    let services = args.jaeger.trim_end_matches('/').to_owned() + "/api/v3/services";
    let request = Request::get(services).timeout(Duration::from_secs(1));
    let found = args.jaeger == JAEGER_UI && Http::default().send(request).await.is_ok();
    found.then(|| JAEGER_OTLP.to_owned())
}

async fn play(
    cluster: &Cluster,
    plan: &up::Plan,
    input: flights::Input,
) -> anyhow::Result<report::Story> {
    let children = up::start(cluster, plan).await?;
    // Reaps what is killed: a zombie would look alive.
    let mut reaper = JoinSet::new();
    for (_, mut child) in children {
        reaper.spawn(async move { child.wait().await });
    }
    let http = Http::default();
    let gateway = cluster.url(GATEWAY);
    let demo = Arc::new(Demo {
        ledger: ledger::Ledger::new(http.clone(), &gateway),
        http,
        cluster: cluster.clone(),
        gateway,
        published: AtomicU64::new(0),
        redelivered: AtomicU64::new(0),
        progress: bar(input.flights.len() as u64),
        done: CancellationToken::new(),
    });
    prepare(&demo).await.context("cannot create the topic, the subscription and the queue")?;
    let expected = expected::totals(&input.text, input.flights.len())?;

    let start = Instant::now();
    let total = input.flights.len() as u64;
    let mut workers = workers::spawn(&demo);
    let (published, outage) =
        tokio::try_join!(publish::all(&demo, input.flights), outage::half_way(&demo, total))?;
    let publishing = start.elapsed();
    tokio::select! {
        drained = drain(&demo) => drained?,
        // A worker ends before it is told to only when it cannot go on.
        Some(ended) = workers.join_next() => ended.context("a worker panicked")??,
    }
    demo.done.cancel();
    while let Some(ended) = workers.join_next().await {
        ended.context("a worker panicked")??;
    }
    demo.progress.finish_and_clear();

    let stored = verify::read_back(&demo, &expected).await?;
    Ok(report::Story {
        expected,
        stored,
        published,
        outage,
        publishing,
        redelivered: demo.redelivered.load(Ordering::Relaxed),
        messages: verify::messages_in_topic(&demo).await?,
    })
}

/// Topic, subscription and queue. Repeating it changes nothing.
async fn prepare(demo: &Demo) -> anyhow::Result<()> {
    let topic = json!({ "partitions": PARTITIONS });
    let subscription = json!({ "start": "earliest", "ack_deadline_seconds": ACK_DEADLINE_SECONDS, "max_deliveries": 100 });
    let queue = json!({ "max_priority": 9, "ack_deadline_seconds": ACK_DEADLINE_SECONDS, "max_deliveries": 100 });
    for (path, body) in [
        (format!("/v1/topics/{TOPIC}"), topic),
        (format!("/v1/topics/{TOPIC}/subscriptions/{SUBSCRIPTION}"), subscription),
        (format!("/v1/queues/{QUEUE}"), queue),
    ] {
        persist(&demo.http, &Request::put(demo.broker(&path)).json(&body)).await?;
    }
    Ok(())
}

/// Waits until the subscription and the queue have nothing left.
async fn drain(demo: &Demo) -> anyhow::Result<()> {
    let subscription =
        Request::get(demo.broker(&format!("/v1/topics/{TOPIC}/subscriptions/{SUBSCRIPTION}")));
    let queue = Request::get(demo.broker(&format!("/v1/queues/{QUEUE}")));
    let deadline = Instant::now() + DRAIN_TIMEOUT;
    loop {
        let of: api::broker::SubscriptionView =
            persist(&demo.http, &subscription).await?.parse()?;
        let jobs: api::broker::QueueView = persist(&demo.http, &queue).await?.parse()?;
        let left = of.stats.lag + of.stats.in_flight + of.stats.retrying + jobs.stats.messages;
        if left == 0 {
            return Ok(());
        }
        demo.progress.set_message(format!("{left} still to be counted"));
        if deadline <= Instant::now() {
            bail!(
                "{left} messages are still not acknowledged {} s after the last publish",
                DRAIN_TIMEOUT.as_secs()
            );
        }
        sleep(Duration::from_millis(100)).await;
    }
}

impl Demo {
    fn broker(&self, path: &str) -> String {
        format!("{}/broker{path}", self.gateway)
    }
}

fn bar(rows: u64) -> ProgressBar {
    // Hidden by itself where stderr is no terminal.
    let bar = ProgressBar::new(rows);
    bar.set_style(
        ProgressStyle::with_template("  {bar:40} {pos}/{len} flights published  {msg}")
            .expect("the template names known fields only"),
    );
    bar
}

/// Where the totals of a carrier are kept.
fn key(kind: &str, carrier: &str) -> String {
    format!("demo/{kind}/{carrier}")
}
