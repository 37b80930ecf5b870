//! Broker settings: `deploy/config/broker.toml`, then `QUARTET_*` variables, then flags.

mod cluster;

use chassis::{Base, ServiceConfig};
use messaging::catalog::MAX_REPLICAS;
use serde::{Deserialize, Serialize};

pub use cluster::Cluster;

/// Every field has a default, so an empty file is a working single-node broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// What all services share.
    #[serde(flatten)]
    pub base: Base,
    /// Limits of messages and consumers.
    pub broker: Limits,
    /// The brokers that make one cluster.
    pub cluster: Cluster,
}

/// What a user may ask of the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Largest message body, in bytes. At most 8 MiB.
    pub max_message_bytes: u64,
    /// Most messages in one batch.
    pub max_batch_messages: usize,
    /// Requests that may wait for messages of one queue or subscription at a time.
    pub max_waiters: usize,
    /// How the broker looks to clients of SQS.
    pub sqs: Sqs,
    /// Streams of `/streams/`.
    pub streams: Streams,
    /// How many copies a topic or queue gets that does not say so. With fewer brokers there are
    /// fewer, and more as soon as there are more brokers.
    pub default_replicas: u8,
    /// How webhooks are called.
    pub webhooks: Webhooks,
}

/// How webhooks are called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Webhooks {
    /// Whether private, link-local and other addresses within the site may be called. Loopback may
    /// while this broker listens on loopback itself.
    pub allow_private: bool,
    /// How long a call may take, unless its subscription says so: 1 to 300.
    pub timeout_seconds: u64,
}

impl Default for Webhooks {
    fn default() -> Self {
        Self { allow_private: false, timeout_seconds: 20 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: 1024 * 1024,
            max_batch_messages: 10_000,
            max_waiters: 1_024,
            default_replicas: 3,
            sqs: Sqs::default(),
            streams: Streams::default(),
            webhooks: Webhooks::default(),
        }
    }
}

/// Streams of `/streams/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Streams {
    /// How long a reader with `live=long-poll` waits for more, in seconds.
    pub long_poll_seconds: u64,
    /// Origins, such as `https://app.example.com`, whose pages may read and write streams in a
    /// browser. `*`: of any.
    pub origins: Vec<String>,
}

/// Stands for every origin.
pub(crate) const ANY: &str = "*";

impl Default for Streams {
    fn default() -> Self {
        Self { long_poll_seconds: 30, origins: vec![ANY.to_owned()] }
    }
}

/// How the broker looks to clients of SQS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sqs {
    /// The account in URLs and ARNs of queues: twelve digits.
    pub account: String,
    /// The region in ARNs, for requests that are signed for none.
    pub region: String,
    /// Seconds between two purges of a queue over this face. 0: as often as asked; AWS has 60.
    pub purge_pause_seconds: u64,
}

impl Default for Sqs {
    fn default() -> Self {
        Self {
            account: "000000000000".to_owned(),
            region: "us-east-1".to_owned(),
            purge_pause_seconds: 0,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            base: Base::new("broker", 7070, 7071),
            broker: Limits::default(),
            cluster: Cluster::default(),
        }
    }
}

impl ServiceConfig for Config {
    const SERVICE: &'static str = "broker";

    fn base(&self) -> &Base {
        &self.base
    }

    fn validate(&self) -> Result<(), String> {
        let Limits {
            max_message_bytes,
            max_batch_messages,
            max_waiters,
            default_replicas,
            ref sqs,
            ref streams,
            ref webhooks,
        } = self.broker;
        if !(1..=8 << 20).contains(&max_message_bytes) {
            return Err("broker.max_message_bytes must be 1 to 8388608".to_owned());
        }
        if !(1..=100_000).contains(&max_batch_messages) {
            return Err("broker.max_batch_messages must be 1 to 100000".to_owned());
        }
        if !(1..=1_000_000).contains(&max_waiters) {
            return Err("broker.max_waiters must be 1 to 1000000".to_owned());
        }
        if !(1..=60).contains(&streams.long_poll_seconds) {
            return Err("broker.streams.long_poll_seconds must be 1 to 60".to_owned());
        }
        if let Some(wrong) = streams.origins.iter().find(|origin| !is_origin(origin)) {
            return Err(format!(
                "broker.streams.origins: {wrong:?} must be an origin such as \
                 https://app.example.com, without a path, or *"
            ));
        }
        if sqs.account.len() != 12 || !sqs.account.bytes().all(|c| c.is_ascii_digit()) {
            return Err("broker.sqs.account must be twelve digits, in quotes".to_owned());
        }
        let fits = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
        if !(1..=32).contains(&sqs.region.len()) || !sqs.region.bytes().all(fits) {
            return Err("broker.sqs.region must be 1 to 32 of a-z, 0-9 and dash".to_owned());
        }
        if !(1..=MAX_REPLICAS).contains(&default_replicas) {
            return Err(format!("broker.default_replicas must be 1 to {MAX_REPLICAS}"));
        }
        if !(1..=300).contains(&webhooks.timeout_seconds) {
            return Err("broker.webhooks.timeout_seconds must be 1 to 300".to_owned());
        }
        self.cluster.validate(&self.base.node)
    }
}

/// Scheme, host and perhaps port, as browsers write it.
fn is_origin(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let is_host = |rest: &str| {
        !rest.is_empty()
            && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@*".contains(&byte))
    };
    text == ANY || rest.is_some_and(is_host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deployed_file_says_what_the_defaults_are() {
        let file = include_str!("../../../deploy/config/broker.toml");
        chassis::testing::assert_default_file::<Config>(file);
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn a_limit_that_makes_no_sense_is_named() {
        let mut config = Config::default();
        config.broker.max_message_bytes = 0;
        assert!(config.validate().unwrap_err().contains("broker.max_message_bytes"));
    }
}
