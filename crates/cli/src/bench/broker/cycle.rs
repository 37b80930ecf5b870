//! A queue at work: some send, one message at a time, others receive and acknowledge.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, ensure};
use http::Request;
use memchr::memmem;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::super::cpu;
use super::super::events::TIME_DIGITS;
use super::super::load::{self, Exchange, Tally, Target, Window, Written};
use super::super::report::Sample;
use super::super::systems::{Cluster, System};
use super::args::BrokerArgs;
use super::publish::WARM_UP;
use super::table::{self, Row};
use super::{Source, api, clients};
use crate::output::note;

/// So many send, and as many receive.
pub(super) const WORKERS: u16 = 16;
const SIZE: usize = 256;
/// How many messages a receiver takes at once.
const AT_ONCE: [u16; 2] = [1, 10];
const QUEUE: &str = "cycle";
const CAPACITY: usize = 2_000_000;
/// How long an answer may take that was asked for before the end.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CycleCase {
    pub(super) at_once: u16,
    pub(super) size: usize,
}

impl CycleCase {
    fn name(self) -> String {
        let many = match self.at_once {
            1 => "one at a time".to_owned(),
            many => format!("{many} at a time"),
        };
        format!("send, receive, ack, {WORKERS} + {WORKERS}, {many}")
    }
}

pub(super) async fn measure(args: &BrokerArgs, source: &mut Source) -> anyhow::Result<Vec<Row>> {
    let cases = AT_ONCE.map(|at_once| CycleCase { at_once, size: SIZE });
    let mut samples = BTreeMap::<(CycleCase, System), Vec<Sample>>::new();
    for run in 1..=args.runs() {
        for system in source.systems(run) {
            // The clients of the others only publish, or only consume.
            if !matches!(system, System::Quartet | System::RabbitMq) {
                continue;
            }
            note!("run {run} of {}: queue: {}", args.runs(), system.name());
            let cluster = source.start(system, 1).await?;
            for case in cases {
                let sample = match source.peer(system) {
                    Some(peer) => clients::cycle(peer, &cluster, case, args.window()).await?,
                    None => Some(sample(args, &cluster, case).await?),
                };
                samples.entry((case, system)).or_default().extend(sample);
            }
            cluster.stop().await?;
        }
    }
    let mut rows: Vec<Row> = samples
        .into_iter()
        .map(|((case, system), runs)| Row::new(case.name(), 1, system, runs))
        .collect();
    table::compare(&mut rows);
    Ok(rows)
}

async fn sample(args: &BrokerArgs, cluster: &Cluster, case: CycleCase) -> anyhow::Result<Sample> {
    let queue = format!("{QUEUE}-{}", case.at_once);
    api::create_queue(cluster, &queue, CAPACITY).await?;
    let leader = api::leader(cluster, &queue).await?;
    let window = Window::after(WARM_UP, args.window());
    let job = Job {
        target: cluster.targets(leader).swap_remove(0),
        queue,
        case,
        window,
        epoch: Instant::now(),
    };
    let work = load::on_thread("cycle", async move || job.run().await);
    let (tally, spent) = tokio::join!(work, cpu::spent(cluster, leader, window));
    Ok(Sample::new(&tally?, window, &spent))
}

struct Job {
    target: Target,
    queue: String,
    case: CycleCase,
    window: Window,
    /// Times in messages count from here.
    epoch: Instant,
}

impl Job {
    /// A cycle counts when it is acknowledged, with the time from sending to receiving.
    async fn run(self) -> anyhow::Result<Tally> {
        let end = self.window.end;
        let job = Rc::new(self);
        let tally = Rc::new(RefCell::new(Tally::new()));
        let mut workers = JoinSet::new();
        for number in 0..usize::from(WORKERS) {
            let (job, tally) = (job.clone(), tally.clone());
            workers.spawn_local({
                let (job, tally) = (job.clone(), tally.clone());
                async move { fail_of(&tally, "a sender", job.send(number).await) }
            });
            workers.spawn_local(async move {
                fail_of(&tally, "a receiver", job.receive(&tally).await);
            });
        }
        let all = async { while workers.join_next().await.is_some() {} };
        if timeout_at(end + PATIENCE, all).await.is_err() {
            tally.borrow_mut().fail(1, || format!("no answer within {PATIENCE:?}"));
        }
        Ok(tally.replace(Tally::new()))
    }

    fn is_over(&self) -> bool {
        self.window.end <= Instant::now()
    }

    async fn send(&self, number: usize) -> anyhow::Result<()> {
        let path = format!("/v1/queues/{}/messages", self.queue);
        let filler = api::payload(number, self.case.size);
        let mut connection = Exchange::open(&self.target).await?;
        while !self.is_over() {
            let body = api::timed(self.epoch.elapsed().as_micros() as u64, &filler);
            ask(&mut connection, &api::publish(&path, body)).await?;
        }
        Ok(())
    }

    async fn receive(&self, tally: &RefCell<Tally>) -> anyhow::Result<()> {
        let path = |what| format!("/v1/queues/{}/{what}", self.queue);
        let wanted = json!({ "max": self.case.at_once, "wait_seconds": 1 });
        let receive = Written::new(&api::post(&path("receive"), &wanted));
        let mut connection = Exchange::open(&self.target).await?;
        while !self.is_over() {
            let answer = connection.ask(&receive).await?;
            ensure!(answer.status.is_success(), "receive answers {answer}");
            let now = Instant::now();
            let received = Received::read(&answer.body)?;
            if received.ack_ids.is_empty() {
                continue;
            }
            let ack = api::post(&path("ack"), &json!({ "ack_ids": received.ack_ids }));
            let settled = ask(&mut connection, &ack).await?;
            let all = format!("{{\"ok\":{},", received.ack_ids.len());
            ensure!(settled.starts_with(all.as_bytes()), "not everything is acknowledged");
            for sent_us in received.numbers {
                let sent = self.epoch + Duration::from_micros(sent_us);
                tally.borrow_mut().record(self.window, sent, now);
            }
        }
        Ok(())
    }
}

async fn ask(
    connection: &mut Exchange,
    request: &Request<bytes::Bytes>,
) -> anyhow::Result<bytes::Bytes> {
    let answer = connection.ask(&Written::new(request)).await?;
    ensure!(answer.status.is_success(), "{} answers {answer}", request.uri());
    Ok(answer.body)
}

fn fail_of(tally: &RefCell<Tally>, who: &str, ended: anyhow::Result<()>) {
    if let Err(error) = ended {
        tally.borrow_mut().fail(1, || format!("{who}: {error:#}"));
    }
}

/// What an answer to `receive` or `pull` holds, as far as it is needed: parsing all of it would
/// take CPU time from the servers.
pub(super) struct Received {
    pub(super) ack_ids: Vec<String>,
    /// The times in the messages, or whatever else they begin with.
    pub(super) numbers: Vec<u64>,
}

impl Received {
    pub(super) fn read(answer: &[u8]) -> anyhow::Result<Self> {
        let ack_ids: Vec<String> =
            texts(answer, b"\"ack_id\":\"")?.into_iter().map(str::to_owned).collect();
        let numbers = numbers(answer)?;
        ensure!(ack_ids.len() == numbers.len(), "a message without an ack id");
        Ok(Self { ack_ids, numbers })
    }
}

/// What the messages in an answer begin with.
pub(super) fn numbers(answer: &[u8]) -> anyhow::Result<Vec<u64>> {
    let number = |data: &str| data.get(..TIME_DIGITS).and_then(|digits| digits.parse().ok());
    let numbers = texts(answer, b"\"data\":\"")?.into_iter().map(number);
    numbers.collect::<Option<_>>().context("a message that nobody has sent")
}

/// What stands between each `mark` and the next quote.
fn texts<'a>(answer: &'a [u8], mark: &[u8]) -> anyhow::Result<Vec<&'a str>> {
    let starts = memmem::find_iter(answer, mark).map(|at| at + mark.len());
    starts
        .map(|start| {
            let end = memchr::memchr(b'"', &answer[start..]).context("a text without an end")?;
            std::str::from_utf8(&answer[start..start + end]).context("no UTF-8")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ack_ids_and_times_of_deliveries_are_found() {
        let answer = br#"{"messages":[{"id":"1","ack_id":"2.0.0.1","delivery":1,"data":"000000000077x","attributes":{}},
            {"id":"2","ack_id":"2.0.0.2","delivery":1,"data":"000000000123yz","attributes":{}}]}"#;
        let received = Received::read(answer).unwrap();
        assert_eq!(received.ack_ids, ["2.0.0.1", "2.0.0.2"]);
        assert_eq!(received.numbers, [77, 123]);
        assert!(Received::read(br#"{"messages":[]}"#).unwrap().ack_ids.is_empty());
        assert!(Received::read(br#"{"messages":[{"ack_id":"1","data":"x"}]}"#).is_err());
    }
}
