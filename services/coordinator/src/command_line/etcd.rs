//! Etcd's flags and variables in the words of our own settings.
//!
//! A command line with any of them is one for an etcd: it gets etcd's defaults for the node's
//! name and directory as well, and an address beyond this machine needs no `--insecure`, as etcd
//! asks for none. What has no meaning here is taken and said so; what would promise a protection
//! that is not there is refused. Our own flags go through as they are, also among etcd's.

use std::collections::BTreeMap;

use chassis::Given;
use chassis::config::Limits;

use crate::config::encoded_bytes;

use super::etcd_values::{self as values, ValueError};

/// A command line in our own words.
#[derive(Debug)]
pub(super) struct Translated {
    pub(super) given: Given,
    /// What was left out, one line each.
    pub(super) notes: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FlagError {
    #[error("--{flag} needs a value")]
    NoValue { flag: String },
    #[error("--{flag}={value}: {source}")]
    Value { flag: String, value: String, source: ValueError },
    #[error(
        "--{flag} asks for TLS, which this program does not have yet; let a proxy in front of it \
         do that, and leave the flag out"
    )]
    Tls { flag: String },
    #[error(
        "--config-file is a file of an etcd; write its settings as flags, or as TOML for --config"
    )]
    File,
    #[error(
        "--initial-advertise-peer-urls={own} is not what --initial-cluster says of {name}: {listed}"
    )]
    Peers { own: String, name: String, listed: String },
}

/// Flags that say something to us.
const KNOWN: &[&str] = &[
    "name",
    "data-dir",
    "listen-client-urls",
    "advertise-client-urls",
    "listen-peer-urls",
    "initial-advertise-peer-urls",
    "initial-cluster",
    "initial-cluster-state",
    "initial-cluster-token",
    "heartbeat-interval",
    "election-timeout",
    "snapshot-count",
    "max-learners",
    "experimental-max-learners",
    "quota-backend-bytes",
    "max-request-bytes",
    "auto-compaction-mode",
    "auto-compaction-retention",
    "auth-token",
    "auth-token-ttl",
    "log-level",
    "log-format",
    "max-txn-ops",
    "cors",
    "host-whitelist",
];

/// With a value, all of these ask for TLS.
const TLS: &[&str] = &[
    "cert-file",
    "key-file",
    "trusted-ca-file",
    "client-cert-auth",
    "auto-tls",
    "client-crl-file",
    "peer-cert-file",
    "peer-key-file",
    "peer-trusted-ca-file",
    "peer-client-cert-auth",
    "peer-auto-tls",
    "peer-crl-file",
    "client-cert-file",
    "client-key-file",
    "ca-file",
    "peer-ca-file",
    "peer-client-cert-file",
    "peer-client-key-file",
];

/// Flags of etcd 3.4 and 3.5 that are either given or not; `=false` takes them back.
const SWITCHES: &[&str] = &[
    "client-cert-auth",
    "auto-tls",
    "peer-client-cert-auth",
    "peer-auto-tls",
    "debug",
    "enable-pprof",
    "enable-v2",
    "experimental-initial-corrupt-check",
    "experimental-compact-hash-check-enabled",
    "experimental-corrupt-check-time",
    "experimental-enable-distributed-tracing",
    "experimental-enable-lease-checkpoint",
    "experimental-enable-lease-checkpoint-persist",
    "experimental-memory-mlock",
    "experimental-peer-skip-client-san-verification",
    "experimental-stop-grpc-service-on-defrag",
    "experimental-txn-mode-write-with-shared-buffer",
    "force-new-cluster",
    "initial-election-tick-advance",
    "pre-vote",
    "socket-reuse-address",
    "socket-reuse-port",
    "strict-reconfig-check",
    "unsafe-no-fsync",
    "enable-log-rotation",
    "enable-grpc-gateway",
];

/// The rest of etcd's flags, 3.4 and 3.5: taken, and without effect.
const IGNORED: &[&str] = &[
    "backend-batch-interval",
    "backend-batch-limit",
    "backend-bbolt-freelist-type",
    "bcrypt-cost",
    "cipher-suites",
    "client-cert-allowed-hostname",
    "discovery",
    "discovery-fallback",
    "discovery-proxy",
    "discovery-srv",
    "discovery-srv-name",
    "experimental-backend-bbolt-freelist-type",
    "experimental-bootstrap-defrag-threshold-megabytes",
    "experimental-compact-hash-check-time",
    "experimental-compaction-batch-limit",
    "experimental-compaction-sleep-interval",
    "experimental-distributed-tracing-address",
    "experimental-distributed-tracing-instance-id",
    "experimental-distributed-tracing-sampling-rate",
    "experimental-distributed-tracing-service-name",
    "experimental-downgrade-check-time",
    "experimental-enable-v2v3",
    "experimental-snapshot-catchup-entries",
    "experimental-warning-apply-duration",
    "experimental-warning-unary-request-duration",
    "experimental-watch-progress-notify-interval",
    "grpc-keepalive-interval",
    "grpc-keepalive-min-time",
    "grpc-keepalive-timeout",
    "listen-client-http-urls",
    "listen-metrics-urls",
    "log-outputs",
    "log-package-levels",
    "log-rotation-config-json",
    "logger",
    "max-concurrent-streams",
    "max-snapshots",
    "max-wals",
    "metrics",
    "peer-cert-allowed-cn",
    "peer-cert-allowed-hostname",
    "proxy",
    "proxy-dial-timeout",
    "proxy-failure-wait",
    "proxy-read-timeout",
    "proxy-refresh-interval",
    "proxy-write-timeout",
    "raft-read-timeout",
    "raft-write-timeout",
    "tls-max-version",
    "tls-min-version",
    "v2-deprecation",
    "wal-dir",
    "warning-unary-request-duration",
];

/// Ours by the same name, with the same meaning: it alone makes no command line one for an etcd.
const SHARED: &str = "data-dir";

/// Reads a command line that may be one for an etcd.
pub(super) fn translate(given: Given) -> Result<Translated, FlagError> {
    let Given { arguments, environment } = given;
    let mut flags = from_environment(&environment);
    let (mut ours, mut arguments) = (Vec::new(), arguments.into_iter().peekable());
    ours.extend(arguments.next());
    while let Some(argument) = arguments.next() {
        let Some((flag, value)) = etcd_flag(&argument) else {
            ours.push(argument);
            continue;
        };
        let value = match value {
            Some(value) => value,
            None if SWITCHES.contains(&&*flag) => {
                let said = arguments.next_if(|next| next == "true" || next == "false");
                said.unwrap_or_else(|| "true".to_owned())
            }
            None => arguments.next().ok_or_else(|| FlagError::NoValue { flag: flag.clone() })?,
        };
        flags.insert(flag, value);
    }
    let mut notes = Vec::new();
    if flags.keys().any(|flag| flag != SHARED) {
        ours.extend(settings(&flags, &mut notes)?);
    } else if let Some(dir) = flags.get(SHARED) {
        ours.extend(["--data-dir".to_owned(), dir.clone()]);
    }
    Ok(Translated { given: Given { arguments: ours, environment }, notes })
}

/// `--name=value`, `--name`, and Go's `-name`.
fn etcd_flag(argument: &str) -> Option<(String, Option<String>)> {
    let text = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'))?;
    let (flag, value) = match text.split_once('=') {
        Some((flag, value)) => (flag, Some(value.to_owned())),
        None => (text, None),
    };
    is_etcd(flag).then(|| (flag.to_owned(), value))
}

fn is_etcd(flag: &str) -> bool {
    flag == "config-file"
        || [KNOWN, TLS, SWITCHES, IGNORED].iter().any(|flags| flags.contains(&flag))
}

/// `ETCD_LISTEN_CLIENT_URLS` is `--listen-client-urls`.
fn from_environment(environment: &[(String, String)]) -> BTreeMap<String, String> {
    let flag = |name: &str| Some(name.strip_prefix("ETCD_")?.to_lowercase().replace('_', "-"));
    environment
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .filter_map(|(name, value)| Some((flag(name)?, value.clone())))
        .filter(|(flag, _)| is_etcd(flag))
        .collect()
}

/// The arguments that say the same to us.
fn settings(
    flags: &BTreeMap<String, String>,
    notes: &mut Vec<String>,
) -> Result<Vec<String>, FlagError> {
    if flags.contains_key("config-file") {
        return Err(FlagError::File);
    }
    let mut settings = Settings { flags, arguments: Vec::new() };
    let name = flags.get("name").map_or("default", String::as_str);
    settings.flag("node", name.to_owned());
    let dir = flags.get("data-dir").cloned().unwrap_or_else(|| format!("{name}.etcd"));
    settings.flag("data-dir", dir);
    settings.listeners(notes)?;
    settings.cluster(name)?;
    settings.limits(notes)?;
    for (flag, value) in flags {
        if TLS.contains(&&**flag) && value != "false" {
            return Err(FlagError::Tls { flag: flag.clone() });
        }
        let silent = KNOWN.contains(&&**flag) || value == "false";
        if !silent {
            notes.push(format!("--{flag}={value} is taken and has no effect here"));
        }
    }
    Ok(settings.arguments)
}

struct Settings<'a> {
    flags: &'a BTreeMap<String, String>,
    arguments: Vec<String>,
}

impl Settings<'_> {
    fn flag(&mut self, flag: &str, value: String) {
        self.arguments.extend([format!("--{flag}"), value]);
    }

    fn set(&mut self, key: &str, value: &str) {
        self.arguments.extend(["--set".to_owned(), format!("{key}={value}")]);
    }

    /// Reads a flag, if it is given.
    fn read<T>(
        &self,
        flag: &str,
        read: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> Result<Option<T>, FlagError> {
        let Some(value) = self.flags.get(flag) else { return Ok(None) };
        read(value).map(Some).map_err(|source| FlagError::Value {
            flag: flag.to_owned(),
            value: value.clone(),
            source,
        })
    }

    fn listeners(&mut self, notes: &mut Vec<String>) -> Result<(), FlagError> {
        let mut beyond = false;
        for (flag, ours) in [("listen-client-urls", "listen"), ("listen-peer-urls", "peer-listen")]
        {
            let Some(listen) = self.read(flag, values::listen)? else { continue };
            beyond |= !listen.first.ip().is_loopback();
            for other in listen.others {
                notes.push(format!("--{flag}: {other} is left out, one address is listened on"));
            }
            self.flag(ours, listen.first.to_string());
        }
        if beyond {
            self.arguments.push("--insecure".to_owned());
        }
        if let Some(urls) = self.read("advertise-client-urls", values::urls)? {
            self.set("advertise", values::authority(&urls[0]));
        }
        Ok(())
    }

    fn cluster(&mut self, name: &str) -> Result<(), FlagError> {
        let own = self.read("initial-advertise-peer-urls", values::urls)?;
        let own = own.map(|urls| urls[0].clone());
        let mut peers = self.read("initial-cluster", values::peers)?.unwrap_or_default();
        match (peers.get(name), own) {
            (Some(listed), Some(own)) if *listed != own => {
                let (name, listed) = (name.to_owned(), listed.clone());
                return Err(FlagError::Peers { own, name, listed });
            }
            (None, Some(own)) if peers.is_empty() => {
                peers.insert(name.to_owned(), own);
            }
            _ => {}
        }
        if !peers.is_empty() {
            let peers = serde_json::json!(peers).to_string();
            self.set("cluster.initial_peers", &peers);
        }
        for (flag, key) in [
            ("initial-cluster-state", "cluster.initial_state"),
            ("initial-cluster-token", "cluster.token"),
            ("heartbeat-interval", "cluster.heartbeat_ms"),
            ("election-timeout", "cluster.election_ms"),
            ("snapshot-count", "cluster.snapshot_entries"),
            ("experimental-max-learners", "cluster.max_learners"),
            ("max-learners", "cluster.max_learners"),
        ] {
            if let Some(value) = self.flags.get(flag) {
                let value = value.clone();
                self.set(key, &value);
            }
        }
        Ok(())
    }

    fn limits(&mut self, notes: &mut Vec<String>) -> Result<(), FlagError> {
        if let Some(quota) = self.read("quota-backend-bytes", values::quota)? {
            self.set("quota_bytes", &quota.to_string());
        }
        if let Some(max) = self.read("max-request-bytes", values::number)? {
            self.set("max_request_bytes", &max.to_string());
            // An etcd has no other limit that a request could meet first.
            let body = usize::try_from(max).map_or(usize::MAX, encoded_bytes) as u64;
            if Limits::default().max_body_bytes < body {
                self.set("limits.max_body_bytes", &body.to_string());
            }
        }
        if let Some(max) = self.read("max-txn-ops", values::number)? {
            self.set("max_txn_ops", &max.to_string());
        }
        if let Some(ttl) = self.read("auth-token-ttl", values::number)? {
            self.set("auth.token_ttl_seconds", &ttl.to_string());
        }
        if let Some(level) = self.flags.get("log-level") {
            self.set("log.level", values::log_level(level));
        }
        if self.flags.get("log-format").is_some_and(|format| format == "json") {
            self.set("log.format", "json");
        }
        let mode = self.flags.get("auto-compaction-mode").map_or("periodic", String::as_str);
        if let Some(retention) = self.flags.get("auto-compaction-retention") {
            let kept = values::retention(mode, retention).map_err(|source| FlagError::Value {
                flag: "auto-compaction-retention".to_owned(),
                value: retention.clone(),
                source,
            })?;
            match kept {
                values::Retention::Off => self.set("history_revisions", "0"),
                values::Retention::Revisions(count) => {
                    self.set("history_revisions", &count.to_string());
                }
                values::Retention::Seconds(seconds) => {
                    self.set("history_revisions", "0");
                    self.set("history_seconds", &seconds.to_string());
                }
            }
        }
        for (flag, key) in [("cors", "access.origins"), ("host-whitelist", "access.hosts")] {
            if let Some(list) = self.flags.get(flag) {
                self.set(key, &serde_json::json!(values::allowed(list)).to_string());
            }
        }
        if let Some(other) = self.flags.get("auth-token").filter(|value| *value != "simple") {
            notes.push(format!("--auth-token={other} has no effect here, it is always simple"));
        }
        Ok(())
    }
}
