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
    /// What keys, values and history may take in memory. Beyond it, writes are refused with 429
    /// until keys are deleted and history is compacted.
    pub quota_bytes: u64,
    /// Revisions of history to keep; older ones are compacted by themselves. 0: keep all until
    /// somebody compacts. When the quota is nearly used up, less is kept.
    pub history_revisions: u64,
    /// Who may use keys. Users and roles are kept in the store: POST /v3/auth/enable turns them on.
    pub auth: Auth,
    /// HTTP health checks of registered instances that may run at the same time.
    pub max_concurrent_checks: usize,
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

impl Default for Config {
    fn default() -> Self {
        Self {
            base: Base::new(Self::SERVICE, 2379, 2380),
            max_request_bytes: 1536 * 1024,
            quota_bytes: 2 << 30,
            history_revisions: 100_000,
            auth: Auth::default(),
            max_concurrent_checks: 32,
        }
    }
}

impl ServiceConfig for Config {
    const SERVICE: &'static str = "coordinator";

    fn base(&self) -> &Base {
        &self.base
    }

    fn validate(&self) -> Result<(), String> {
        // The log takes commands up to 16 MiB, and an encoded command is a little longer.
        if !(1024..=8 << 20).contains(&self.max_request_bytes) {
            return Err("max_request_bytes must be between 1024 and 8388608".into());
        }
        if self.quota_bytes < 1 << 20 {
            return Err("quota_bytes must be at least 1048576".into());
        }
        if !(1..=86_400 * 365).contains(&self.auth.token_ttl_seconds) {
            return Err("auth.token_ttl_seconds must be between 1 and 31536000".into());
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
    fn a_limit_that_cannot_work_is_named() {
        let config = Config { max_request_bytes: 1, ..Config::default() };
        assert!(config.validate().unwrap_err().contains("max_request_bytes"));
    }
}
