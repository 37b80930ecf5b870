//! Replica settings: `deploy/config/replica.toml`, then `QUARTET_*` variables, then flags.

use std::collections::BTreeMap;
use std::time::Duration;

use chassis::{Base, ServiceConfig};
use serde::{Deserialize, Serialize};

/// Every field has a default, so an empty file is a working store of a single node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// What all services share.
    #[serde(flatten)]
    pub base: Base,
    /// The replication group of this node.
    pub replication: Replication,
    /// What is kept, and for how long.
    pub store: Store,
}

/// Who replicates to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Replication {
    /// Name of the group. Nodes of different groups never mix, whatever their addresses.
    pub group: String,
    /// What this node is.
    pub role: Role,
    /// Every node of the group, this one included. Empty: this node alone.
    pub members: Vec<Member>,
    /// Silence on the log stream is filled with heartbeats; they also carry the clock for `lag`.
    pub heartbeat_ms: u64,
    /// A replica that is further behind than this is not ready.
    pub ready_max_lag_ms: u64,
    /// How long a write or a waiting read may take if the caller sets no deadline.
    pub wait_timeout_ms: u64,
}

/// What a node is in its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes the writes.
    #[default]
    Primary,
    /// Follows the primary and serves reads.
    Replica,
}

/// One node of the group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its `node` setting.
    pub name: String,
    /// Where users reach it: `http://host:6300`.
    pub url: String,
    /// Where the other members reach it: `http://host:6301`.
    pub peer_url: String,
}

/// Bounds of what is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Log kept for replicas that were away, in bytes. A replica that needs more gets a snapshot.
    /// One that is connected may hold back twice as much.
    pub log_retention_bytes: u64,
    /// Writes that no quorum has confirmed yet, in bytes of log. Beyond it the primary refuses.
    pub max_tail_bytes: usize,
    /// With less space than this, in bytes, new values are refused: the engine needs it to store
    /// what was accepted, and to carry out deletes.
    pub min_free_bytes: u64,
    /// How long a repeat with the same `Idempotency-Key` is answered with the first result.
    pub idempotency_window_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            base: Base::new("replica", 6300, 6301),
            replication: Replication::default(),
            store: Store::default(),
        }
    }
}

impl Default for Replication {
    fn default() -> Self {
        Self {
            group: "main".to_owned(),
            role: Role::Primary,
            members: Vec::new(),
            heartbeat_ms: 100,
            ready_max_lag_ms: 10_000,
            wait_timeout_ms: 5_000,
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            log_retention_bytes: 256 * 1024 * 1024,
            max_tail_bytes: 64 * 1024 * 1024,
            min_free_bytes: 32 * 1024 * 1024,
            idempotency_window_seconds: 3600,
        }
    }
}

impl Replication {
    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }

    pub(crate) fn wait_timeout(&self) -> Duration {
        Duration::from_millis(self.wait_timeout_ms)
    }

    /// The members other than `node`, in the order of the file.
    pub(crate) fn others(&self, node: &str) -> Vec<Member> {
        self.members.iter().filter(|member| member.name != node).cloned().collect()
    }
}

impl ServiceConfig for Config {
    const SERVICE: &'static str = "replica";

    fn base(&self) -> &Base {
        &self.base
    }

    /// So that whoever looks for the primary finds it without asking every node.
    fn meta(&self) -> BTreeMap<String, String> {
        let role = match self.replication.role {
            Role::Primary => "primary",
            Role::Replica => "replica",
        };
        let entry = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        BTreeMap::from([entry("role", role), entry("group", &self.replication.group)])
    }

    fn validate(&self) -> Result<(), String> {
        let Replication { group, role, members, heartbeat_ms, .. } = &self.replication;
        if group.is_empty() || 64 < group.len() {
            return Err("replication.group must have 1 to 64 bytes".to_owned());
        }
        if !(10..=10_000).contains(heartbeat_ms) {
            return Err("replication.heartbeat_ms must be between 10 and 10000".to_owned());
        }
        if self.replication.wait_timeout_ms == 0 {
            return Err("replication.wait_timeout_ms must not be 0".to_owned());
        }
        let node = &self.base.node;
        if *role == Role::Replica && members.is_empty() {
            return Err(
                "a replica needs [[replication.members]]: at least itself and the primary, \
                        each with name, url and peer_url"
                    .to_owned(),
            );
        }
        if !members.is_empty() && !members.iter().any(|member| member.name == *node) {
            return Err(format!(
                "replication.members does not list this node; add one with name = \"{node}\", or \
                 set node to one of their names"
            ));
        }
        for (i, member) in members.iter().enumerate() {
            let unique = members[..i].iter().all(|other| other.name != member.name);
            if member.name.is_empty() || !unique {
                return Err(format!("replication.members: `{}` is not a unique name", member.name));
            }
            for url in [&member.url, &member.peer_url] {
                let http = url
                    .parse::<http::Uri>()
                    .ok()
                    .filter(|url| url.scheme_str() == Some("http") && url.authority().is_some());
                if http.is_none() {
                    return Err(format!(
                        "replication.members: `{url}` of `{}` is not like http://host:port",
                        member.name
                    ));
                }
            }
        }
        if self.store.max_tail_bytes < 8 * 1024 * 1024 {
            return Err("store.max_tail_bytes must be at least 8388608, one large batch".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deployed_file_says_what_the_defaults_are() {
        let file = include_str!("../../../deploy/config/replica.toml");
        chassis::testing::assert_default_file::<Config>(file);
    }

    fn with(members: &[&str]) -> Config {
        let mut config = Config::default();
        let member = |name: &&str| Member {
            name: (*name).to_owned(),
            url: "http://127.0.0.1:6300".to_owned(),
            peer_url: "http://127.0.0.1:6301".to_owned(),
        };
        config.replication.members = members.iter().map(member).collect();
        config
    }

    #[test]
    fn the_default_is_a_primary_alone() {
        assert_eq!(Config::default().validate(), Ok(()));
        assert_eq!(with(&["replica-1", "replica-2"]).validate(), Ok(()));
    }

    #[test]
    fn members_that_cannot_be_right_say_what_to_write() {
        let says = |config: Config, text: &str| {
            let error = config.validate().unwrap_err();
            assert!(error.contains(text), "{error}");
        };
        says(with(&["replica-2"]), "name = \"replica-1\"");
        says(with(&["replica-1", "replica-1"]), "not a unique name");
        let mut config = with(&["replica-1"]);
        config.replication.members[0].url = "localhost:6300".to_owned();
        says(config, "http://host:port");
        let mut config = Config::default();
        config.replication.role = Role::Replica;
        says(config, "[[replication.members]]");
    }
}
