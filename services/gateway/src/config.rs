//! Gateway settings: `deploy/config/gateway.toml`, then `QUARTET_*` variables, then flags.

use std::collections::BTreeMap;
use std::time::Duration;

use chassis::{Base, ServiceConfig};
use resilience::{breaker, budget};
use serde::{Deserialize, Serialize};

use crate::pool::PoolConfig;
use crate::upstream::authority_of;

/// Every field has a default, so an empty file is a working gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    #[serde(flatten)]
    pub base: Base,
    /// Endpoints by hand, by service: used besides those that register themselves.
    pub upstreams: BTreeMap<String, Endpoints>,
    /// Connections to each endpoint.
    pub pool: Pool,
    /// When an endpoint gets no more calls, and for how long.
    pub breaker: Breaker,
    /// How much extra load retries may make.
    pub retry_budget: RetryBudget,
    /// Longest pause inside a response; event streams of ours send something every 15 s.
    pub idle_timeout_seconds: u64,
}

/// The endpoints of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Endpoints {
    /// `http://host:port`, one or more.
    pub endpoints: Vec<String>,
}

/// Connections to one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pool {
    /// Most that are in use at once; one carries one request.
    pub max_connections: usize,
    /// Most that are kept for later.
    pub max_idle: usize,
    /// Requests that may wait for one; the next is answered 503 `overloaded`.
    pub max_waiting: usize,
    /// How long they wait.
    pub wait_ms: u64,
    /// How long an unused one is kept: less than upstreams do, or requests meet a closing one.
    pub idle_timeout_ms: u64,
    /// How old one becomes, more or less: a name may mean another address by then.
    pub max_age_seconds: u64,
    /// How long connecting may take.
    pub connect_timeout_ms: u64,
}

/// The breaker of each endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// This many failures in a row open it.
    pub consecutive_failures: u32,
    /// This share of failures within ten seconds opens it, in percent.
    pub failure_percent: u32,
    /// But not with fewer calls than this.
    pub min_volume: u32,
    /// How long it stays open at first; each further time twice as long.
    pub open_min_ms: u64,
    /// The longest it stays open.
    pub open_max_ms: u64,
    /// How long the way back to all calls takes.
    pub ramp_ms: u64,
}

/// The retry budget of each service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryBudget {
    /// Retries for every hundred requests.
    pub percent: u32,
    /// Retries that are always free in each second.
    pub floor_per_second: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            base: Base::new("gateway", 8080, 8081),
            upstreams: BTreeMap::new(),
            pool: Pool::default(),
            breaker: Breaker::default(),
            retry_budget: RetryBudget::default(),
            idle_timeout_seconds: 300,
        }
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_idle: 64,
            max_waiting: 100,
            wait_ms: 50,
            idle_timeout_ms: 4_000,
            max_age_seconds: 300,
            connect_timeout_ms: 1_000,
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            failure_percent: 50,
            min_volume: 20,
            open_min_ms: 1_000,
            open_max_ms: 10_000,
            ramp_ms: 10_000,
        }
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 10, floor_per_second: 3 }
    }
}

impl ServiceConfig for Config {
    const SERVICE: &'static str = "gateway";

    fn base(&self) -> &Base {
        &self.base
    }

    fn validate(&self) -> Result<(), String> {
        for (service, endpoints) in &self.upstreams {
            service.parse::<api::gateway::Name>().map_err(|error| format!("upstreams: {error}"))?;
            for url in &endpoints.endpoints {
                authority_of(url)
                    .map_err(|error| format!("upstreams.{service}.endpoints: {error}"))?;
            }
        }
        let positive = [
            ("pool.max_connections", self.pool.max_connections as u64),
            ("pool.connect_timeout_ms", self.pool.connect_timeout_ms),
            ("breaker.consecutive_failures", self.breaker.consecutive_failures.into()),
            ("breaker.failure_percent", self.breaker.failure_percent.into()),
            ("breaker.open_min_ms", self.breaker.open_min_ms),
            ("idle_timeout_seconds", self.idle_timeout_seconds),
        ];
        match positive.into_iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => Err(format!("{key} must be at least 1")),
            None => Ok(()),
        }
    }
}

impl Pool {
    pub(crate) fn settings(&self) -> PoolConfig {
        PoolConfig {
            max_connections: self.max_connections,
            max_idle: self.max_idle,
            max_waiting: self.max_waiting,
            wait: Duration::from_millis(self.wait_ms),
            idle_timeout: Duration::from_millis(self.idle_timeout_ms),
            max_age: Duration::from_secs(self.max_age_seconds),
            connect_timeout: Duration::from_millis(self.connect_timeout_ms),
        }
    }
}

impl Breaker {
    pub(crate) fn settings(&self) -> breaker::Config {
        breaker::Config {
            consecutive_failures: self.consecutive_failures,
            failure_permille: self.failure_percent.saturating_mul(10),
            min_volume: self.min_volume,
            open_min: Duration::from_millis(self.open_min_ms),
            open_max: Duration::from_millis(self.open_max_ms.max(self.open_min_ms)),
            ramp: Duration::from_millis(self.ramp_ms),
            ..breaker::Config::default()
        }
    }
}

impl RetryBudget {
    pub(crate) fn settings(&self) -> budget::Config {
        budget::Config {
            permille: self.percent.saturating_mul(10),
            floor_per_second: self.floor_per_second,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deployed_file_says_what_the_defaults_are() {
        let file = include_str!("../../../deploy/config/gateway.toml");
        chassis::testing::assert_default_file::<Config>(file);
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn a_wrong_endpoint_is_named() {
        let mut config = Config::default();
        let endpoints = vec!["127.0.0.1:7070".to_owned()];
        config.upstreams.insert("broker".into(), Endpoints { endpoints });
        let error = config.validate().unwrap_err();
        assert!(error.contains("upstreams.broker.endpoints"), "{error}");
        assert!(error.contains("http://host:port"), "{error}");
    }
}
