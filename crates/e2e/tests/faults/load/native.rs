//! Operations on registers over `/v1`.

use reqwest::Method;
use reqwest::header::{IF_MATCH, IF_NONE_MATCH};
use serde_json::{Value, json};
use sim::history::Outcome;
use sim::linearizability::kv::{Op, Ret};
use sim::watch::Event;

use super::http::send;
use super::registers::{Known, Told};
use crate::cluster::Door;
use crate::record::Ended;

/// Asks for an operation, and says what came of it.
pub(super) async fn carry_out(door: &Door, op: &Op, known: &Known) -> Told {
    match op {
        Op::Get { key } => get(door, key).await,
        Op::Put { key, value } => put(door, key, value).await,
        Op::Delete { key } => delete(door, key).await,
        Op::Cas { key, value, .. } => swap(door, (key, value), known).await,
        Op::Txn { when, then, otherwise } => transact(door, when, [then, otherwise]).await,
    }
}

async fn get(door: &Door, key: &str) -> Told {
    let answer = send(door.request(Method::GET, &path(key))).await;
    let revision = answer.revision();
    let seen = match (answer.whole(), answer.etag(), revision) {
        (Some((200, value)), Some(modified), _) => Some((value.to_owned(), modified)),
        (Some((404, _)), _, Some(_)) => None,
        // A read that fails does nothing.
        _ => return Told::ended(Ended::without(Outcome::Failed)),
    };
    let value = seen.as_ref().map(|(value, _)| value.clone());
    let ended = Ended::saw(Ret::Value(value), revision);
    Told { ended, seen: vec![(key.to_owned(), seen)] }
}

async fn put(door: &Door, key: &str, value: &str) -> Told {
    let answer = send(door.request(Method::PUT, &path(key)).body(value.to_owned())).await;
    Told::ended(match answer.success() {
        Some(reply) => Ended::wrote(Ret::Written, vec![written(&reply, key, Some(value))]),
        None => Ended::without(answer.refusal()),
    })
}

async fn delete(door: &Door, key: &str) -> Told {
    let answer = send(door.request(Method::DELETE, &path(key))).await;
    let Some(reply) = answer.success() else {
        return Told::ended(Ended::without(answer.refusal()));
    };
    let was_there = reply["deleted"] == 1;
    let gone = was_there.then(|| written(&reply, key, None));
    Told::ended(Ended {
        outcome: Outcome::Done(Ret::Deleted(was_there)),
        revision: reply["revision"].as_u64(),
        written: gone.into_iter().collect(),
    })
}

/// By `If-Match`. A revision stands for the one value that was written in it.
async fn swap(door: &Door, (key, value): (&str, &str), known: &Known) -> Told {
    let request = door.request(Method::PUT, &path(key)).body(value.to_owned());
    let request = match known.get(key).and_then(Option::as_ref) {
        Some((_, revision)) => request.header(IF_MATCH, format!("\"{revision}\"")),
        None => request.header(IF_NONE_MATCH, "*"),
    };
    let answer = send(request).await;
    Told::ended(match (answer.success(), answer.whole()) {
        (Some(reply), _) => {
            Ended::wrote(Ret::Swapped(true), vec![written(&reply, key, Some(value))])
        }
        (None, Some((412, _))) => Ended::saw(Ret::Swapped(false), None),
        (None, _) => Ended::without(answer.refusal()),
    })
}

async fn transact(
    door: &Door,
    when: &[(String, Option<String>)],
    [then, otherwise]: [&[Op]; 2],
) -> Told {
    let body = json!({
        "if": when.iter().map(compare).collect::<Vec<_>>(),
        "then": then.iter().map(operation).collect::<Vec<_>>(),
        "else": otherwise.iter().map(operation).collect::<Vec<_>>(),
    });
    let answer = send(door.request(Method::POST, "/v1/txn").json(&body)).await;
    let Some(reply) = answer.success() else {
        return Told::ended(Ended::without(answer.refusal()));
    };
    let succeeded = reply["succeeded"] == true;
    let branch = if succeeded { then } else { otherwise };
    let results = reply["results"].as_array().cloned().unwrap_or_default();
    let (mut changed, mut seen) = (Vec::new(), Vec::new());
    for (op, result) in branch.iter().zip(&results) {
        match op {
            Op::Put { key, value } => changed.push(written(&result["put"], key, Some(value))),
            Op::Get { key } => seen.push((key.clone(), first(result))),
            _ => unreachable!("transactions put and get"),
        }
    }
    let results = results.iter().map(answered).collect();
    let outcome = Outcome::Done(Ret::Txn { succeeded, results });
    let ended = Ended { outcome, revision: reply["revision"].as_u64(), written: changed };
    Told { ended, seen }
}

pub(super) fn path(key: &str) -> String {
    format!("/v1/kv/{key}")
}

fn written(reply: &Value, key: &str, value: Option<&str>) -> Event {
    let revision = reply["revision"].as_u64().expect("a revision");
    Event { revision, key: key.to_owned(), value: value.map(str::to_owned) }
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
        None => Ret::Value(first(result).map(|(value, _)| value)),
    }
}

/// What a get in a transaction found.
fn first(result: &Value) -> Option<(String, u64)> {
    let record = result["get"]["kvs"].get(0)?;
    Some((record["value"].as_str()?.to_owned(), record["mod_revision"].as_u64()?))
}
