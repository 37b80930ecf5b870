//! What one log costs, and against what: `cargo bench -p storage`.
//!
//! First a table for the README: the raw write-and-fdatasync rate of the disk, then appends through
//! [`Wal`] with 1, 64 and 1,000 groups and 1 and 64 writers, each of whom waits until its entry is
//! durable. Rounds alternate, so that a noisy machine hurts all alike; medians count. Target: one
//! writer gets near the raw rate, 64 share its fsyncs, and 1,000 groups need no more than one.
//!
//! Then criterion measures reads: from the tail cache, and from disk.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use consensus::{GroupId, Index, Term};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use storage::{Config, Entry, FileSystem, RealFileSystem, SubmitError, Wal, Write};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

const PAYLOAD: usize = 256;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(800);
const CELLS: [(u64, u64); 6] = [(1, 1), (64, 1), (1_000, 1), (1, 64), (64, 64), (1_000, 64)];

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

/// Syncs per second of 512-byte writes into a file that was written before.
fn raw_rate(dir: &Path) -> f64 {
    const SIZE: u64 = 16 << 20;
    let file = RealFileSystem.create(&dir.join("raw")).expect("a temporary file");
    file.write_at(&vec![0; SIZE as usize], 0).expect("space");
    file.sync_data().expect("a working disk");
    let (begin, mut syncs) = (now(), 0);
    while begin.elapsed() < ROUND {
        file.write_at(&[1; 512], syncs * 512 % SIZE).expect("inside the file");
        file.sync_data().expect("a working disk");
        syncs += 1;
    }
    per_second(syncs, begin)
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn per_second(count: u64, begin: Instant) -> f64 {
    count as f64 / begin.elapsed().as_secs_f64()
}

/// A log whose groups are written by many: whoever holds the lock knows the next index.
struct Shared {
    wal: Wal,
    next: Vec<Mutex<u64>>,
}

impl Shared {
    fn open(dir: &Path, groups: u64) -> Arc<Self> {
        let (wal, _) = Wal::open(Arc::new(RealFileSystem), dir, Config::default()).expect("opens");
        Arc::new(Self { wal, next: (0..groups).map(|_| Mutex::new(1)).collect() })
    }

    fn append(&self, turn: usize, payload: &Bytes) -> Result<storage::IoToken, SubmitError> {
        let group = turn % self.next.len();
        let mut next = self.next[group].lock().expect("no writer panics");
        let entry = Entry::command(Term(1), Index(*next), payload.clone());
        let group = GroupId(1 + group as u64);
        let token = self.wal.submit(vec![Write::Append { group, entries: vec![entry] }])?;
        *next += 1;
        Ok(token)
    }

    async fn append_until(self: Arc<Self>, mut turn: usize, begin: Instant) -> u64 {
        let payload = Bytes::from(vec![7; PAYLOAD]);
        let mut durable = self.wal.durable();
        let mut appended = 0;
        while begin.elapsed() < ROUND {
            turn += 1;
            match self.append(turn, &payload) {
                Ok(token) => {
                    durable.wait_for(|durable| durable.token >= token).await.expect("it runs");
                    appended += 1;
                }
                Err(SubmitError::QueueFull) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
        appended
    }
}

/// Appends and fsyncs per second.
fn append_rate(runtime: &Runtime, dir: &Path, groups: u64, writers: u64) -> (f64, f64) {
    let shared = Shared::open(dir, groups);
    // Until the spares are ready: a service that just started is not what is measured.
    for turn in 0..20 {
        let token = shared.append(turn, &Bytes::new()).expect("empty log");
        let mut durable = shared.wal.durable();
        runtime.block_on(durable.wait_for(|durable| durable.token >= token)).expect("it runs");
    }
    let (before, begin) = (shared.wal.stats().fsyncs, now());
    let appended = runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for writer in 0..writers {
            let first = usize::try_from(writer * groups / writers).expect("small");
            tasks.spawn(Arc::clone(&shared).append_until(first, begin));
        }
        tasks.join_all().await.into_iter().sum()
    });
    (per_second(appended, begin), per_second(shared.wal.stats().fsyncs - before, begin))
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Prints the table of the README.
fn table(_: &mut Criterion) {
    let runtime = Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let (mut raw, mut cells) = (Vec::new(), vec![(Vec::new(), Vec::new()); CELLS.len()]);
    for _ in 0..ROUNDS {
        let dir = tempfile::tempdir().expect("a temporary directory");
        raw.push(raw_rate(dir.path()));
        for ((groups, writers), cell) in CELLS.iter().zip(&mut cells) {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let (appends, fsyncs) = append_rate(&runtime, dir.path(), *groups, *writers);
            cell.0.push(appends);
            cell.1.push(fsyncs);
        }
    }
    let raw = median(raw);
    println!("raw: {raw:.0} fdatasync/s\n\n| groups | writers | appends/s | fsyncs/s | of raw |");
    println!("|---|---|---|---|---|");
    for ((groups, writers), (appends, fsyncs)) in CELLS.iter().zip(cells) {
        let (appends, fsyncs) = (median(appends), median(fsyncs));
        let of_raw = 100.0 * fsyncs / raw;
        println!("| {groups} | {writers} | {appends:.0} | {fsyncs:.0} | {of_raw:.0} % |");
    }
}

/// Reads of 64 KiB: the newest entries from memory, the oldest from disk (or the page cache).
fn reads(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = Config { cache_bytes: 1 << 20, ..Config::default() };
    let (wal, _) = Wal::open(Arc::new(RealFileSystem), dir.path(), config).expect("opens");
    let group = GroupId(1);
    let mut token = storage::IoToken(0);
    for first in (1..20_000).step_by(100) {
        let payload = Bytes::from(vec![7; PAYLOAD]);
        let entry = |index| Entry::command(Term(1), Index(index), payload.clone());
        let entries = (first..first + 100).map(entry).collect();
        token = wal.submit(vec![Write::Append { group, entries }]).expect("fits the queue");
    }
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(wal.durable().wait_for(|durable| durable.token >= token)).expect("it runs");

    let mut bench = c.benchmark_group("read_64_kib");
    bench.throughput(Throughput::Bytes(64 << 10));
    for (name, from) in [("cached", Index(19_500)), ("disk", Index(1_000))] {
        bench.bench_function(name, |b| {
            b.iter(|| wal.read(group, from, 64 << 10).expect("intact").len());
        });
    }
    bench.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3));
    targets = table, reads
}
criterion_main!(benches);
