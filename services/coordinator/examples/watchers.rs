//! Many watchers of one prefix: does each see every change once and in order, and how soon?
//!
//! `cargo run --release -p coordinator --example watchers -- [WATCHERS] [PUTS_PER_SECOND] [SECONDS]`
//! starts a coordinator with a directory of its own in this process, so that servers and clients
//! share the machine, and prints how long a change took from its PUT to each watcher.
#![expect(clippy::unwrap_used, reason = "a measurement that fails has failed")]

use std::time::Duration;

use coordinator::Config;
use reqwest::{Client, Response};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

const VALUE_BYTES: usize = 256;
/// How long a watcher waits for its next event before it says that one is missing.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() {
    let arguments: Vec<u64> =
        std::env::args().skip(1).map(|text| text.parse().expect("three whole numbers")).collect();
    let argument = |at: usize, default| arguments.get(at).copied().unwrap_or(default);
    let (watchers, rate, seconds) = (argument(0, 1_000), argument(1, 1_000), argument(2, 10));
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.base.data_dir = dir.path().to_owned();
    let running = chassis::testing::start(config, coordinator::start).await;

    let (start, total) = (Instant::now(), rate * seconds);
    let (opened, mut open) = mpsc::channel(1);
    let mut watching = JoinSet::new();
    for _ in 0..watchers {
        let (url, opened) = (format!("{}/v1/watch?prefix=w/", running.url), opened.clone());
        watching.spawn(async move { Watcher::open(url, opened).await.watch(total, start).await });
    }
    for _ in 0..watchers {
        open.recv().await.unwrap();
    }
    let began = Instant::now();
    put_all(&running.url, total, rate, start).await;
    println!("{total} puts in {:.1} s, {watchers} watchers", began.elapsed().as_secs_f64());
    let seen = watching.join_all().await;
    println!("every event seen {:.1} s after the first put", began.elapsed().as_secs_f64());
    let mut took_ms: Vec<u32> = seen.into_iter().flatten().collect();
    took_ms.sort_unstable();
    let at = |share: f64| took_ms[((took_ms.len() - 1) as f64 * share) as usize];
    println!("ms until an event was seen: p50 {}, p99 {}, max {}", at(0.5), at(0.99), at(1.0));
    running.stop().await;
}

/// One put every 1/rate seconds, whether or not those before are answered.
async fn put_all(url: &str, total: u64, rate: u64, start: Instant) {
    let (http, mut puts) = (Client::new(), JoinSet::new());
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate).unwrap());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for at in 0..total {
        ticks.tick().await;
        let sent_us = start.elapsed().as_micros();
        let value = format!("{sent_us:<VALUE_BYTES$}");
        let put = http.put(format!("{url}/v1/kv/w/{}", at % 100)).body(value);
        puts.spawn(async move {
            let status = put.send().await.unwrap().status();
            assert!(status.is_success(), "a put was answered {status}");
        });
    }
    puts.join_all().await;
}

struct Watcher {
    response: Response,
    buffer: Vec<u8>,
}

impl Watcher {
    async fn open(url: String, opened: mpsc::Sender<()>) -> Self {
        // A client of its own: a connection of its own.
        let mut response = Client::new().get(url).send().await.unwrap();
        // The first bookmark: from here on it counts.
        let mut buffer = Vec::new();
        while find(&buffer, b"event: bookmark")
            .is_none_or(|at| find(&buffer[at..], b"\n\n").is_none())
        {
            buffer.extend_from_slice(&response.chunk().await.unwrap().unwrap());
        }
        buffer.clear();
        opened.send(()).await.unwrap();
        Self { response, buffer }
    }

    /// How long each event took, in milliseconds.
    async fn watch(mut self, total: u64, start: Instant) -> Vec<u32> {
        let (mut took_ms, mut last) = (Vec::new(), 0);
        while (took_ms.len() as u64) < total {
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
            let chunk = chunk.expect("no event is missing").unwrap().expect("the stream goes on");
            self.buffer.extend_from_slice(&chunk);
            let now_us = start.elapsed().as_micros();
            let mut read = 0;
            while let Some(end) = find(&self.buffer[read..], b"\n\n") {
                let event = &self.buffer[read..read + end];
                read += end + 2;
                if find(event, b"event: put").is_none() {
                    continue;
                }
                let revision = number(event, b"\"revision\":");
                assert!(last < revision, "{revision} after {last}");
                last = revision;
                let sent_us = number(event, b"\"value\":\"");
                took_ms.push(u32::try_from((now_us - u128::from(sent_us)) / 1000).unwrap());
            }
            self.buffer.drain(..read);
        }
        took_ms
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|part| part == what)
}

fn number(event: &[u8], behind: &[u8]) -> u64 {
    let at = find(event, behind).expect("an event has it") + behind.len();
    event[at..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |number, byte| number * 10 + u64::from(byte - b'0'))
}
