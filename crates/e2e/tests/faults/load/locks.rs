//! Clients that take turns with a lock or lead in turn, and write with their fencing tokens.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::IF_NONE_MATCH;
use serde_json::{Value, json};
use sim::Rng;
use sim::fencing::Grant;
use sim::history::Outcome;
use sim::linearizability::lock::{Op, Ret};
use sim::watch::Event;
use tokio::time::sleep;

use super::Shared;
use super::http::send;
use super::lines::{LINES, Line, TTL_SECONDS, Turn};
use crate::cluster::{Door, until};
use crate::member;

/// The resource behind a lock: a key that holds the last token that wrote.
pub(crate) const FENCE: &str = "fence/";
const OWNER: &str = "owner-";
const PAUSE: Duration = Duration::from_millis(40);

/// Who got a place in line by this change, if it is one.
pub(crate) fn owner_of(event: &Event) -> Option<&str> {
    event.value.as_deref().filter(|value| value.starts_with(OWNER))
}

/// Gets a lock on a lease that nobody renews, as soon as it is free.
pub(crate) async fn take_and_forget(door: &Door, lock: &str) {
    let path = format!("/v1/locks/{lock}");
    let wait = member::PATIENCE.as_secs() / 2;
    let body = json!({ "ttl_seconds": TTL_SECONDS, "wait_seconds": wait });
    // A place that was taken without an answer ends with its lease, which nobody renews.
    until("a lock is free", || async {
        let ask = door.request(Method::POST, &path).timeout(member::PATIENCE);
        send(ask.json(&body)).await.success().is_some()
    })
    .await;
}

pub(super) struct Locker {
    process: u64,
    shared: Arc<Shared>,
    rng: Rng,
    turns: u64,
}

/// A lock that this client has, or an election that it won.
struct Held {
    line: Line,
    turn: Turn,
    /// Until then nobody else can have it, in microseconds of the run.
    certain_until: u64,
}

impl Locker {
    pub(super) fn new(process: u64, shared: Arc<Shared>, rng: Rng) -> Self {
        Self { process, shared, rng, turns: 0 }
    }

    pub(super) async fn run(mut self) {
        while !self.shared.is_over() {
            if let Some(held) = self.acquire().await {
                self.hold(held).await;
            }
            sleep(PAUSE).await;
        }
    }

    async fn acquire(&mut self) -> Option<Held> {
        self.turns += 1;
        let line = *self.rng.pick(&LINES).expect("there are lines");
        let owner = format!("{OWNER}{}-{}", self.process, self.turns);
        let since = self.shared.recorder.now();
        let door = self.shared.any_door(&mut self.rng);
        let lease = line.lease(door).await?;
        let (called, recorder) = (self.shared.recorder.now(), &self.shared.recorder);
        let op = Op::Acquire { lock: line.name.to_owned(), owner: owner.clone() };
        let call = recorder.call_lock(self.process, op);
        let turn = match line.acquire(door, &owner, &lease).await {
            Ok(turn) => turn,
            Err(refusal) => {
                let is_unknown = matches!(refusal, Outcome::Unknown);
                recorder.end_lock(call, refusal);
                if is_unknown {
                    // Whoever hangs up gives its place up, now or when its lease ends.
                    self.may_expire(line, None, called);
                }
                return None;
            }
        };
        let token = turn.token;
        recorder.end_lock(call, Outcome::Done(Ret::Granted(token)));
        let grant = Grant { owner, call: called, returned: recorder.now(), token };
        recorder.record().grants.entry(line.name.to_owned()).or_default().push(grant);
        Some(Held { line, turn, certain_until: since + TTL_SECONDS * 1_000_000 })
    }

    /// Works behind the lock for a while, then gives it back, or is never heard of again.
    async fn hold(&mut self, mut held: Held) {
        for _ in 0..self.rng.range(1..6) {
            if !self.keep(&mut held).await || !self.write(&held).await {
                break;
            }
            sleep(PAUSE).await;
        }
        if self.rng.chance(7, 8) {
            self.release(&held).await;
        }
        self.may_expire(held.line, Some(held.turn.token), held.certain_until);
    }

    /// False if the lock is lost.
    async fn keep(&mut self, held: &mut Held) -> bool {
        let called = self.shared.recorder.now();
        let call = self.begin_release(held);
        let door = self.shared.any_door(&mut self.rng);
        let kept = held.line.keep(door, &held.turn).await;
        if kept == Some(true) {
            held.certain_until = called + TTL_SECONDS * 1_000_000;
        }
        let is_lost = kept == Some(false);
        // Nothing happened, but to be told that the lease is gone is to be told that the lock is.
        let outcome = if is_lost { Outcome::Done(Ret::NotHeld) } else { Outcome::Failed };
        self.shared.recorder.end_lock(call, outcome);
        !is_lost
    }

    /// Writes the token, unless a higher one has written. False if it has.
    async fn write(&mut self, held: &Held) -> bool {
        self.turns += 1;
        let (key, token) = (format!("{FENCE}{}", held.line.name), held.turn.token);
        // As text, so as wide as any number: what is lower comes first.
        let value = format!("{token:020}-{}-{}", self.process, self.turns);
        let below_next = format!("{:020}", token + 1);
        let body = json!({
            "if": [{ "key": key, "op": "less", "value": below_next }],
            "then": [{ "put": { "key": key, "value": value } }],
            "else": [{ "get": { "key": key } }],
        });
        let door = self.shared.any_door(&mut self.rng);
        let answer = send(door.request(Method::POST, "/v1/txn").json(&body)).await;
        let Some(reply) = answer.success() else { return true };
        let (now, recorder) = (self.shared.recorder.now(), &self.shared.recorder);
        if reply["succeeded"] == true {
            let revision = reply["revision"].as_u64().expect("a revision");
            let written = Event { revision, key, value: Some(value) };
            recorder.record().acknowledged.push(written);
            return true;
        }
        let Value::Array(found) = &reply["results"][0]["get"]["kvs"] else { return false };
        // Where nothing was ever written, nothing is lower.
        if found.is_empty() {
            self.write_first(key, value).await;
            return true;
        }
        if now < held.certain_until {
            let Held { line, certain_until, .. } = held;
            recorder.record().contradictions.push(format!(
                "{line:?} is held with token {token} until {certain_until} at least, \
                 and at {now} another token had written: {found:?}"
            ));
        }
        false
    }

    async fn write_first(&mut self, key: String, value: String) {
        let door = self.shared.any_door(&mut self.rng);
        let request = door.request(Method::PUT, &super::native::path(&key));
        let create = request.header(IF_NONE_MATCH, "*").body(value.clone());
        if let Some(reply) = send(create).await.success() {
            let revision = reply["revision"].as_u64().expect("a revision");
            let written = Event { revision, key, value: Some(value) };
            self.shared.recorder.record().acknowledged.push(written);
        }
    }

    async fn release(&mut self, held: &Held) {
        let call = self.begin_release(held);
        let door = self.shared.any_door(&mut self.rng);
        let outcome = held.line.release(door, &held.turn).await;
        self.shared.recorder.end_lock(call, outcome);
    }

    fn begin_release(&self, held: &Held) -> sim::history::Call {
        let op = Op::Release { lock: held.line.name.to_owned(), token: held.turn.token };
        self.shared.recorder.call_lock(self.process, op)
    }

    fn may_expire(&self, line: Line, token: Option<u64>, from: u64) {
        let op = Op::Expire { lock: line.name.to_owned(), token };
        self.shared.recorder.record().locks.call(self.process, from, op);
    }
}
