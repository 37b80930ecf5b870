//! Coordinator settings: `deploy/config/coordinator.toml`, then `QUARTET_*` variables, then flags.

use chassis::{Base, ServiceConfig};
use serde::{Deserialize, Serialize};

/// Every field has a default, so an empty file is a working single-node coordinator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    #[serde(flatten)]
    pub base: Base,
    /// Longest request that writes, in bytes: value, transaction, or `/v3` message.
    pub max_request_bytes: usize,
    /// Comparisons, and operations per branch, that a transaction may have, nested ones included.
    pub max_txn_ops: usize,
    /// Callers that may wait in line for a lock or for leadership; the next one is told to come
    /// later. Never more than half of `limits.max_in_flight`.
    pub max_waiters: usize,
    /// What keys, values and history may take in memory. Beyond it, writes are refused with 429
    /// until keys are deleted and history is compacted.
    pub quota_bytes: u64,
    /// Revisions of history to keep; older ones are compacted by themselves. 0: keep all until
    /// somebody compacts. When the quota is nearly used up, less is kept.
    pub history_revisions: u64,
    /// Seconds of history to keep; older revisions are compacted by themselves. 0: as many as
    /// `history_revisions` says.
    pub history_seconds: u64,
    /// Who may use keys. Users and roles are kept in the store: POST /v3/auth/enable turns them on.
    pub auth: Auth,
    /// What this node lets browsers do.
    pub access: Access,
    /// HTTP health checks of registered instances that may run at the same time.
    pub max_concurrent_checks: usize,
    /// The nodes that make up the store together.
    pub cluster: Cluster,
}

/// Authentication of callers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Auth {
    /// A token that is not used for this long is worth nothing any more.
    pub token_ttl_seconds: u64,
}

impl Default for Auth {
    fn default() -> Self {
        Self { token_ttl_seconds: 300 }
    }
}

/// How long a message of an etcd may be that holds so many bytes: they come in base64, with names
/// around them.
pub(crate) const fn encoded_bytes(max_bytes: usize) -> usize {
    max_bytes / 3 * 4 + (64 << 10)
}

/// What browsers may do, or web pages in them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Access {
    /// Names that requests may call this node by, in their `Host` and without a port; `*`: any. A
    /// web page whose name was made to lead here calls it by another. Probes, `/metrics` and
    /// `/docs` answer to any name.
    pub hosts: Vec<String>,
    /// Origins, such as `https://console.example.com`, whose pages may use what an etcd has:
    /// `/v3`, `/health` and `/version`; `*`: any.
    pub origins: Vec<String>,
}

/// Stands for every host, or every origin.
pub(crate) const ANY: &str = "*";

impl Default for Access {
    fn default() -> Self {
        let any = || vec![ANY.to_owned()];
        Self { hosts: any(), origins: any() }
    }
}

impl Access {
    fn validate(&self) -> Result<(), String> {
        let is_host =
            |host: &str| host == ANY || !host.is_empty() && !host.contains(['/', ' ', '*']);
        let is_origin = |origin: &str| {
            let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            origin == ANY || rest.is_some_and(|rest| !rest.contains(ANY) && is_host(rest))
        };
        if self.hosts.is_empty() {
            return Err("access.hosts is empty, so nobody could ask; \"*\" is any name".into());
        }
        if let Some(wrong) = self.hosts.iter().find(|host| !is_host(host)) {
            return Err(format!("access.hosts: {wrong:?} must be a name such as etcd-1, or \"*\""));
        }
        match self.origins.iter().find(|origin| !is_origin(origin)) {
            Some(wrong) => Err(format!(
                "access.origins: {wrong:?} must be an origin such as https://a.example, without a \
                 path, or \"*\""
            )),
            None => Ok(()),
        }
    }
}

/// How a cluster comes about, and how much of its log is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// What clusters of all services have in common.
    #[serde(flatten)]
    pub members: raft_node::Cluster,
    /// Log entries between two snapshots; what is older leaves the log, and whoever lags behind it
    /// gets the snapshot. One is also taken every 16 MiB of log.
    pub snapshot_entries: u64,
    /// Members that are to stay learners.
    pub max_learners: usize,
}

impl Default for Cluster {
    fn default() -> Self {
        Self { members: raft_node::Cluster::default(), snapshot_entries: 100_000, max_learners: 1 }
    }
}

impl Cluster {
    fn validate(&self, node: &str) -> Result<(), String> {
        if self.snapshot_entries == 0 {
            return Err("cluster.snapshot_entries must be at least 1".into());
        }
        self.members.validate(node)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            base: Base::new(Self::SERVICE, 2379, 2380),
            max_request_bytes: 1536 * 1024,
            max_txn_ops: 128,
            max_waiters: 2048,
            quota_bytes: 2 << 30,
            history_revisions: 100_000,
            history_seconds: 0,
            auth: Auth::default(),
            access: Access::default(),
            max_concurrent_checks: 32,
            cluster: Cluster::default(),
        }
    }
}

impl ServiceConfig for Config {
    const SERVICE: &'static str = "coordinator";
    const HELP: &'static str = "`quartet-coordinator restore --help`: make a data directory from a backup.\n\
         The flags and ETCD_* variables of an etcd are understood as well.";
    /// As etcd says it: scripts wait for these words.
    const READY: &'static str = "ready to serve client requests";

    fn base(&self) -> &Base {
        &self.base
    }

    fn validate(&self) -> Result<(), String> {
        // The log takes commands up to 16 MiB, and an encoded command is a little longer.
        if !(1024..=8 << 20).contains(&self.max_request_bytes) {
            return Err("max_request_bytes must be between 1024 and 8388608".into());
        }
        // Every key that is put is compared with every range that is deleted.
        if !(1..=16_384).contains(&self.max_txn_ops) {
            return Err("max_txn_ops must be between 1 and 16384".into());
        }
        if self.quota_bytes < 1 << 20 {
            return Err("quota_bytes must be at least 1048576".into());
        }
        if !(1..=86_400 * 365).contains(&self.auth.token_ttl_seconds) {
            return Err("auth.token_ttl_seconds must be between 1 and 31536000".into());
        }
        self.access.validate()?;
        self.cluster.validate(&self.base.node)?;
        if self.max_waiters == 0 {
            return Err("max_waiters must be at least 1".into());
        }
        if self.max_concurrent_checks == 0 {
            return Err("max_concurrent_checks must be at least 1".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deployed_file_says_what_the_defaults_are() {
        let file = include_str!("../../../deploy/config/coordinator.toml");
        chassis::testing::assert_default_file::<Config>(file);
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn a_cluster_names_this_node_and_leaves_time_for_heartbeats() {
        let check = |toml: &str| chassis::config::parse::<Config>(toml).map_err(|e| e.to_string());
        let peers = "node = \"a\"\n[cluster.initial_peers]\n";
        assert!(check(&format!("{peers}a = \"http://127.0.0.1:1\"")).is_ok());
        assert!(check(&format!("{peers}b = \"http://127.0.0.1:1\"")).unwrap_err().contains("name"));
        assert!(check(&format!("{peers}a = \"127.0.0.1:1\"")).unwrap_err().contains("URL"));
        let election = check("[cluster]\nelection_ms = 400").unwrap_err();
        assert!(election.contains("cluster.election_ms"), "{election}");
    }

    #[test]
    fn names_and_origins_are_such() {
        let check = |hosts: &[&str], origins: &[&str]| {
            let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
            Access { hosts: owned(hosts), origins: owned(origins) }.validate()
        };
        assert_eq!(check(&["etcd-1", "::1"], &["https://a.example", "http://a:81"]), Ok(()));
        assert_eq!(check(&["*"], &[]), Ok(()), "no page may");
        for hosts in [&[][..], &[""], &["http://a"], &["*.example"]] {
            assert!(check(hosts, &["*"]).unwrap_err().contains("access.hosts"), "{hosts:?}");
        }
        for origin in ["", "a.example", "https://a/", "https://", "https://*", "null"] {
            assert!(check(&["*"], &[origin]).unwrap_err().contains("access.origins"), "{origin}");
        }
    }

    #[test]
    fn a_limit_that_cannot_work_is_named() {
        let config = Config { max_request_bytes: 1, ..Config::default() };
        assert!(config.validate().unwrap_err().contains("max_request_bytes"));
    }
}
