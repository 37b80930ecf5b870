//! The settings by which nodes find each other, the same in every service.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// How a cluster comes about, and how fast it notices silence. A directory that holds data knows
/// its members; only an empty one looks at the names and addresses here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// This node's name among the members; empty: `node`.
    pub name: String,
    /// Peer URL of each first member by name, this node too; empty: a cluster of this node alone.
    pub initial_peers: BTreeMap<String, String>,
    /// `new`: found the cluster. `existing`: wait to be added to it.
    pub initial_state: InitialState,
    /// Keeps nodes of different clusters apart that reach each other by mistake.
    pub token: String,
    /// How often a leader is heard from.
    pub heartbeat_ms: u64,
    /// Silence after which another leads.
    pub election_ms: u64,
}

/// Whether there is a cluster already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InitialState {
    /// It is founded.
    #[default]
    New,
    /// Somebody has added this node to it.
    Existing,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            name: String::new(),
            initial_peers: BTreeMap::new(),
            initial_state: InitialState::New,
            token: "quartet".to_owned(),
            heartbeat_ms: 100,
            election_ms: 1000,
        }
    }
}

impl Cluster {
    /// Says what cannot work. `node` is the name of a node that is given none for the cluster.
    ///
    /// # Errors
    ///
    /// With the setting and what it has to be, for the one who made it.
    pub fn validate(&self, node: &str) -> Result<(), String> {
        if let Some((name, url)) = self.initial_peers.iter().find(|(_, url)| !is_url(url)) {
            return Err(format!(
                "cluster.initial_peers: {name} = {url:?} must be a URL such as http://10.0.0.1:2380"
            ));
        }
        let name = self.name_or(node);
        if !self.initial_peers.is_empty() && !self.initial_peers.contains_key(name) {
            return Err(format!("cluster.initial_peers must name this node too: {name}"));
        }
        if self.initial_state == InitialState::Existing && self.initial_peers.len() < 2 {
            return Err(
                "cluster.initial_state = \"existing\" needs cluster.initial_peers: the peer \
                        URLs of this node and of one member at least"
                    .to_owned(),
            );
        }
        if !(10..=10_000).contains(&self.heartbeat_ms) {
            return Err("cluster.heartbeat_ms must be between 10 and 10000".to_owned());
        }
        if !(self.heartbeat_ms * 5..=50_000).contains(&self.election_ms) {
            return Err("cluster.election_ms must be between 5 times heartbeat_ms and 50000".into());
        }
        Ok(())
    }

    /// What this node is called, if `node` is its name outside the cluster.
    #[must_use]
    pub fn name_or<'a>(&'a self, node: &'a str) -> &'a str {
        if self.name.is_empty() { node } else { &self.name }
    }

    /// FNV-1a of the token. Only keeps clusters apart that reach each other by mistake.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.token.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        })
    }
}

/// Peer URLs of all but `name`.
pub(crate) fn others(peers: &BTreeMap<String, String>, name: &str) -> BTreeSet<String> {
    let others = peers.iter().filter(|(other, _)| *other != name);
    others.map(|(_, url)| url.clone()).collect()
}

fn is_url(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let port = rest.and_then(|rest| rest.rsplit_once(':')).map(|(_, port)| port);
    port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| 0 < port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl Fn(&mut Cluster), complaint: &str) {
        let mut cluster = Cluster::default();
        change(&mut cluster);
        let said = cluster.validate("n1").unwrap_err();
        assert!(said.contains(complaint), "{said}");
    }

    #[test]
    fn what_cannot_work_is_named() {
        check(|c| drop(c.initial_peers.insert("n1".into(), "n1:2380".into())), "must be a URL");
        check(|c| drop(c.initial_peers.insert("n2".into(), "http://n:1".into())), "name this");
        check(|c| c.initial_state = InitialState::Existing, "needs cluster.initial_peers");
        check(|c| c.heartbeat_ms = 0, "heartbeat_ms");
        check(|c| c.election_ms = 400, "election_ms");
    }

    #[test]
    fn a_node_may_be_called_otherwise_in_its_cluster() {
        let mut cluster = Cluster { name: "a".into(), ..Cluster::default() };
        cluster.initial_peers.insert("a".into(), "https://a.example:2380".into());
        assert_eq!(cluster.validate("n1"), Ok(()));
        assert_eq!((cluster.name_or("n1"), Cluster::default().name_or("n1")), ("a", "n1"));
    }
}
