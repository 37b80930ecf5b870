//! Observers of elections, whose streams are opened again when they break off.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::Value;
use sim::Rng;
use sim::elections::{Observed, Sight};
use tokio::time::{sleep, timeout};

use super::Shared;
use super::watchers::{NEVER, SILENCE, next, open};
use crate::member::POLL;

/// How often it is looked whether the run is over.
const LOOK: Duration = Duration::from_millis(100);

pub(super) struct Observer {
    shared: Arc<Shared>,
    rng: Rng,
    observed: Observed,
}

impl Observer {
    pub(super) fn new(election: &str, shared: Arc<Shared>, rng: Rng) -> Self {
        let (name, election) = (format!("observer of {election}"), election.to_owned());
        Self { shared, rng, observed: Observed { name, election, streams: Vec::new() } }
    }

    pub(super) async fn run(mut self) {
        while !self.shared.is_over() {
            self.observe().await;
            sleep(POLL).await;
        }
        self.shared.recorder.record().observed.push(self.observed);
    }

    /// One stream, until it ends or is silent for long.
    async fn observe(&mut self) {
        let path = format!("/v1/elections/{}/observe", self.observed.election);
        let door = self.shared.any_door(&mut self.rng);
        let request = door.request(Method::GET, &path).timeout(NEVER);
        let Some(mut stream) = open(request).await else { return };
        let mut sights = Vec::new();
        let mut buffer = Vec::new();
        while let Some(piece) = self.piece(&mut stream).await {
            buffer.extend_from_slice(&piece);
            while let Some(end) = buffer.windows(2).position(|two| two == b"\n\n") {
                let message: Vec<u8> = buffer.drain(..end + 2).collect();
                sights.extend(sight(&String::from_utf8_lossy(&message)));
            }
        }
        self.observed.streams.push(sights);
    }

    async fn piece(&self, stream: &mut Response) -> Option<Vec<u8>> {
        let next = async {
            let mut next = Box::pin(next(stream));
            loop {
                match timeout(LOOK, &mut next).await {
                    Ok(piece) => return piece,
                    Err(_) if self.shared.is_over() => return None,
                    Err(_) => {}
                }
            }
        };
        timeout(SILENCE, next).await.ok().flatten()
    }
}

/// The id is the revision from which on it is so.
fn sight(message: &str) -> Option<Sight> {
    let field = |name: &str| {
        message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let revision = || field("id").and_then(|id| id.parse().ok()).expect("an id is a revision");
    let leader = match field("event")? {
        "leader" => {
            let data: Value = serde_json::from_str(field("data")?).expect("a candidate");
            let token = data["fencing_token"].as_u64().expect("a token");
            Some((token, data["value"].as_str().expect("a value").to_owned()))
        }
        "vacant" => None,
        other => panic!("an observer got {other}"),
    };
    Some(Sight { revision: revision(), leader })
}
