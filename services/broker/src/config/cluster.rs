//! How brokers make one cluster.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How a cluster comes about, and how it places copies. A directory that holds data knows its
/// members; only an empty one looks at the first three.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// Peer URL of each first broker by name, this one too; empty: a cluster of this broker alone.
    pub initial_peers: BTreeMap<String, String>,
    /// `new`: found the cluster. `existing`: wait to be added to it.
    pub initial_state: InitialState,
    /// Keeps brokers of different clusters apart that reach each other by mistake.
    pub token: String,
    /// How often a leader is heard from.
    pub heartbeat_ms: u64,
    /// Silence after which another leads.
    pub election_ms: u64,
    /// What fails together, such as a rack: copies are kept in different zones where there are
    /// some.
    pub zone: String,
    /// A broker that is silent for this long is given up: its copies are made anew elsewhere.
    pub replace_after_seconds: u64,
    /// Nothing is spread evenly for so long after a broker has come.
    pub settle_seconds: u64,
}

/// Whether there is a cluster already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InitialState {
    /// It is founded.
    #[default]
    New,
    /// Somebody has added this broker to it.
    Existing,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            initial_peers: BTreeMap::new(),
            initial_state: InitialState::New,
            token: "quartet".to_owned(),
            heartbeat_ms: 100,
            election_ms: 1000,
            zone: String::new(),
            replace_after_seconds: 600,
            settle_seconds: 30,
        }
    }
}

impl Cluster {
    pub(super) fn validate(&self, node: &str) -> Result<(), String> {
        let is_url = |url: &str| {
            let port = url.strip_prefix("http://").and_then(|rest| rest.rsplit_once(':'));
            port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| 0 < port))
        };
        if let Some((name, url)) = self.initial_peers.iter().find(|(_, url)| !is_url(url)) {
            return Err(format!(
                "cluster.initial_peers: {name} = {url:?} must be a URL such as http://10.0.0.1:7071"
            ));
        }
        if !self.initial_peers.is_empty() && !self.initial_peers.contains_key(node) {
            return Err(format!("cluster.initial_peers must name this broker too: {node}"));
        }
        if self.initial_state == InitialState::Existing && self.initial_peers.len() < 2 {
            return Err(
                "cluster.initial_state = \"existing\" needs cluster.initial_peers: the peer \
                        URLs of this broker and of one other at least"
                    .to_owned(),
            );
        }
        if !(10..=10_000).contains(&self.heartbeat_ms) {
            return Err("cluster.heartbeat_ms must be between 10 and 10000".to_owned());
        }
        if !(self.heartbeat_ms * 5..=50_000).contains(&self.election_ms) {
            return Err("cluster.election_ms must be between 5 times heartbeat_ms and 50000".into());
        }
        if messaging::catalog::MAX_BROKER_TEXT < self.zone.len() {
            return Err("cluster.zone is at most 256 bytes".to_owned());
        }
        if !(10..=31_536_000).contains(&self.replace_after_seconds) {
            return Err("cluster.replace_after_seconds must be 10 to 31536000".to_owned());
        }
        if 3_600 < self.settle_seconds {
            return Err("cluster.settle_seconds must be 0 to 3600".to_owned());
        }
        Ok(())
    }

    /// FNV-1a of the token. Only keeps clusters apart that reach each other by mistake.
    pub(crate) fn id(&self) -> u64 {
        self.token.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl Fn(&mut Cluster), complaint: &str) {
        let mut cluster = Cluster::default();
        change(&mut cluster);
        assert!(cluster.validate("b1").unwrap_err().contains(complaint));
    }

    #[test]
    fn what_cannot_work_is_named() {
        check(|c| drop(c.initial_peers.insert("b1".into(), "b1:7071".into())), "must be a URL");
        check(|c| drop(c.initial_peers.insert("b2".into(), "http://b:1".into())), "name this");
        check(|c| c.initial_state = InitialState::Existing, "needs cluster.initial_peers");
        check(|c| c.heartbeat_ms = 0, "heartbeat_ms");
        check(|c| c.election_ms = 100, "election_ms");
        check(|c| c.replace_after_seconds = 1, "replace_after_seconds");
    }
}
