//! Who sends, publishes, receives and pulls meanwhile.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sim::Rng;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::record::{Fate, Record};
use super::{QUEUE, TOPIC};
use crate::cluster::{Door, until};

/// After this long nobody knows what came of a request.
const ANSWER: Duration = Duration::from_secs(4);
/// Between two messages of one sender.
const PACE: Duration = Duration::from_millis(15);
const RETRY: Duration = Duration::from_millis(20);

pub(super) struct Load {
    shared: Arc<Shared>,
    senders: JoinSet<()>,
    consumers: JoinSet<()>,
}

struct Shared {
    doors: Vec<Door>,
    record: Arc<Mutex<Record>>,
    begun: Instant,
    /// When each acknowledged send began: of late.
    acknowledged: Mutex<Vec<(Duration, Duration)>>,
    turn: AtomicUsize,
    sends: AtomicBool,
    consumes: AtomicBool,
}

impl Load {
    pub(super) fn start(doors: &[Door], rng: &mut Rng) -> Self {
        let shared = Arc::new(Shared {
            doors: doors.to_vec(),
            record: Arc::default(),
            begun: Instant::now(),
            acknowledged: Mutex::default(),
            turn: AtomicUsize::new(0),
            sends: AtomicBool::new(true),
            consumes: AtomicBool::new(true),
        });
        let (mut senders, mut consumers) = (JoinSet::new(), JoinSet::new());
        for who in 0..2 {
            senders.spawn(Arc::clone(&shared).send(format!("s{who}")));
            senders.spawn(Arc::clone(&shared).send_once(format!("d{who}")));
            senders.spawn(Arc::clone(&shared).publish(format!("u{who}")));
            senders.spawn(Arc::clone(&shared).number(format!("p{who}")));
            consumers.spawn(Arc::clone(&shared).consume(true, rng.fork()));
            consumers.spawn(Arc::clone(&shared).consume(false, rng.fork()));
        }
        Self { shared, senders, consumers }
    }

    pub(super) fn record(&self) -> Arc<Mutex<Record>> {
        Arc::clone(&self.shared.record)
    }

    pub(super) fn now(&self) -> Duration {
        self.shared.begun.elapsed()
    }

    pub(super) fn turn(&self) -> usize {
        self.shared.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits until so many more messages are acknowledged.
    pub(super) async fn progress(&self, more: u64) {
        let count = || self.shared.record().acknowledged;
        let goal = count() + more;
        until("more messages are acknowledged", || async { goal <= count() }).await;
    }

    /// How long after `since` a message was acknowledged that was sent after it.
    pub(super) async fn first_acknowledged(&self, since: Duration) -> Duration {
        let first = || {
            let all = self.shared.acknowledged.lock().expect("nobody panics with it");
            all.iter().find(|(begun, _)| since < *begun).map(|(_, ended)| *ended - since)
        };
        until("a message is acknowledged", || async { first().is_some() }).await;
        first().expect("it was waited for")
    }

    /// Nothing new is sent; what is not known to be done is done.
    pub(super) async fn end_sending(&mut self) {
        self.shared.sends.store(false, Ordering::Relaxed);
        while let Some(ended) = self.senders.join_next().await {
            ended.expect("a sender does not panic");
        }
    }

    pub(super) async fn stop(&mut self) {
        self.shared.consumes.store(false, Ordering::Relaxed);
        while let Some(ended) = self.consumers.join_next().await {
            ended.expect("a consumer does not panic");
        }
    }
}

impl Shared {
    fn record(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().expect("nobody panics with it")
    }

    fn request(&self, path: &str) -> RequestBuilder {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.doors[turn % self.doors.len()].request(Method::POST, path).timeout(ANSWER)
    }

    /// Sends or publishes once.
    async fn post(&self, request: RequestBuilder, body: &str) -> (Fate, Value) {
        let begun = self.begun.elapsed();
        let request = request.header("content-type", "text/plain").body(body.to_owned());
        let Ok(answer) = request.send().await else { return (Fate::Unknown, Value::Null) };
        let status = answer.status();
        let answer = answer.json().await.unwrap_or_default();
        match status.as_u16() {
            200..300 => {
                let mut all = self.acknowledged.lock().expect("nobody panics with it");
                all.push((begun, self.begun.elapsed()));
                self.record().acknowledged += 1;
                (Fate::Done, answer)
            }
            429 | 503 => (Fate::Denied, answer),
            504 => (Fate::Unknown, answer),
            other => panic!("{other}: {answer}"),
        }
    }

    fn remember(&self, is_queue: bool, body: String, fate: Fate) {
        self.record().line(is_queue).sent.insert(body, fate);
    }

    /// Sends each message once, whatever comes of it.
    async fn send(self: Arc<Self>, who: String) {
        for number in 0_u64.. {
            if !self.sends.load(Ordering::Relaxed) {
                return;
            }
            let body = format!("{who}-{number}");
            // What comes before the answer was sent by somebody.
            self.remember(true, body.clone(), Fate::Unknown);
            let (fate, _) = self.post(self.request(&format!("{QUEUE}/messages")), &body).await;
            self.remember(true, body, fate);
            sleep(PACE).await;
        }
    }

    /// Repeats each message under one id until it is taken.
    async fn send_once(self: Arc<Self>, who: String) {
        for number in 0_u64.. {
            if !self.sends.load(Ordering::Relaxed) {
                return;
            }
            let body = format!("{who}-{number}");
            self.remember(true, body.clone(), Fate::Unknown);
            loop {
                let request = self.request(&format!("{QUEUE}/messages"));
                if self.post(request.header("x-dedup-id", &body), &body).await.0 == Fate::Done {
                    break;
                }
                sleep(RETRY).await;
            }
            self.remember(true, body, Fate::Done);
            sleep(PACE).await;
        }
    }

    /// Publishes each message once.
    async fn publish(self: Arc<Self>, who: String) {
        for number in 0_u64.. {
            if !self.sends.load(Ordering::Relaxed) {
                return;
            }
            let body = format!("{who}-{number}");
            self.remember(false, body.clone(), Fate::Unknown);
            let request = self.request(&format!("{TOPIC}/messages"));
            let (fate, answer) = self.post(request, &body).await;
            self.place(&answer, &body);
            self.remember(false, body, fate);
            sleep(PACE).await;
        }
    }

    /// Numbers its publishes, and repeats each until it is taken.
    async fn number(self: Arc<Self>, who: String) {
        for number in 0_u64.. {
            if !self.sends.load(Ordering::Relaxed) {
                return;
            }
            let body = format!("{who}#{number}");
            self.remember(false, body.clone(), Fate::Unknown);
            let answer = loop {
                let request = self
                    .request(&format!("{TOPIC}/messages"))
                    .header("x-producer-id", &who)
                    .header("x-producer-epoch", "0")
                    .header("x-producer-seq", number.to_string());
                if let (Fate::Done, answer) = self.post(request, &body).await {
                    break answer;
                }
                sleep(RETRY).await;
            };
            self.place(&answer, &body);
            self.remember(false, body, Fate::Done);
            sleep(PACE).await;
        }
    }

    fn place(&self, answer: &Value, body: &str) {
        let appended = &answer[0];
        if let (Some(partition), Some(first)) =
            (appended["partition"].as_u64(), appended["first"].as_u64())
        {
            self.record().places.insert((partition, first), body.to_owned());
        }
    }

    /// Takes messages and acknowledges most of them.
    async fn consume(self: Arc<Self>, is_queue: bool, mut rng: Rng) {
        let (take, ack) = match is_queue {
            true => (format!("{QUEUE}/receive"), format!("{QUEUE}/ack")),
            false => {
                let all = format!("{TOPIC}/subscriptions/all");
                (format!("{all}/pull"), format!("{all}/ack"))
            }
        };
        while self.consumes.load(Ordering::Relaxed) {
            let begun = self.begun.elapsed();
            let request = self.request(&take).json(&json!({ "max": 10, "wait_seconds": 1 }));
            let taken: Option<Value> = answer(request).await;
            let messages = taken.and_then(|taken| taken["messages"].as_array().cloned());
            let Some(messages) = messages else {
                sleep(RETRY).await;
                continue;
            };
            let mut ids = Vec::new();
            for message in &messages {
                let body = message["data"].as_str().unwrap_or_default();
                self.record().delivered(is_queue, body, begun);
                if !rng.chance(1, 20) {
                    ids.push((message["ack_id"].clone(), body.to_owned()));
                }
            }
            if ids.is_empty() {
                continue;
            }
            let all: Vec<_> = ids.iter().map(|(id, _)| id).collect();
            let request = self.request(&ack).json(&json!({ "ack_ids": all }));
            let Some(settled) = answer(request).await else { continue };
            let now = self.begun.elapsed();
            for ((_, body), result) in
                ids.iter().zip(settled["results"].as_array().into_iter().flatten())
            {
                if result["result"] == "ok" {
                    self.record().acked(is_queue, body, now);
                }
            }
        }
    }
}

/// `None`, if it was not done or nobody knows.
async fn answer(request: RequestBuilder) -> Option<Value> {
    let answer = request.send().await.ok()?;
    let is_done = answer.status().is_success();
    answer.json().await.ok().filter(|_| is_done)
}
