//! Many readers of one topic: does each get every message once and in order, and how soon?
//!
//! Messages come at a fixed rate. Each begins with the moment at which it was sent, so that a
//! reader knows how long it took.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use http::Request;
use http::header::ACCEPT;
use serde::Serialize;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::super::events::{Scanner, Shape};
use super::super::host;
use super::super::load::{self, Connection, Space, Stream, Tally, Target};
use super::super::systems::{Cluster, System};
use super::args::BrokerArgs;
use super::{Source, api};
use crate::output::{Table, note, say};

const PER_SECOND: u64 = 100;
/// Enough that a message waits for its moment, not for the one before it.
const PUBLISHERS: u64 = 16;
const SIZE: usize = 256;
const TOPIC: &str = "fanout";
/// After the last message is acknowledged, readers get so long for what is still on its way.
const PATIENCE: Duration = Duration::from_secs(30);
/// All streams have to be open by then.
const OPENING_MAX: Duration = Duration::from_secs(60);
/// How often to look whether all is seen.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Clone, Debug, Serialize)]
pub(super) struct Fanout {
    pub(super) subscribers: usize,
    pub(super) messages: u64,
    pub(super) messages_per_second: f64,
    pub(super) delivered: u64,
    /// Messages that a reader has not seen.
    pub(super) missing: u64,
    /// Messages that came twice, or after a later one.
    pub(super) disordered: u64,
    /// From sending the message to reading it.
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
    pub(super) server_cores: Option<f64>,
    pub(super) generator_cores: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_error: Option<String>,
}

pub(super) async fn measure(args: &BrokerArgs, source: &mut Source) -> anyhow::Result<Fanout> {
    host::raise_open_files();
    note!("{} readers of one topic", args.subscribers());
    let cluster = source.start(System::Quartet, 1).await?;
    let found = read_all(args, &cluster).await?;
    cluster.stop().await?;
    Ok(found)
}

async fn read_all(args: &BrokerArgs, cluster: &Cluster) -> anyhow::Result<Fanout> {
    api::create_topic(cluster, TOPIC).await?;
    api::leader(cluster, TOPIC).await?;
    let target = cluster.members[0].target.clone();
    let (subscribers, messages) = (args.subscribers(), PER_SECOND * args.fanout_seconds());
    let epoch = Instant::now();
    let (opened, mut open) = watch::channel(0);
    let (finish, expected) = oneshot::channel();
    let readers = Readers { target: target.clone(), subscribers, epoch, opened };
    let reading = load::on_thread("readers", async move || Ok(readers.run(expected).await));
    let publishing = async {
        timeout(OPENING_MAX, open.wait_for(|open| *open == subscribers))
            .await
            .context("the streams do not open")??;
        let times = || (cluster.cpu_times(0), host::cpu_time(std::process::id()));
        let (began, before) = (Instant::now(), times());
        publish(&target, messages, epoch).await?;
        let took = began.elapsed();
        // If they have panicked, the next line says so.
        let _ = finish.send(messages);
        anyhow::Ok((took, before, times()))
    };
    let (board, published) = tokio::join!(reading, publishing);
    let ((took, before, after), board) = (published?, board?);
    let cores = |before: Option<Duration>, after: Option<Duration>| {
        Some(after?.saturating_sub(before?).as_secs_f64() / took.as_secs_f64())
    };
    let sum = |times: Option<Vec<Duration>>| times.map(|all| all.iter().sum());
    Ok(Fanout {
        subscribers,
        messages,
        messages_per_second: messages as f64 / took.as_secs_f64(),
        delivered: board.readers.iter().map(|reader| reader.seen).sum(),
        missing: board.missing(messages),
        disordered: board.readers.iter().map(|reader| reader.disordered).sum(),
        p50_ms: board.tally.quantile_ms(0.5),
        p99_ms: board.tally.quantile_ms(0.99),
        max_ms: board.tally.max_ms(),
        server_cores: cores(sum(before.0), sum(after.0)),
        generator_cores: cores(before.1, after.1),
        first_error: board.tally.first_error,
    })
}

/// Each publisher keeps its own timetable; one that is late sends at once.
async fn publish(target: &Target, messages: u64, epoch: Instant) -> anyhow::Result<()> {
    let (path, payload) = (&api::messages_of(TOPIC), &api::payload(0, SIZE));
    let begin = Instant::now();
    try_join_all((0..PUBLISHERS).map(async |publisher| {
        let mut connection = Connection::open(target).await?;
        for number in (publisher..messages).step_by(PUBLISHERS as usize) {
            sleep_until(begin + Duration::from_micros(number * 1_000_000 / PER_SECOND)).await;
            let sent_us = epoch.elapsed().as_micros() as u64;
            let answer = connection.send(api::publish(path, api::timed(sent_us, payload))).await?;
            ensure!(answer.status.is_success(), "publishing answers {answer}");
        }
        anyhow::Ok(())
    }))
    .await?;
    Ok(())
}

struct Readers {
    target: Target,
    subscribers: usize,
    /// Times in messages count from here.
    epoch: Instant,
    opened: watch::Sender<usize>,
}

/// What all readers write on.
struct Board {
    readers: Vec<Reader>,
    tally: Tally,
}

#[derive(Clone, Copy, Default)]
struct Reader {
    /// The offset that comes next.
    next: u64,
    seen: u64,
    disordered: u64,
}

impl Reader {
    fn sees(&mut self, offset: u64) {
        if offset < self.next {
            self.disordered += 1;
        } else {
            self.seen += 1;
            self.next = offset + 1;
        }
    }
}

impl Board {
    fn missing(&self, messages: u64) -> u64 {
        self.readers.iter().map(|reader| messages.saturating_sub(reader.seen)).sum()
    }
}

impl Readers {
    /// Until all have seen as many messages as are `expected`, or [`PATIENCE`] is over.
    async fn run(self, expected: oneshot::Receiver<u64>) -> Board {
        let readers = vec![Reader::default(); self.subscribers];
        let board = Rc::new(RefCell::new(Board { readers, tally: Tally::new() }));
        let (all, space) = (Rc::new(self), Rc::new(Space::default()));
        let mut reading = JoinSet::new();
        for number in 0..all.subscribers {
            let (all, board, space) = (all.clone(), board.clone(), space.clone());
            reading.spawn_local(async move {
                let Err(error) = all.read(number, &board, &space).await;
                board.borrow_mut().tally.fail(1, || format!("reader {number}: {error:#}"));
            });
        }
        // Without a number publishing has failed: then nobody waits for us either.
        if let Ok(expected) = expected.await {
            let deadline = Instant::now() + PATIENCE;
            while 0 < board.borrow().missing(expected) && Instant::now() < deadline {
                sleep(LOOK).await;
            }
        }
        drop(reading);
        board.replace(Board { readers: Vec::new(), tally: Tally::new() })
    }

    async fn read(
        &self,
        number: usize,
        board: &RefCell<Board>,
        space: &Space,
    ) -> anyhow::Result<Infallible> {
        let request = Request::get(format!("{}?from=earliest", api::messages_of(TOPIC)))
            .header(ACCEPT, "text/event-stream")
            .body(Bytes::new())
            .expect("it is a constant");
        let mut stream = Stream::open(&self.target, &request).await?;
        self.opened.send_modify(|open| *open += 1);
        let mut scanner = Scanner::new(Shape::Topic);
        loop {
            let read = stream.read(space, |part| {
                let Board { readers, tally } = &mut *board.borrow_mut();
                let now = self.epoch.elapsed();
                scanner.feed(part, |event| {
                    tally.took(now.saturating_sub(Duration::from_micros(event.sent_us)));
                    readers[number].sees(event.revision);
                });
            });
            read.await?;
        }
    }
}

pub(super) fn print(one: &Fanout) {
    let mut table = Table::new([
        "READERS",
        "MESSAGES/S",
        "DELIVERED",
        "MISSING",
        "DISORDERED",
        "P50 MS",
        "P99 MS",
        "MAX MS",
        "SERVER CORES",
        "GENERATOR CORES",
    ]);
    let cores = |cores: Option<f64>| cores.map_or_else(String::new, |cores| format!("{cores:.2}"));
    table.row([
        one.subscribers.to_string(),
        format!("{:.0}", one.messages_per_second),
        one.delivered.to_string(),
        one.missing.to_string(),
        one.disordered.to_string(),
        format!("{:.1}", one.p50_ms),
        format!("{:.1}", one.p99_ms),
        format!("{:.1}", one.max_ms),
        cores(one.server_cores),
        cores(one.generator_cores),
    ]);
    (0..=9).for_each(|column| table.right(column));
    table.print();
    if let Some(error) = &one.first_error {
        say!("the first error: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_or_late_is_disordered_and_does_not_stand_for_what_is_missing() {
        let mut reader = Reader::default();
        [0, 1, 1, 3, 2].into_iter().for_each(|offset| reader.sees(offset));
        assert_eq!((reader.seen, reader.disordered), (3, 2));
        let board = Board { readers: vec![reader], tally: Tally::new() };
        assert_eq!(board.missing(4), 1);
    }
}
