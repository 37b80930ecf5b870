//! As much of an etcd as a gateway asks for: range, put, delete, watch over JSON.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::backend::spawn;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A started store. Dropping it cuts every connection; what it held is gone with it.
pub(crate) struct Etcd {
    pub(crate) url: String,
    store: Arc<Store>,
    end: CancellationToken,
}

struct Store {
    keys: Mutex<Keys>,
    events: broadcast::Sender<(Vec<u8>, Value)>,
}

#[derive(Default)]
struct Keys {
    revision: i64,
    /// Value, create revision, mod revision.
    entries: BTreeMap<Vec<u8>, (Vec<u8>, i64, i64)>,
}

impl Etcd {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (events, _) = broadcast::channel(1024);
        let keys = Mutex::new(Keys { revision: 1, ..Keys::default() });
        let store = Arc::new(Store { keys, events });
        let end = CancellationToken::new();
        let (served, ended) = (Arc::clone(&store), end.clone());
        spawn(async move {
            while let Some(Ok((stream, _))) = ended.run_until_cancelled(listener.accept()).await {
                let (store, ended) = (Arc::clone(&served), ended.clone());
                spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&store), request));
                    let http = hyper::server::conn::http1::Builder::new();
                    let connection = http.serve_connection(TokioIo::new(stream), service);
                    let _ = ended.run_until_cancelled(connection).await;
                });
            }
        });
        Self { url, store, end }
    }

    /// Registers an instance of a service at the address of `url`.
    pub(crate) fn register(&self, service: &str, instance: &str, url: &str) {
        let (address, port) = url.strip_prefix("http://").unwrap().rsplit_once(':').unwrap();
        let value = json!({"address": address, "port": port.parse::<u16>().unwrap()});
        self.put(&format!("quartet/services/{service}/{instance}"), &value.to_string());
    }

    pub(crate) fn put(&self, key: &str, value: &str) {
        self.store.put(key.as_bytes().to_vec(), value.as_bytes().to_vec());
    }

    pub(crate) fn delete(&self, key: &str) {
        self.store.delete(key.as_bytes());
    }

    pub(crate) fn get(&self, key: &str) -> Option<String> {
        let keys = self.store.keys.lock().unwrap();
        let (value, ..) = keys.entries.get(key.as_bytes())?;
        Some(String::from_utf8(value.clone()).unwrap())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl Store {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> i64 {
        let mut keys = self.keys.lock().unwrap();
        keys.revision += 1;
        let revision = keys.revision;
        let created = keys.entries.get(&key).map_or(revision, |(_, created, _)| *created);
        keys.entries.insert(key.clone(), (value.clone(), created, revision));
        let kv = kv(&key, &value, created, revision);
        let _ = self.events.send((key, json!({ "kv": kv })));
        revision
    }

    fn delete(&self, key: &[u8]) -> (i64, usize) {
        let mut keys = self.keys.lock().unwrap();
        if keys.entries.remove(key).is_none() {
            return (keys.revision, 0);
        }
        keys.revision += 1;
        let revision = keys.revision;
        let kv = json!({"key": STANDARD.encode(key), "mod_revision": revision.to_string()});
        let _ = self.events.send((key.to_vec(), json!({"type": "DELETE", "kv": kv})));
        (revision, 1)
    }

    fn range(&self, from: &[u8], end: &[u8]) -> (i64, Vec<Value>) {
        let keys = self.keys.lock().unwrap();
        let within = keys.entries.iter().filter(|(key, _)| contains(from, end, key));
        let kvs =
            within.map(|(key, (value, created, modified))| kv(key, value, *created, *modified));
        (keys.revision, kvs.collect())
    }
}

fn contains(from: &[u8], end: &[u8], key: &[u8]) -> bool {
    if end.is_empty() { key == from } else { from <= key && key < end }
}

fn kv(key: &[u8], value: &[u8], created: i64, modified: i64) -> Value {
    json!({
        "key": STANDARD.encode(key),
        "value": STANDARD.encode(value),
        "create_revision": created.to_string(),
        "mod_revision": modified.to_string(),
        "version": "1",
    })
}

async fn answer(
    store: Arc<Store>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let bytes = |value: &Value, field: &str| {
        STANDARD.decode(value[field].as_str().unwrap_or_default()).unwrap()
    };
    let header = |revision: i64| json!({"revision": revision.to_string()});
    let document = match path.as_str() {
        "/v3/kv/range" => {
            let (revision, kvs) = store.range(&bytes(&asked, "key"), &bytes(&asked, "range_end"));
            json!({"header": header(revision), "count": kvs.len().to_string(), "kvs": kvs})
        }
        "/v3/kv/put" => {
            let revision = store.put(bytes(&asked, "key"), bytes(&asked, "value"));
            json!({"header": header(revision)})
        }
        "/v3/kv/deleterange" => {
            let (revision, deleted) = store.delete(&bytes(&asked, "key"));
            json!({"header": header(revision), "deleted": deleted.to_string()})
        }
        "/v3/watch" => {
            let create = &asked["create_request"];
            let range = (bytes(create, "key"), bytes(create, "range_end"));
            return Ok(Response::new(watch(&store, range, create)));
        }
        other => json!({"error": other, "code": 12, "message": "not offered"}),
    };
    Ok(Response::new(Full::new(document.to_string().into()).boxed_unsync()))
}

/// What happened since the asked revision, then what happens. Deletions in between are not
/// replayed: no test needs them.
fn watch(store: &Store, (from, end): (Vec<u8>, Vec<u8>), create: &Value) -> Body {
    let events = store.events.subscribe();
    let since: i64 = create["start_revision"].as_str().unwrap_or("0").parse().unwrap();
    let (revision, kvs) = store.range(&from, &end);
    let modified = |kv: &Value| kv["mod_revision"].as_str().unwrap().parse::<i64>().unwrap();
    let missed = kvs.into_iter().filter(|kv| since <= modified(kv));
    let missed: Vec<_> = missed.map(|kv| json!({ "kv": kv })).collect();
    let header = json!({"revision": revision.to_string()});
    let created = json!({"result": {"header": header, "created": true}}).to_string();
    let first = json!({"result": {"header": header, "events": missed}}).to_string();
    let begin = futures_util::stream::iter([created, first]);
    let follow = futures_util::stream::unfold(events, move |mut events| {
        let (from, end) = (from.clone(), end.clone());
        async move {
            loop {
                let (key, event) = events.recv().await.ok()?;
                if contains(&from, &end, &key) {
                    let message = json!({"result": {"header": {}, "events": [event]}});
                    return Some((message.to_string(), events));
                }
            }
        }
    });
    let frames = begin.chain(follow).map(|text| Ok(Frame::data(Bytes::from(text + "\n"))));
    StreamBody::new(frames).boxed_unsync()
}
