//! The leader of a topic is killed, again and again, while somebody publishes and a subscription
//! consumes.
//!
//! A publisher sends one number after the other, each until it is acknowledged: what was answered
//! by nobody may be there twice then. A consumer pulls and acknowledges. In the end every
//! acknowledged number has to be in the topic, and with the consumer.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::Request;
use http::header::ACCEPT;
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::super::load::{Answer, Connection, Target};
use super::super::report::median;
use super::super::systems::{Cluster, System};
use super::args::BrokerArgs;
use super::cycle::Received;
use super::{Source, api};
use crate::output::{Table, note};

const NODES: u16 = 3;
const SIZE: usize = 256;
const TOPIC: &str = "failover";
/// How long a client waits before it asks another node. A broker holds requests until there is a
/// new leader, so it is longer than that may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between a failure and the next attempt.
const PAUSE: Duration = Duration::from_millis(2);
/// Publishing goes well for so long before the leader is killed.
const CALM: Duration = Duration::from_secs(1);
/// Nobody waits longer for a new leader.
const OUTAGE_MAX: Duration = Duration::from_secs(60);
/// What is left gets so long to be consumed, which may wait for the deadline of a delivery.
const DRAIN_MAX: Duration = Duration::from_secs(60);
const ACK_SECONDS: u64 = 5;
/// A page of the topic.
const PAGE: u64 = 5_000;

#[derive(Clone, Debug, Serialize)]
pub(super) struct Failover {
    /// From the kill to the next publish that was sent after it and acknowledged.
    pub(super) outages_ms: Vec<f64>,
    pub(super) median_ms: f64,
    pub(super) max_ms: f64,
    pub(super) acknowledged: usize,
    /// Acknowledged, but not in the topic in the end.
    pub(super) lost: usize,
    /// In the topic once too often: published again after no answer.
    pub(super) duplicates: usize,
    pub(super) consumed: usize,
    /// In the topic, but never given to the consumer.
    pub(super) not_consumed: usize,
    /// Given to the consumer again, at the same place in the topic.
    pub(super) redelivered: usize,
}

pub(super) async fn measure(args: &BrokerArgs, source: &mut Source) -> anyhow::Result<Failover> {
    note!("killing the leader {} times", args.kills());
    let mut cluster = source.start(System::Quartet, NODES).await?;
    api::create_topic(&cluster, TOPIC).await?;
    api::leader(&cluster, TOPIC).await?;
    let targets = cluster.targets(0);
    let shared = Shared::default();
    let mut client = Client::new(&targets);
    let settings = json!({ "start": "earliest", "ack_deadline_seconds": ACK_SECONDS });
    let subscribe = api::request(
        http::Method::PUT,
        &format!("/v1/topics/{TOPIC}/subscriptions/all"),
        "application/json",
        settings.to_string(),
    );
    client.until_answered(&subscribe).await;
    let (outages, there) = {
        let publisher = async {
            tokio::select! {
                outages = kill_all(&mut cluster, args.kills(), &shared) => outages,
                () = publish(&shared, &targets) => unreachable!("it goes on until it is dropped"),
            }
        };
        let measured = async {
            let outages = publisher.await?;
            let there =
                timeout(DRAIN_MAX, content(&targets)).await.context("no node answers")??;
            drain(&shared, &there).await;
            anyhow::Ok((outages, there))
        };
        tokio::select! {
            measured = measured => measured?,
            () = consume(&shared, &targets) => unreachable!("it goes on until it is dropped"),
        }
    };
    cluster.stop().await?;
    Ok(judge(outages, &there, &shared))
}

/// How often each number is in the topic.
type Content = BTreeMap<u64, usize>;

fn judge(outages_ms: Vec<f64>, there: &Content, shared: &Shared) -> Failover {
    let acknowledged = shared.acknowledged.borrow();
    let consumed = shared.consumed.borrow();
    Failover {
        median_ms: median(outages_ms.iter().copied()),
        max_ms: outages_ms.iter().copied().fold(0.0, f64::max),
        outages_ms,
        acknowledged: acknowledged.len(),
        lost: acknowledged.iter().filter(|number| !there.contains_key(number)).count(),
        duplicates: there.values().map(|times| times - 1).sum(),
        consumed: consumed.len(),
        not_consumed: there.keys().filter(|number| !consumed.contains(number)).count(),
        redelivered: shared.redelivered.get(),
    }
}

/// What the clients know of each other.
#[derive(Default)]
struct Shared {
    acknowledged: RefCell<BTreeSet<u64>>,
    /// When the newest acknowledged publish was sent and answered.
    newest: Cell<Option<(Instant, Instant)>>,
    consumed: RefCell<BTreeSet<u64>>,
    redelivered: Cell<usize>,
}

async fn kill_all(cluster: &mut Cluster, kills: u8, shared: &Shared) -> anyhow::Result<Vec<f64>> {
    let mut outages = Vec::new();
    for _ in 0..kills {
        sleep(CALM).await;
        let leader = api::leader(cluster, TOPIC).await?;
        let Some(process) = &mut cluster.members[leader].process else {
            bail!("it was not started here");
        };
        let killed = Instant::now();
        process.start_kill()?;
        let acknowledged = loop {
            if let Some((sent, answered)) = shared.newest.get()
                && killed < sent
            {
                break answered;
            }
            ensure!(killed.elapsed() < OUTAGE_MAX, "nothing is acknowledged for {OUTAGE_MAX:?}");
            sleep(Duration::from_millis(1)).await;
        };
        outages.push((acknowledged - killed).as_secs_f64() * 1e3);
        process.restart().await?;
        cluster.wait_ready().await?;
    }
    Ok(outages)
}

async fn publish(shared: &Shared, targets: &[Target]) {
    let mut client = Client::new(targets);
    let (path, payload) = (api::messages_of(TOPIC), api::payload(0, SIZE));
    for number in 0.. {
        let request = api::publish(&path, api::timed(number, &payload));
        let (sent, _) = client.until_answered(&request).await;
        shared.acknowledged.borrow_mut().insert(number);
        shared.newest.set(Some((sent, Instant::now())));
    }
}

async fn consume(shared: &Shared, targets: &[Target]) {
    let mut client = Client::new(targets);
    let path = |what| format!("/v1/topics/{TOPIC}/subscriptions/all/{what}");
    let pull = api::post(&path("pull"), &json!({ "max": 100, "wait_seconds": 1 }));
    let mut offsets = BTreeSet::new();
    loop {
        let (_, answer) = client.until_answered(&pull).await;
        let Ok(received) = Received::read(&answer.body) else { continue };
        if received.ack_ids.is_empty() {
            continue;
        }
        // The fourth part of an ack id is the message.
        for ack_id in &received.ack_ids {
            let message = ack_id.split('.').nth(3).unwrap_or_default().to_owned();
            if !offsets.insert(message) {
                shared.redelivered.set(shared.redelivered.get() + 1);
            }
        }
        shared.consumed.borrow_mut().extend(received.numbers);
        client.ask(&api::post(&path("ack"), &json!({ "ack_ids": received.ack_ids }))).await;
    }
}

/// Waits for the consumer, but not for ever: [`judge`] counts what is missing.
async fn drain(shared: &Shared, there: &Content) {
    let deadline = Instant::now() + DRAIN_MAX;
    while Instant::now() < deadline
        && there.keys().any(|number| !shared.consumed.borrow().contains(number))
    {
        sleep(CALM).await;
    }
}

/// Reads all of the topic.
async fn content(targets: &[Target]) -> anyhow::Result<Content> {
    let mut client = Client::new(targets);
    let (mut content, mut next) = (Content::new(), 0);
    loop {
        let request = Request::get(format!("{}?from={next}&limit={PAGE}", api::messages_of(TOPIC)))
            .header(ACCEPT, "application/json")
            .body(Bytes::new())
            .expect("it is made of constants and numbers");
        let (_, answer) = client.until_answered(&request).await;
        let numbers = super::cycle::numbers(&answer.body)?;
        if numbers.is_empty() {
            return Ok(content);
        }
        next += numbers.len() as u64;
        for number in numbers {
            *content.entry(number).or_default() += 1;
        }
    }
}

/// A client as people write them: it stays with a node until that one fails it.
struct Client<'a> {
    targets: &'a [Target],
    current: usize,
    open: Option<Connection>,
}

impl<'a> Client<'a> {
    fn new(targets: &'a [Target]) -> Self {
        Self { targets, current: 0, open: None }
    }

    /// When the attempt that succeeded was made, and its answer.
    async fn until_answered(&mut self, request: &Request<Bytes>) -> (Instant, Answer) {
        loop {
            let sent = Instant::now();
            if let Some(answer) = self.ask(request).await {
                return (sent, answer);
            }
        }
    }

    /// `None`: it failed, or nobody knows. The next call goes to the next node.
    async fn ask(&mut self, request: &Request<Bytes>) -> Option<Answer> {
        let exchange = async {
            let target = &self.targets[self.current];
            let connection = match &mut self.open {
                Some(connection) => connection,
                closed => closed.insert(Connection::open(target).await?),
            };
            connection.send(request.clone()).await
        };
        if let Ok(Ok(answer)) = timeout(PATIENCE, exchange).await
            && answer.status.is_success()
        {
            return Some(answer);
        }
        self.open = None;
        self.current = (self.current + 1) % self.targets.len();
        sleep(PAUSE).await;
        None
    }
}

pub(super) fn print(one: &Failover) {
    let mut table = Table::new([
        "KILLS",
        "MEDIAN MS",
        "MAX MS",
        "ACKNOWLEDGED",
        "LOST",
        "DUPLICATES",
        "CONSUMED",
        "NOT CONSUMED",
        "REDELIVERED",
    ]);
    table.row([
        one.outages_ms.len().to_string(),
        format!("{:.0}", one.median_ms),
        format!("{:.0}", one.max_ms),
        one.acknowledged.to_string(),
        one.lost.to_string(),
        one.duplicates.to_string(),
        one.consumed.to_string(),
        one.not_consumed.to_string(),
        one.redelivered.to_string(),
    ]);
    (0..=8).for_each(|column| table.right(column));
    table.print();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_and_doubled_numbers_are_told_apart() {
        let shared = Shared::default();
        shared.acknowledged.borrow_mut().extend([1, 2, 3]);
        shared.consumed.borrow_mut().extend([1]);
        let found = judge(vec![5.0, 7.0], &[(1, 1), (2, 3)].into(), &shared);
        assert_eq!((found.lost, found.duplicates, found.not_consumed), (1, 2, 1));
        assert_eq!((found.median_ms, found.max_ms), (6.0, 7.0));
    }
}
