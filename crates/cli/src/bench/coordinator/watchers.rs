//! Many watchers of one prefix: does each see every change once and in order, and how soon?
//!
//! Puts come at a fixed rate, on connections of their own that each keep a timetable. A value
//! begins with the moment at which it was sent, so that a watcher knows how long the event took.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::Request;
use serde::Serialize;
use serde_json::json;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep, sleep_until};

use super::super::args::CoordinatorArgs;
use super::super::events::{Scanner, TIME_DIGITS};
use super::super::host;
use super::super::load::{Connection, Space, Stream, Tally, Target};
use super::super::systems::{Cluster, System};
use super::super::v3;
use super::operations::Api;
use super::{Source, SystemInfo, dataset};
use crate::output::{Table, note, say};

const PUTS_PER_SECOND: u64 = 1_000;
/// Enough that a put waits for its moment, not for the one before it.
const WRITERS: u64 = 64;
/// Keys that change.
const KEYS: u64 = 100;
/// After the last put is acknowledged, watchers get so long for what is still on its way.
const PATIENCE: Duration = Duration::from_secs(60);
/// Putting may take so many times as long as it should.
const LATE_MAX: u32 = 3;
/// How often to look whether all is seen.
const LOOK: Duration = Duration::from_millis(5);
/// All watches have to be open by then.
const OPENING_MAX: Duration = Duration::from_secs(60);

/// What the watchers of one system saw.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Watching {
    pub(super) system: System,
    pub(super) api: &'static str,
    pub(super) watchers: u64,
    pub(super) puts: u64,
    pub(super) puts_per_second: f64,
    pub(super) delivered: u64,
    /// Puts that were not acknowledged: they may have happened or not.
    pub(super) failed_puts: u64,
    /// Events of acknowledged puts that a watcher has not seen.
    pub(super) missing: u64,
    /// Events that came twice or after a later one.
    pub(super) disordered: u64,
    /// How often a new term began meanwhile.
    pub(super) elections: u64,
    /// From sending the put to reading the event.
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
    /// Cores in use from the first put to the last event: of all servers, and of the generator.
    pub(super) server_cores: Option<f64>,
    pub(super) generator_cores: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_error: Option<String>,
}

pub(super) async fn measure(
    args: &CoordinatorArgs,
    source: &Source,
    known: &mut Vec<SystemInfo>,
) -> anyhow::Result<Vec<Watching>> {
    host::raise_open_files();
    let mut all = Vec::new();
    for system in source.systems(args) {
        for &api in Api::of(system) {
            note!("{} watchers: {} {}", args.watchers(), system.name(), api.watch());
            let cluster = source.start(system, known).await?;
            all.push(watch_all(args, &cluster, api).await?);
            cluster.stop().await?;
        }
    }
    Ok(all)
}

/// What writers and watchers have in common.
struct Job {
    targets: Vec<Target>,
    api: Api,
    watchers: u64,
    puts: u64,
    /// Times in values count from here.
    epoch: Instant,
}

async fn watch_all(
    args: &CoordinatorArgs,
    cluster: &Cluster,
    api: Api,
) -> anyhow::Result<Watching> {
    let (leader, term) = (cluster.leader().await?, cluster.term().await?);
    let job = Arc::new(Job {
        targets: cluster.targets(leader),
        api,
        watchers: args.watchers(),
        puts: PUTS_PER_SECOND * args.watch_seconds(),
        epoch: Instant::now(),
    });
    let (opened, mut open) = watch::channel(0);
    let (finish, expected) = oneshot::channel();
    let (sender, result) = oneshot::channel();
    let thread_job = job.clone();
    std::thread::Builder::new()
        .name("watchers".to_owned())
        .spawn(move || {
            // Nobody listens any more after Ctrl-C.
            let _ = sender.send(run_watchers(&thread_job, &opened, expected));
        })
        .context("cannot start a thread")?;
    tokio::time::timeout(OPENING_MAX, open.wait_for(|open| *open == job.watchers))
        .await
        .context("the watches do not open")??;

    let times = || (cluster.cpu_times(leader), host::cpu_time(std::process::id()));
    let (began, before) = (Instant::now(), times());
    let sent = put_all(&job).await?;
    let putting = began.elapsed();
    // If they have panicked, the next line says so.
    let _ = finish.send(sent.puts - sent.failed);
    let board = result.await.context("the watchers panicked")??;
    let (took, after) = (began.elapsed().as_secs_f64(), times());
    let sum = |times: &Option<Vec<Duration>>| times.as_ref().map(|all| all.iter().sum());
    let cores = |before: Option<Duration>, after: Option<Duration>| {
        Some(after?.saturating_sub(before?).as_secs_f64() / took)
    };
    let delivered = board.watchers.iter().map(|watcher| watcher.seen).sum();
    Ok(Watching {
        system: cluster.system,
        api: api.watch(),
        watchers: job.watchers,
        puts: sent.puts,
        puts_per_second: sent.puts as f64 / putting.as_secs_f64(),
        delivered,
        failed_puts: sent.failed,
        missing: board.missing(sent.puts - sent.failed),
        elections: cluster.term().await?.saturating_sub(term),
        disordered: board.watchers.iter().map(|watcher| watcher.disordered).sum(),
        p50_ms: board.tally.quantile_ms(0.5),
        p99_ms: board.tally.quantile_ms(0.99),
        max_ms: board.tally.max_ms(),
        server_cores: cores(sum(&before.0), sum(&after.0)),
        generator_cores: cores(before.1, after.1),
        first_error: board.tally.first_error.or(sent.first_error),
    })
}

/// Every writer keeps its own timetable; one that is late sends at once, but not for ever.
async fn put_all(job: &Arc<Job>) -> anyhow::Result<Sent> {
    let begin = Instant::now();
    let stop = begin + Duration::from_secs(job.puts / PUTS_PER_SECOND) * LATE_MAX;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let job = job.clone();
        writers.spawn(async move {
            let mut sent = Sent::default();
            let target = &job.targets[writer as usize % job.targets.len()];
            let mut open = None;
            for put in (writer..job.puts).step_by(WRITERS as usize) {
                sleep_until(begin + Duration::from_micros(put * 1_000_000 / PUTS_PER_SECOND)).await;
                if stop <= Instant::now() {
                    break;
                }
                sent.puts += 1;
                if let Err(error) = job.put(target, &mut open, put).await {
                    sent.failed += 1;
                    sent.first_error.get_or_insert(format!("a put at {target}: {error:#}"));
                    open = None;
                }
            }
            sent
        });
    }
    let mut all = Sent::default();
    while let Some(ended) = writers.join_next().await {
        let ended = ended.context("a writer panicked")?;
        all.puts += ended.puts;
        all.failed += ended.failed;
        all.first_error = all.first_error.or(ended.first_error);
    }
    Ok(all)
}

#[derive(Default)]
struct Sent {
    puts: u64,
    /// Nobody knows whether these happened.
    failed: u64,
    first_error: Option<String>,
}

impl Job {
    async fn put(
        &self,
        target: &Target,
        open: &mut Option<Connection>,
        number: u64,
    ) -> anyhow::Result<()> {
        let connection = match open {
            Some(connection) => connection,
            closed => closed.insert(Connection::open(target).await?),
        };
        let answer = connection.send(self.request(number)).await?;
        ensure!(answer.status.is_success(), "it is answered {answer}");
        Ok(())
    }

    fn request(&self, number: u64) -> Request<Bytes> {
        let key = format!("watched/{:04}", number % KEYS);
        let filler = dataset::value(number as usize);
        let sent_us = self.epoch.elapsed().as_micros();
        let value = format!("{sent_us:0TIME_DIGITS$}{}", &filler[TIME_DIGITS..]);
        self.api.put(&key, &value)
    }

    fn watch(&self) -> Request<Bytes> {
        match self.api {
            Api::V1 => Request::get("/v1/watch?prefix=watched/")
                .body(Bytes::new())
                .expect("it is a constant"),
            Api::V3 => {
                let range =
                    json!({ "key": v3::base64(b"watched/"), "range_end": v3::base64(b"watched0") });
                v3::request("/v3/watch", json!({ "create_request": range }).to_string())
            }
        }
    }
}

/// What all watchers of the thread write on.
struct Board {
    watchers: Vec<Watcher>,
    tally: Tally,
}

impl Board {
    fn missing(&self, events: u64) -> u64 {
        self.watchers.iter().map(|watcher| events.saturating_sub(watcher.seen)).sum()
    }
}

#[derive(Clone, Copy, Default)]
struct Watcher {
    newest: u64,
    seen: u64,
    disordered: u64,
}

impl Watcher {
    fn sees(&mut self, revision: u64) {
        if revision <= self.newest {
            self.disordered += 1;
        }
        self.newest = self.newest.max(revision);
        self.seen += 1;
    }
}

/// Until all have seen as many events as are `expected`, or [`PATIENCE`] is over.
fn run_watchers(
    job: &Arc<Job>,
    opened: &watch::Sender<u64>,
    expected: oneshot::Receiver<u64>,
) -> anyhow::Result<Board> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let watchers = vec![Watcher::default(); job.watchers as usize];
    let board = Rc::new(RefCell::new(Board { watchers, tally: Tally::new() }));
    let space = Rc::new(Space::default());
    LocalSet::new().block_on(&runtime, async {
        let mut watching = JoinSet::new();
        for number in 0..job.watchers as usize {
            let (job, board, opened) = (job.clone(), board.clone(), opened.clone());
            let space = space.clone();
            watching.spawn_local(async move {
                let Err(error) = watch_one(&job, number, &board, &space, &opened).await;
                board.borrow_mut().tally.fail(1, || format!("watcher {number}: {error:#}"));
            });
        }
        // Without a number the writers have failed: then nobody waits for us either.
        let Ok(expected) = expected.await else { return };
        let deadline = Instant::now() + PATIENCE;
        while 0 < board.borrow().missing(expected) && Instant::now() < deadline {
            sleep(LOOK).await;
        }
    });
    let empty = Board { watchers: Vec::new(), tally: Tally::new() };
    Ok(board.replace(empty))
}

async fn watch_one(
    job: &Job,
    number: usize,
    board: &RefCell<Board>,
    space: &Space,
    opened: &watch::Sender<u64>,
) -> anyhow::Result<Infallible> {
    let target = &job.targets[number % job.targets.len()];
    let mut stream = Stream::open(target, &job.watch()).await?;
    let mut scanner = Scanner::new(job.api.shape());
    // What is sent before the first put, until it says that the watch is open.
    let mut greeting = Some(Vec::new());
    loop {
        let read = stream.read(space, |part| {
            if let Some(text) = &mut greeting {
                text.extend_from_slice(part);
                if scanner.opens(text) {
                    greeting = None;
                    opened.send_modify(|open| *open += 1);
                }
                return;
            }
            let Board { watchers, tally } = &mut *board.borrow_mut();
            let watcher = &mut watchers[number];
            let now = job.epoch.elapsed();
            scanner.feed(part, |event| {
                tally.took(now.saturating_sub(Duration::from_micros(event.sent_us)));
                watcher.sees(event.revision);
            });
        });
        read.await?;
    }
}

pub(super) fn print(all: &[Watching]) {
    let mut table = Table::new([
        "SYSTEM",
        "WATCHERS",
        "PUTS/S",
        "FAILED",
        "DELIVERED",
        "MISSING",
        "DISORDERED",
        "ELECTIONS",
        "P50 MS",
        "P99 MS",
        "MAX MS",
        "SERVER CORES",
        "GENERATOR CORES",
    ]);
    for one in all {
        let cores =
            |cores: Option<f64>| cores.map_or_else(String::new, |cores| format!("{cores:.2}"));
        table.row([
            format!("{} {}", one.system.name(), one.api),
            one.watchers.to_string(),
            format!("{:.0}", one.puts_per_second),
            one.failed_puts.to_string(),
            one.delivered.to_string(),
            one.missing.to_string(),
            one.disordered.to_string(),
            one.elections.to_string(),
            format!("{:.1}", one.p50_ms),
            format!("{:.1}", one.p99_ms),
            format!("{:.1}", one.max_ms),
            cores(one.server_cores),
            cores(one.generator_cores),
        ]);
    }
    (1..=12).for_each(|column| table.right(column));
    table.print();
    for one in all {
        if let Some(error) = &one.first_error {
            say!("{} {}: the first error: {error}", one.system.name(), one.api);
        }
    }
}
