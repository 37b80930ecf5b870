//! Lines that clients stand in: locks and elections, over two faces.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use sim::history::Outcome;
use sim::linearizability::lock::Ret;

use super::etcd;
use super::http::{Answer, send};
use crate::cluster::Door;

/// Of a holder that goes without a word.
pub(super) const TTL_SECONDS: u64 = 2;
/// Longer than anybody is told to wait in line.
const PATIENCE: Duration = Duration::from_secs(2);

/// How a line is asked for a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Lock,
    Election,
    /// Over `/v3`, on a lease of the client's own.
    EtcdElection,
}

/// The names are one space, whatever they are for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// Every line of a run.
pub(super) const LINES: [Line; 4] = [
    Line { name: "door", kind: Kind::Lock },
    Line { name: "gate", kind: Kind::Lock },
    Line { name: "chair", kind: Kind::Election },
    Line { name: "bench", kind: Kind::EtcdElection },
];

/// A turn that a client has.
pub(super) struct Turn {
    pub(super) token: u64,
    lease: String,
    /// What an etcd's leader shows.
    leader: Value,
}

impl Line {
    /// A lease for the place in line, where the client brings one.
    pub(super) async fn lease(&self, door: &Door) -> Option<String> {
        if self.kind != Kind::EtcdElection {
            return Some(String::new());
        }
        let ask = json!({ "TTL": TTL_SECONDS.to_string() });
        let granted = etcd::call(door, "/v3/lease/grant", ask).await.success()?;
        granted["ID"].as_str().map(str::to_owned)
    }

    /// Waits for a turn, for a while.
    pub(super) async fn acquire(
        &self,
        door: &Door,
        owner: &str,
        lease: &str,
    ) -> Result<Turn, Outcome<Ret>> {
        let (path, body) = match self.kind {
            Kind::Lock => (
                format!("/v1/locks/{}", self.name),
                json!({ "ttl_seconds": TTL_SECONDS, "wait_seconds": 1, "owner": owner }),
            ),
            Kind::Election => (
                format!("/v1/elections/{}/campaign", self.name),
                json!({ "ttl_seconds": TTL_SECONDS, "wait_seconds": 1, "value": owner }),
            ),
            Kind::EtcdElection => {
                let (name, value) = (etcd::encode(self.name), etcd::encode(owner));
                let body = json!({ "name": name, "lease": lease, "value": value });
                ("/v3/election/campaign".to_owned(), body)
            }
        };
        let answer = send(door.request(Method::POST, &path).timeout(PATIENCE).json(&body)).await;
        let Some(reply) = answer.success() else {
            return Err(match answer.whole() {
                // Somebody else has a place before this one, who need not have heard of it.
                Some((409, _)) => Outcome::Failed,
                _ => self.refusal(&answer),
            });
        };
        Ok(match self.kind {
            Kind::Lock | Kind::Election => Turn {
                token: reply["fencing_token"].as_u64().expect("a token"),
                lease: reply["lease"].as_str().expect("a lease").to_owned(),
                leader: Value::Null,
            },
            Kind::EtcdElection => Turn {
                token: etcd::number(&reply["leader"]["rev"]),
                lease: lease.to_owned(),
                leader: reply["leader"].clone(),
            },
        })
    }

    /// True if the lease was renewed, false if it is gone.
    pub(super) async fn keep(&self, door: &Door, turn: &Turn) -> Option<bool> {
        if self.kind == Kind::EtcdElection {
            let ask = json!({ "ID": turn.lease });
            let reply = etcd::call(door, "/v3/lease/keepalive", ask).await.success()?;
            // What is zero is left out.
            return reply["result"].is_object().then(|| !reply["result"]["TTL"].is_null());
        }
        let path = format!("/v1/leases/{}/keepalive", turn.lease);
        let answer = send(door.request(Method::PUT, &path)).await;
        match answer.whole()? {
            (404, _) => Some(false),
            (200..300, _) => Some(true),
            _ => None,
        }
    }

    /// Gives the turn back.
    pub(super) async fn release(&self, door: &Door, turn: &Turn) -> Outcome<Ret> {
        let (name, lease) = (self.name, &turn.lease);
        let answer = match self.kind {
            Kind::Lock => {
                send(door.request(Method::DELETE, &format!("/v1/locks/{name}?lease={lease}"))).await
            }
            Kind::Election => {
                let path = format!("/v1/elections/{name}/resign");
                send(door.request(Method::POST, &path).json(&json!({ "lease": lease }))).await
            }
            Kind::EtcdElection => {
                let body = json!({ "leader": turn.leader });
                etcd::call(door, "/v3/election/resign", body).await
            }
        };
        match answer.whole() {
            // Whoever does not lead any more is told the same.
            Some((200, _)) if self.kind == Kind::EtcdElection => Outcome::Done(Ret::Gone),
            Some((200, _)) => Outcome::Done(Ret::Released),
            Some((404, _)) => Outcome::Done(Ret::NotHeld),
            _ => self.refusal(&answer),
        }
    }

    fn refusal(&self, answer: &Answer) -> Outcome<Ret> {
        match self.kind {
            Kind::EtcdElection => etcd::refusal(answer),
            Kind::Lock | Kind::Election => answer.refusal(),
        }
    }
}
