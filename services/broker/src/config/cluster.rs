//! How brokers make one cluster.

use serde::{Deserialize, Serialize};

/// How a cluster comes about, and how it places copies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// What clusters of all services have in common.
    #[serde(flatten)]
    pub members: raft_node::Cluster,
    /// What fails together, such as a rack: copies are kept in different zones where there are
    /// some.
    pub zone: String,
    /// A broker that is silent for this long is given up: its copies are made anew elsewhere.
    pub replace_after_seconds: u64,
    /// Nothing is spread evenly for so long after a broker has come.
    pub settle_seconds: u64,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            members: raft_node::Cluster::default(),
            zone: String::new(),
            replace_after_seconds: 600,
            settle_seconds: 30,
        }
    }
}

impl Cluster {
    pub(super) fn validate(&self, node: &str) -> Result<(), String> {
        self.members.validate(node)?;
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
        check(|c| c.members.heartbeat_ms = 0, "heartbeat_ms");
        check(|c| c.zone = "z".repeat(257), "zone");
        check(|c| c.replace_after_seconds = 1, "replace_after_seconds");
        check(|c| c.settle_seconds = 3_601, "settle_seconds");
    }
}
