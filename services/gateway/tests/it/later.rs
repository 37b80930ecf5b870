//! Calls that are answered later, over a broker that a test is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::backend::Seen;
use crate::support::{Backend, Reply, eventually, gateway, http, problem};

/// As much of a broker as calls need: queues that hand out each message once.
#[derive(Default)]
struct Queues {
    by_name: BTreeMap<String, Vec<Stored>>,
    echoes: usize,
}

struct Stored {
    id: String,
    body: String,
    taken: bool,
}

impl Queues {
    fn answer(&mut self, seen: &Seen) -> Reply {
        let line = seen.request_line();
        let target = line.split(' ').nth(1).unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut parts = path.trim_start_matches("/v1/queues/").split('/');
        let (name, what) = (parts.next().unwrap().to_owned(), parts.next());
        let body = String::from_utf8(seen.body.clone()).unwrap();
        if what.is_none() {
            self.by_name.entry(name).or_default();
            return Reply::ok("{}");
        }
        let Some(queue) = self.by_name.get_mut(&name) else {
            let missing = r#"{"code":"queue-not-found","type":"","title":"","status":404,"detail":"none","trace_id":""}"#;
            return Reply::status("404 Not Found", missing);
        };
        match what.unwrap() {
            "messages" => {
                let id = seen.header("x-dedup-id")[0].to_owned();
                assert_eq!(seen.header("x-correlation-id"), [&id]);
                assert_eq!(seen.header("content-type"), ["application/json"]);
                if queue.iter().all(|stored| stored.id != id) {
                    queue.push(Stored { id, body, taken: false });
                }
                Reply::ok("{}")
            }
            "peek" => {
                let id = query.trim_start_matches("correlation_id=");
                let found = queue.iter().find(|stored| stored.id == id);
                let message = |stored: &Stored| {
                    let data: Value = serde_json::from_str(&stored.body).unwrap();
                    json!({ "id": "1", "deliveries": 0, "priority": 0, "data": data,
                            "content_type": "application/json", "attributes": {},
                            "published_at": "" })
                };
                let messages: Vec<_> = found.map(message).into_iter().collect();
                Reply::ok(&json!({ "messages": messages }).to_string())
            }
            "receive" => {
                let next = queue.iter_mut().find(|stored| !stored.taken);
                let messages: Vec<_> = next
                    .map(|stored| {
                        stored.taken = true;
                        let data: Value = serde_json::from_str(&stored.body).unwrap();
                        json!({ "id": "1", "ack_id": stored.id, "delivery": 1, "data": data,
                                "content_type": "application/json", "attributes": {},
                                "published_at": "", "ack_deadline": "" })
                    })
                    .into_iter()
                    .collect();
                Reply::ok(&json!({ "messages": messages }).to_string())
            }
            "ack" => {
                queue.retain(|stored| !body.contains(&stored.id));
                self.echoes += 1;
                Reply::ok("{}")
            }
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_call_is_answered_later_and_once_under_its_key() {
    let queues = Arc::new(Mutex::new(Queues::default()));
    let shared = queues.clone();
    let broker = Backend::start(move |seen| shared.lock().unwrap().answer(seen)).await;
    let gateway = gateway(&[&broker]).await;
    let url = format!("{}/v1/rpc", gateway.url);
    let call = |key: &'static str, method: &str| {
        let call = json!({ "id": 7, "method": method, "data": { "a": 1 } });
        http()
            .post(&url)
            .header("prefer", "wait=1, respond-async")
            .header("idempotency-key", key)
            .json(&call)
            .send()
    };
    let first = call("k", "echo").await.unwrap();
    assert_eq!(first.status(), 202);
    assert_eq!(first.headers()["preference-applied"], "respond-async");
    let location = first.headers()["location"].to_str().unwrap().to_owned();
    let second = call("k", "echo").await.unwrap();
    assert_eq!(second.headers()["location"], location);
    let other = call("l", "none").await.unwrap();
    let other = other.headers()["location"].to_str().unwrap().to_owned();
    assert_ne!(other, location);

    let answer = async |path: String| {
        eventually("it is answered", async || {
            let answer = http().get(format!("{}{path}", gateway.url)).send().await.unwrap();
            let status = answer.status();
            let answer: Value = answer.json().await.unwrap();
            match status.as_u16() {
                200 => Some(answer),
                202 => {
                    assert_eq!(answer["status"], "pending");
                    None
                }
                other => panic!("{other}: {answer}"),
            }
        })
        .await
    };
    let echoed = answer(location).await;
    assert_eq!((&echoed["id"], &echoed["data"]["a"]), (&json!(7), &json!(1)));
    assert_eq!(answer(other).await["code"], "method-not-found");
    // Those two and no third.
    eventually("both are settled", async || (queues.lock().unwrap().echoes == 2).then_some(()))
        .await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_call_that_cannot_be_stored_is_refused() {
    let none = gateway(&[]).await;
    let url = format!("{}/v1/rpc", none.url);
    let call =
        || http().post(&url).header("prefer", "respond-async").json(&json!({ "method": "echo" }));
    assert_eq!(call().send().await.unwrap().status(), 503);
    let secret = call().header("authorization", "Bearer x").send().await.unwrap();
    assert_eq!(secret.status(), 400);
    assert!(problem(secret).await.detail.contains("credentials"));
    for id in ["x", "0123456789abcdef0123456789abcdeg"] {
        let unknown = http().get(format!("{url}/{id}")).send().await.unwrap();
        assert_eq!(unknown.status(), 404);
        assert_eq!(problem(unknown).await.code, "call-not-found");
    }
    none.stop().await;
}
