//! Single keys, conditional writes, and pairs of keys that change together.
//!
//! Keys are given up after a while for new ones, so that the history of each stays short enough to
//! be searched. No value is ever written by two operations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{IF_MATCH, IF_NONE_MATCH};
use serde_json::{Value, json};
use sim::Rng;
use sim::history::Outcome;
use sim::linearizability::kv::{Op, Ret};
use sim::watch::Event;
use tokio::time::sleep;

use super::Shared;
use super::http::send;
use crate::cluster::Door;
use crate::record::Ended;

/// Keys in use at a time, besides one pair.
pub(super) const REGISTERS: u64 = 3;
/// Operations, of all clients together, until new keys are taken.
pub(super) const GENERATION: u64 = 240;
/// Time to think, so that a run is long enough for its faults.
const PAUSE: Duration = Duration::from_millis(10);

pub(super) struct Writer {
    process: u64,
    shared: Arc<Shared>,
    rng: Rng,
    written: u64,
    /// What was last read: the value and its revision.
    known: BTreeMap<String, Option<(String, u64)>>,
}

impl Writer {
    pub(super) fn new(process: u64, shared: Arc<Shared>, rng: Rng) -> Self {
        Self { process, shared, rng, written: 0, known: BTreeMap::new() }
    }

    pub(super) async fn run(mut self) {
        while !self.shared.is_over() {
            let generation = self.shared.begin() / GENERATION;
            let door = self.shared.any_door(&mut self.rng).clone();
            let register = format!("r/{generation}/{}", self.rng.range(0..REGISTERS));
            let pair = ["a", "b"].map(|half| format!("r/{generation}/pair-{half}"));
            match self.rng.index(16) {
                0..5 => self.get(&door, register).await,
                5..8 => self.put(&door, register).await,
                8 => self.delete(&door, register).await,
                9..11 => self.swap(&door, register).await,
                11 => self.swap_in_transaction(&door, register).await,
                12 | 13 => self.read_pair(&door, pair).await,
                14 => self.write_pair(&door, pair).await,
                _ => self.swap_pair(&door, pair).await,
            }
            sleep(PAUSE).await;
        }
    }

    async fn get(&mut self, door: &Door, key: String) {
        let call = self.call(Op::Get { key: key.clone() });
        let answer = send(door.request(Method::GET, &path(&key))).await;
        let seen = match (answer.whole(), answer.etag()) {
            (Some((200, value)), Some(revision)) => Some((value.to_owned(), revision)),
            (Some((404, _)), _) => None,
            // A read that fails does nothing.
            _ => return self.end(call, Ended::without(Outcome::Failed)),
        };
        let value = seen.as_ref().map(|(value, _)| value.clone());
        self.known.insert(key, seen);
        self.end(call, Ended::saw(Ret::Value(value), answer.revision()));
    }

    async fn put(&mut self, door: &Door, key: String) {
        let value = self.value();
        let call = self.call(Op::Put { key: key.clone(), value: value.clone() });
        let answer = send(door.request(Method::PUT, &path(&key)).body(value.clone())).await;
        match answer.success() {
            Some(reply) => {
                let written = vec![written(&reply, key, Some(value))];
                self.end(call, Ended::wrote(Ret::Written, written));
            }
            None => self.end(call, Ended::without(answer.refusal())),
        }
    }

    async fn delete(&mut self, door: &Door, key: String) {
        let call = self.call(Op::Delete { key: key.clone() });
        let answer = send(door.request(Method::DELETE, &path(&key))).await;
        match answer.success() {
            Some(reply) => {
                let was_there = reply["deleted"] == 1;
                let gone = was_there.then(|| written(&reply, key, None));
                let written = gone.into_iter().collect();
                let revision = reply["revision"].as_u64();
                let outcome = Outcome::Done(Ret::Deleted(was_there));
                self.end(call, Ended { outcome, revision, written });
            }
            None => self.end(call, Ended::without(answer.refusal())),
        }
    }

    /// By `If-Match`. A revision stands for the one value that was written in it.
    async fn swap(&mut self, door: &Door, key: String) {
        let (value, known) = (self.value(), self.known.get(&key).cloned().flatten());
        let request = door.request(Method::PUT, &path(&key)).body(value.clone());
        let request = match &known {
            Some((_, revision)) => request.header(IF_MATCH, format!("\"{revision}\"")),
            None => request.header(IF_NONE_MATCH, "*"),
        };
        let expected = known.map(|(value, _)| value);
        let call = self.call(Op::Cas { key: key.clone(), expected, value: value.clone() });
        let answer = send(request).await;
        match (answer.success(), answer.whole()) {
            (Some(reply), _) => {
                let written = vec![written(&reply, key, Some(value))];
                self.end(call, Ended::wrote(Ret::Swapped(true), written));
            }
            (None, Some((412, _))) => self.end(call, Ended::saw(Ret::Swapped(false), None)),
            (None, _) => self.end(call, Ended::without(answer.refusal())),
        }
    }

    async fn swap_in_transaction(&mut self, door: &Door, key: String) {
        let value = self.value();
        let expected = self.known.get(&key).cloned().flatten().map(|(value, _)| value);
        let op = Op::Txn {
            when: vec![(key.clone(), expected)],
            then: vec![Op::Put { key: key.clone(), value }],
            otherwise: vec![Op::Get { key }],
        };
        self.transact(door, op).await;
    }

    async fn read_pair(&mut self, door: &Door, pair: [String; 2]) {
        let then = pair.map(|key| Op::Get { key }).to_vec();
        self.transact(door, Op::Txn { when: vec![], then, otherwise: vec![] }).await;
    }

    async fn write_pair(&mut self, door: &Door, pair: [String; 2]) {
        let value = self.value();
        let then = pair.map(|key| Op::Put { key, value: value.clone() }).to_vec();
        self.transact(door, Op::Txn { when: vec![], then, otherwise: vec![] }).await;
    }

    /// If the first half is as it was last seen, both halves change, the second one to something
    /// else.
    async fn swap_pair(&mut self, door: &Door, [a, b]: [String; 2]) {
        let (one, other) = (self.value(), self.value());
        let expected = self.known.get(&a).cloned().flatten().map(|(value, _)| value);
        let op = Op::Txn {
            when: vec![(a.clone(), expected)],
            then: vec![
                Op::Put { key: a.clone(), value: one },
                Op::Put { key: b.clone(), value: other },
            ],
            otherwise: vec![Op::Get { key: a }, Op::Get { key: b }],
        };
        self.transact(door, op).await;
    }

    async fn transact(&mut self, door: &Door, op: Op) {
        let Op::Txn { when, then, otherwise } = &op else { unreachable!("only transactions") };
        let body = json!({
            "if": when.iter().map(compare).collect::<Vec<_>>(),
            "then": then.iter().map(operation).collect::<Vec<_>>(),
            "else": otherwise.iter().map(operation).collect::<Vec<_>>(),
        });
        let call = self.call(op.clone());
        let answer = send(door.request(Method::POST, "/v1/txn").json(&body)).await;
        let Some(reply) = answer.success() else {
            return self.end(call, Ended::without(answer.refusal()));
        };
        let succeeded = reply["succeeded"] == true;
        let branch = if succeeded { then } else { otherwise };
        let results = reply["results"].as_array().cloned().unwrap_or_default();
        let mut changed = Vec::new();
        for (op, result) in branch.iter().zip(&results) {
            match op {
                Op::Put { key, value } => {
                    changed.push(written(&result["put"], key.clone(), Some(value.clone())));
                }
                Op::Get { key } => {
                    self.known.insert(key.clone(), first(result).map(|(v, r)| (v.to_owned(), r)));
                }
                _ => unreachable!("transactions put and get"),
            }
        }
        let results = results.iter().map(answered).collect();
        let (outcome, revision) =
            (Outcome::Done(Ret::Txn { succeeded, results }), reply["revision"].as_u64());
        self.end(call, Ended { outcome, revision, written: changed });
    }

    fn value(&mut self) -> String {
        self.written += 1;
        format!("{}-{}", self.process, self.written)
    }

    fn call(&self, op: Op) -> sim::history::Call {
        self.shared.recorder.call(self.process, op)
    }

    fn end(&self, call: sim::history::Call, ended: Ended) {
        if !ended.written.is_empty() {
            self.shared.done();
        }
        self.shared.recorder.end(call, ended);
    }
}

pub(super) fn path(key: &str) -> String {
    format!("/v1/kv/{key}")
}

fn written(reply: &Value, key: String, value: Option<String>) -> Event {
    Event { revision: reply["revision"].as_u64().expect("a revision"), key, value }
}

fn compare((key, value): &(String, Option<String>)) -> Value {
    match value {
        Some(value) => json!({ "key": key, "value": value }),
        None => json!({ "key": key, "exists": false }),
    }
}

fn operation(op: &Op) -> Value {
    match op {
        Op::Put { key, value } => json!({ "put": { "key": key, "value": value } }),
        Op::Get { key } => json!({ "get": { "key": key } }),
        _ => unreachable!("transactions put and get"),
    }
}

fn answered(result: &Value) -> Ret {
    match result.get("put") {
        Some(_) => Ret::Written,
        None => Ret::Value(first(result).map(|(value, _)| value.to_owned())),
    }
}

/// What a get in a transaction found.
fn first(result: &Value) -> Option<(&str, u64)> {
    let record = result["get"]["kvs"].get(0)?;
    Some((record["value"].as_str()?, record["mod_revision"].as_u64()?))
}
