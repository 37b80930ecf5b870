//! Operations on registers over `/v3`, and what else goes over it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::Method;
use serde_json::{Value, json};
use sim::history::Outcome;
use sim::linearizability::kv::{Op, Ret};
use sim::watch::Event;

use super::http::{Answer, send};
use super::registers::{Known, Told};
use crate::cluster::Door;
use crate::record::Ended;

/// Asks for an operation, and says what came of it.
pub(super) async fn carry_out(door: &Door, op: &Op, known: &Known) -> Told {
    let answer = match op {
        Op::Get { key } => call(door, "/v3/kv/range", json!({ "key": encode(key) })).await,
        Op::Put { key, value } => {
            call(door, "/v3/kv/put", json!({ "key": encode(key), "value": encode(value) })).await
        }
        Op::Delete { key } => call(door, "/v3/kv/deleterange", json!({ "key": encode(key) })).await,
        Op::Cas { key, value, .. } => {
            let revision = known.get(key).and_then(Option::as_ref).map_or(0, |known| known.1);
            let put = Op::Put { key: key.clone(), value: value.clone() };
            let is_as_known = json!({
                "key": encode(key), "target": "MOD", "mod_revision": revision.to_string(),
            });
            transact(door, &[is_as_known], [&[put], &[]]).await
        }
        Op::Txn { when, then, otherwise } => {
            let when: Vec<Value> = when.iter().map(compare).collect();
            transact(door, &when, [then, otherwise]).await
        }
    };
    match answer.success() {
        Some(reply) => told(op, &reply),
        None if matches!(op, Op::Get { .. }) => Told::ended(Ended::without(Outcome::Failed)),
        None => Told::ended(Ended::without(refusal(&answer))),
    }
}

async fn transact(door: &Door, when: &[Value], [then, otherwise]: [&[Op]; 2]) -> Answer {
    let operations = |ops: &[Op]| ops.iter().map(operation).collect::<Vec<_>>();
    let body = json!({
        "compare": when, "success": operations(then), "failure": operations(otherwise),
    });
    call(door, "/v3/kv/txn", body).await
}

pub(super) async fn call(door: &Door, path: &str, body: Value) -> Answer {
    send(door.request(Method::POST, path).json(&body)).await
}

/// What an answer means that is no success. Here the status of an unknown outcome is that of a node
/// that cannot serve.
pub(super) fn refusal<R>(answer: &Answer) -> Outcome<R> {
    match answer.whole() {
        Some((503, text)) if text.contains("timed out") => Outcome::Unknown,
        _ => answer.refusal(),
    }
}

/// What a reply says that came.
fn told(op: &Op, reply: &Value) -> Told {
    let revision = number(&reply["header"]["revision"]);
    let event = |key: &str, value: Option<&str>| Event {
        revision,
        key: key.to_owned(),
        value: value.map(str::to_owned),
    };
    let (mut written, mut seen) = (Vec::new(), Vec::new());
    let mut answered = |op: &Op, reply: &Value| match op {
        Op::Put { key, value } => {
            written.push(event(key, Some(value)));
            Ret::Written
        }
        Op::Get { key } => {
            let found = key_values(reply).remove(key);
            seen.push((key.clone(), found.clone()));
            Ret::Value(found.map(|(value, _)| value))
        }
        Op::Delete { key } => {
            let was_there = number(&reply["deleted"]) == 1;
            written.extend(was_there.then(|| event(key, None)));
            Ret::Deleted(was_there)
        }
        Op::Cas { .. } | Op::Txn { .. } => unreachable!("transactions hold none"),
    };
    let succeeded = reply["succeeded"] == true;
    let ret = match op {
        Op::Cas { key, value, .. } => {
            if succeeded {
                answered(&Op::Put { key: key.clone(), value: value.clone() }, reply);
            }
            Ret::Swapped(succeeded)
        }
        Op::Txn { then, otherwise, .. } => {
            let branch = if succeeded { then } else { otherwise };
            let results = reply["responses"].as_array().cloned().unwrap_or_default();
            let inner = |op: &Op, result: &Value| match op {
                Op::Put { .. } => result["response_put"].clone(),
                _ => result["response_range"].clone(),
            };
            let results = branch.iter().zip(&results).map(|(op, it)| answered(op, &inner(op, it)));
            Ret::Txn { succeeded, results: results.collect() }
        }
        op => answered(op, reply),
    };
    Told { ended: Ended { outcome: Outcome::Done(ret), revision: Some(revision), written }, seen }
}

/// Each key of a range, with its value and the revision that wrote it.
pub(super) fn key_values(range: &Value) -> BTreeMap<String, (String, u64)> {
    let kvs = range["kvs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let one =
        |kv: &Value| (decode(&kv["key"]), (decode(&kv["value"]), number(&kv["mod_revision"])));
    kvs.iter().map(one).collect()
}

fn compare((key, value): &(String, Option<String>)) -> Value {
    match value {
        Some(value) => json!({ "key": encode(key), "target": "VALUE", "value": encode(value) }),
        None => json!({ "key": encode(key), "target": "CREATE", "create_revision": "0" }),
    }
}

fn operation(op: &Op) -> Value {
    match op {
        Op::Put { key, value } => {
            json!({ "request_put": { "key": encode(key), "value": encode(value) } })
        }
        Op::Get { key } => json!({ "request_range": { "key": encode(key) } }),
        _ => unreachable!("transactions put and get"),
    }
}

pub(super) fn encode(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

/// What is left out is empty.
pub(super) fn decode(field: &Value) -> String {
    let bytes = BASE64_STANDARD.decode(field.as_str().unwrap_or_default()).expect("base64");
    String::from_utf8(bytes).expect("what was written was text")
}

/// What is left out is zero.
pub(super) fn number(field: &Value) -> u64 {
    field.as_str().map_or(0, |digits| digits.parse().expect("a number"))
}

/// The range of all keys that begin with this.
pub(super) fn prefix(prefix: &str) -> (String, String) {
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        Some(last) => {
            *last += 1;
            (encode(prefix), BASE64_STANDARD.encode(end))
        }
        None => (encode("\0"), encode("\0")),
    }
}
