//! Calls to other brokers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::http::{Client, Config};
use client::{Outcome, Url};
use consensus::{GroupId, NodeId};
use http::Method;
use resilience::retry::Repeat;

use super::wire::{self, Head};
use super::{Op, answered};
use crate::broker::Broker;
use crate::error::{LogError, MessageError};

/// How long another broker may take, besides what it waits on purpose.
const ANSWER: Duration = Duration::from_secs(10);

/// The other brokers, as the catalog names them.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    cluster: u64,
    known: Mutex<BTreeMap<NodeId, Peer>>,
}

#[derive(Clone, Debug)]
struct Peer {
    name: Arc<str>,
    url: String,
    client: Client,
}

impl Peers {
    pub(crate) fn new(cluster: u64) -> Self {
        Self { cluster, known: Mutex::default() }
    }

    pub(crate) fn cluster(&self) -> u64 {
        self.cluster
    }

    /// A broker is reached there.
    pub(crate) fn know(&self, node: NodeId, name: &str, url: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(&node).is_some_and(|peer| peer.url == url && &*peer.name == name) {
            return;
        }
        let client = Url::parse(url).ok().and_then(|url| Client::new(config(), [url]).ok());
        match client {
            Some(client) => {
                known.insert(node, Peer { name: name.into(), url: url.to_owned(), client });
            }
            None => tracing::warn!(name, url, "a broker has an address that cannot be used"),
        }
    }

    /// A broker belongs to the cluster no more.
    pub(crate) fn forget(&self, node: NodeId) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&node);
    }

    /// What a broker is called, if it is known.
    pub(crate) fn name(&self, node: NodeId) -> Option<Arc<str>> {
        Some(self.get(node)?.name)
    }

    fn get(&self, node: NodeId) -> Option<Peer> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }

    /// Asks this broker, and nobody else.
    pub(crate) async fn call<O: Op>(
        &self,
        broker: &Broker,
        to: NodeId,
        (group, op): (GroupId, &O),
    ) -> Result<O::Answer, MessageError> {
        let Some(peer) = self.get(to) else {
            let reason = format!("the address of broker {to} is not known here yet");
            return Err(LogError::OutOfReach { reason }.into());
        };
        let (version, cluster, from) = (wire::VERSION, self.cluster, broker.node());
        let head = Head { version, cluster, from, to, kind: O::KIND, group };
        let call = peer.client.call(Method::POST, wire::PATH);
        let call = call
            .body(wire::MEDIA_TYPE, wire::encode(&head, op))
            .header(api::headers::FORWARDED_BY, &broker.shared.name)
            .timeout(ANSWER + Duration::from_millis(op.wait_ms()))
            .repeat(Repeat::Unsafe);
        let call = if op.wait_ms() == 0 { call } else { call.waits() };
        match call.send().await {
            Ok(reply) => {
                answered::note(&peer.name);
                let answer = wire::decode::<Result<O::Answer, MessageError>>(&reply.body);
                answer.unwrap_or_else(|| Err(LogError::Indeterminate.into()))
            }
            Err(error) if error.outcome == Outcome::NotDone => {
                let reason = format!("{}: {error}", peer.name);
                Err(LogError::OutOfReach { reason }.into())
            }
            Err(error) => {
                tracing::debug!(broker = &*peer.name, %error, "a call to a broker has no answer");
                Err(LogError::Indeterminate.into())
            }
        }
    }
}

fn config() -> Config {
    Config {
        max_reply_bytes: wire::MAX_BYTES,
        user_agent: concat!("quartet-broker/", env!("CARGO_PKG_VERSION")),
        ..Config::default()
    }
}
