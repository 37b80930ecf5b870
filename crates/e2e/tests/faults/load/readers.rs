//! Clients that read what a member knows by itself, whatever the others may know by then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use sim::Rng;
use sim::serializable::{Keys, Read};
use tokio::time::sleep;

use super::http::{Answer, send};
use super::native::path;
use super::registers::{GENERATION, REGISTERS};
use super::{Shared, etcd};
use crate::cluster::Door;

/// Time to think.
const PAUSE: Duration = Duration::from_millis(25);

pub(super) struct Reader {
    process: u64,
    shared: Arc<Shared>,
    rng: Rng,
}

/// The state that was read, and what it held.
type Seen = (u64, BTreeMap<String, (String, u64)>);

impl Reader {
    pub(super) fn new(process: u64, shared: Arc<Shared>, rng: Rng) -> Self {
        Self { process, shared, rng }
    }

    pub(super) async fn run(mut self) {
        while !self.shared.is_over() {
            let generation = self.shared.begun() / GENERATION;
            let door = self.shared.any_door(&mut self.rng).clone();
            let keys = match self.rng.chance(1, 3) {
                true => Keys::One(format!("r/{generation}/{}", self.rng.range(0..REGISTERS))),
                false => Keys::Prefix(format!("r/{generation}/")),
            };
            self.read(&door, keys).await;
            sleep(PAUSE).await;
        }
    }

    async fn read(&mut self, door: &Door, keys: Keys) {
        let (call, life) = (self.shared.recorder.now(), door.life());
        let seen = match &keys {
            keys if self.rng.chance(1, 2) => range(door, keys).await,
            Keys::One(key) => one(door, key).await,
            Keys::Prefix(prefix) => page(door, prefix).await,
        };
        let life = (life == door.life()).then_some(life);
        let (process, node, returned) =
            (self.process, door.number as u64, self.shared.recorder.now());
        if let Some((revision, found)) = seen {
            let read = Read { process, node, life, call, returned, keys, revision, found };
            self.shared.recorder.record().serializable.push(read);
        }
    }
}

async fn one(door: &Door, key: &str) -> Option<Seen> {
    let ask = format!("{}?consistency=serializable", path(key));
    let answer = send(door.request(Method::GET, &ask)).await;
    let found = match answer.whole()? {
        (200, value) => BTreeMap::from([(key.to_owned(), (value.to_owned(), answer.etag()?))]),
        (404, _) => BTreeMap::new(),
        _ => return None,
    };
    Some((answer.revision()?, found))
}

async fn page(door: &Door, prefix: &str) -> Option<Seen> {
    let ask = format!("/v1/kv?prefix={prefix}&consistency=serializable");
    let answer: Answer = send(door.request(Method::GET, &ask)).await;
    let page = answer.success()?;
    let found = page["kvs"].as_array()?.iter().map(key_value).collect::<Option<_>>()?;
    Some((page["revision"].as_u64()?, found))
}

/// Over `/v3`.
async fn range(door: &Door, keys: &Keys) -> Option<Seen> {
    let ask = match keys {
        Keys::One(key) => json!({ "key": etcd::encode(key), "serializable": true }),
        Keys::Prefix(prefix) => {
            let (key, end) = etcd::prefix(prefix);
            json!({ "key": key, "range_end": end, "serializable": true })
        }
    };
    let reply = etcd::call(door, "/v3/kv/range", ask).await.success()?;
    Some((etcd::number(&reply["header"]["revision"]), etcd::key_values(&reply)))
}

fn key_value(record: &Value) -> Option<(String, (String, u64))> {
    let text = |name: &str| record[name].as_str().map(str::to_owned);
    Some((text("key")?, (text("value")?, record["mod_revision"].as_u64()?)))
}
