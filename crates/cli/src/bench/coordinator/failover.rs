//! The leader is killed, again and again, while somebody writes and somebody reads.
//!
//! A writer puts one key after the other and goes on with the next node when one refuses, breaks
//! or says nothing for [`PATIENCE`]. A reader counts the keys, linearizably, and goes round the
//! nodes in the same way. Keys are never deleted, so the count may not fall, nor be below what was
//! acknowledged before the read began; in the end every acknowledged key has to be there.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::super::args::CoordinatorArgs;
use super::super::load::{Connection, Target};
use super::super::report::median;
use super::super::systems::{Cluster, System};
use super::super::v3;
use super::{Source, SystemInfo, dataset};
use crate::output::{Table, note};

/// How long a client waits before it asks another node. Adds to what is measured, for all alike.
const PATIENCE: Duration = Duration::from_millis(100);
/// Between a failure and the next attempt.
const PAUSE: Duration = Duration::from_millis(2);
/// Between two reads: the reader checks, it is no load.
const BETWEEN_READS: Duration = Duration::from_millis(5);
/// Writes go well for so long before the leader is killed.
const CALM: Duration = Duration::from_millis(500);
/// Nobody waits longer for a new leader.
const OUTAGE_MAX: Duration = Duration::from_secs(60);
/// The last acknowledged writes are looked for so long.
const RECOVERY_MAX: Duration = Duration::from_secs(60);

/// What became of one system.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Failover {
    pub(super) system: System,
    /// From the kill to the next write that was sent after it and acknowledged.
    pub(super) outages_ms: Vec<f64>,
    pub(super) median_ms: f64,
    pub(super) max_ms: f64,
    pub(super) acknowledged: usize,
    /// Acknowledged, but not there in the end.
    pub(super) lost: usize,
    pub(super) reads: usize,
    /// Reads that saw less than a read before, or less than was acknowledged.
    pub(super) stale_reads: usize,
}

pub(super) async fn measure(
    args: &CoordinatorArgs,
    source: &Source,
    known: &mut Vec<SystemInfo>,
) -> anyhow::Result<Vec<Failover>> {
    let mut all = Vec::new();
    for system in source.systems(args) {
        note!("killing the leader {} times: {}", args.kills(), system.name());
        let mut cluster = source.start(system, known).await?;
        all.push(kill_leaders(&mut cluster, args.kills()).await?);
        cluster.stop().await?;
    }
    Ok(all)
}

pub(super) fn print(all: &[Failover]) {
    let mut table = Table::new([
        "SYSTEM",
        "KILLS",
        "MEDIAN MS",
        "MAX MS",
        "ACKNOWLEDGED",
        "LOST",
        "READS",
        "STALE READS",
    ]);
    for one in all {
        table.row([
            one.system.name().to_owned(),
            one.outages_ms.len().to_string(),
            format!("{:.0}", one.median_ms),
            format!("{:.0}", one.max_ms),
            one.acknowledged.to_string(),
            one.lost.to_string(),
            one.reads.to_string(),
            one.stale_reads.to_string(),
        ]);
    }
    (1..=7).for_each(|column| table.right(column));
    table.print();
}

async fn kill_leaders(cluster: &mut Cluster, kills: u8) -> anyhow::Result<Failover> {
    let targets = cluster.targets(0);
    let shared = Shared::default();
    let outages = {
        let clients = async { tokio::join!(write(&shared, &targets), read(&shared, &targets)) };
        tokio::select! {
            outages = kill_all(cluster, kills, &shared) => outages?,
            _ = clients => unreachable!("clients go on until they are dropped"),
        }
    };
    let acknowledged = shared.acknowledged.into_inner();
    let present = timeout(RECOVERY_MAX, present(&targets)).await.context("no node answers")??;
    Ok(Failover {
        system: cluster.system,
        median_ms: median(outages.iter().copied()),
        max_ms: outages.iter().copied().fold(0.0, f64::max),
        outages_ms: outages,
        lost: acknowledged.difference(&present).count(),
        acknowledged: acknowledged.len(),
        reads: shared.reads.get(),
        stale_reads: shared.stale_reads.get(),
    })
}

/// What the clients know of each other.
#[derive(Default)]
struct Shared {
    acknowledged: RefCell<BTreeSet<usize>>,
    /// When the newest acknowledged write was sent and answered.
    newest: Cell<Option<(Instant, Instant)>>,
    reads: Cell<usize>,
    stale_reads: Cell<usize>,
}

async fn kill_all(cluster: &mut Cluster, kills: u8, shared: &Shared) -> anyhow::Result<Vec<f64>> {
    let mut outages = Vec::new();
    for _ in 0..kills {
        sleep(CALM).await;
        let leader = cluster.leader().await?;
        let Some(process) = &mut cluster.members[leader].process else {
            bail!("only a cluster that was started here can be killed; leave out --endpoints");
        };
        let killed = Instant::now();
        process.start_kill()?;
        let acknowledged = loop {
            if let Some((sent, answered)) = shared.newest.get()
                && killed < sent
            {
                break answered;
            }
            ensure!(killed.elapsed() < OUTAGE_MAX, "no write is acknowledged for {OUTAGE_MAX:?}");
            sleep(Duration::from_millis(1)).await;
        };
        outages.push((acknowledged - killed).as_secs_f64() * 1e3);
        process.restart().await?;
        cluster.wait_ready().await?;
    }
    Ok(outages)
}

async fn write(shared: &Shared, targets: &[Target]) {
    let mut client = Client::new(targets);
    for number in 0.. {
        let put = dataset::put(&key(number), &dataset::value(number));
        let sent = Instant::now();
        // What was not acknowledged may be there or not; the next is another key.
        if client.ask("/v3/kv/put", &put).await.is_some() {
            shared.acknowledged.borrow_mut().insert(number);
            shared.newest.set(Some((sent, Instant::now())));
        }
    }
}

async fn read(shared: &Shared, targets: &[Target]) {
    let mut client = Client::new(targets);
    let mut seen = 0;
    let mut count_all = all_keys();
    count_all["count_only"] = Value::Bool(true);
    loop {
        let at_least = shared.acknowledged.borrow().len().max(seen);
        if let Some(answer) = client.ask("/v3/kv/range", &count_all).await {
            let count = answer["count"].as_str().and_then(|count| count.parse().ok()).unwrap_or(0);
            shared.reads.set(shared.reads.get() + 1);
            if count < at_least {
                shared.stale_reads.set(shared.stale_reads.get() + 1);
            }
            seen = seen.max(count);
        }
        sleep(BETWEEN_READS).await;
    }
}

/// Goes from node to node until one answers.
async fn present(targets: &[Target]) -> anyhow::Result<BTreeSet<usize>> {
    let mut names_only = all_keys();
    names_only["keys_only"] = Value::Bool(true);
    let mut client = Client { patience: RECOVERY_MAX, ..Client::new(targets) };
    loop {
        let Some(answer) = client.ask("/v3/kv/range", &names_only).await else { continue };
        let found = answer["kvs"].as_array().map_or(&[][..], Vec::as_slice);
        return found
            .iter()
            .map(|found| {
                let key = v3::text(&found["key"]).context("a key that nobody has put")?;
                let (_, number) = key.rsplit_once('/').context("a key without a number")?;
                number.parse().context("a key without a number")
            })
            .collect();
    }
}

fn key(number: usize) -> String {
    format!("failover/{number:08}")
}

/// `/` is followed by `0`.
fn all_keys() -> Value {
    json!({ "key": v3::base64(b"failover/"), "range_end": v3::base64(b"failover0") })
}

/// A client as people write them: it stays with a node until that one fails it.
struct Client<'a> {
    targets: &'a [Target],
    current: usize,
    open: Option<Connection>,
    patience: Duration,
}

impl<'a> Client<'a> {
    fn new(targets: &'a [Target]) -> Self {
        Self { targets, current: 0, open: None, patience: PATIENCE }
    }

    /// `None`: it failed, or nobody knows. The next call goes to the next node.
    async fn ask(&mut self, path: &str, body: &Value) -> Option<Value> {
        let exchange = async {
            let target = &self.targets[self.current];
            let connection = match &mut self.open {
                Some(connection) => connection,
                closed => closed.insert(Connection::open(target).await?),
            };
            v3::call(connection, path, body).await
        };
        if let Ok(Ok(answer)) = timeout(self.patience, exchange).await {
            return Some(answer);
        }
        self.open = None;
        self.current = (self.current + 1) % self.targets.len();
        sleep(PAUSE).await;
        None
    }
}
