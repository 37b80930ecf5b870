//! Settings that every service has.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Flattened into each service's settings: these are top-level keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Base {
    /// This node's name: in `x-quartet-node`, traces, registrations. Unique among nodes of a kind.
    pub node: String,
    /// Where users are served.
    pub listen: SocketAddr,
    /// Where other nodes of the same service connect.
    pub peer_listen: SocketAddr,
    /// `host:port` under which others reach `listen`; empty: `listen` itself.
    pub advertise: String,
    /// Where everything durable is kept. One process at a time may use it.
    pub data_dir: PathBuf,
    /// Allow listening beyond loopback without authentication.
    pub insecure: bool,
    /// Worker threads; 0: one per core.
    pub threads: usize,
    /// Where services register and find each other.
    pub coordinator: Coordinator,
    /// What a caller may ask of this node.
    pub limits: Limits,
    /// How the node stops.
    pub drain: Drain,
    /// What is written to standard error.
    pub log: Log,
    /// Where traces go.
    pub telemetry: Telemetry,
}

/// The coordinator, or any etcd with the v3 JSON gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Coordinator {
    /// URLs such as `http://127.0.0.1:2379`; empty: run alone.
    pub endpoints: Vec<String>,
    /// Who this node is there, if authentication is on; empty: nobody.
    pub user: String,
    /// File with the password of `user`; a line end at its end is not part of it.
    pub password_file: String,
    /// The password itself, for the variable QUARTET_COORDINATOR__PASSWORD: a file here may be
    /// read by more people than should know it.
    pub password: Secret,
}

/// A text that nobody should see.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself: for whoever needs it, never for a log.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "\"***\"" })
    }
}

/// Every limit that a connection or request meets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Largest request body.
    pub max_body_bytes: u64,
    /// Connections a listener holds; the next one waits in the kernel's queue.
    pub max_connections: usize,
    /// Requests in progress; the next one is answered 503 `overloaded`.
    pub max_in_flight: usize,
    /// Time for a request's head to arrive.
    pub header_timeout_seconds: u64,
    /// Longest silence inside a request body.
    pub body_timeout_seconds: u64,
    /// A connection without a request for this long is closed.
    pub idle_timeout_seconds: u64,
    /// A request without an answer after this long is given up; callers may ask for less.
    pub request_timeout_seconds: u64,
}

/// Stopping without losing a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drain {
    /// Between failing `/readyz` and refusing connections, so that balancers notice first.
    pub delay_ms: u64,
    /// How long requests in progress may take to finish.
    pub timeout_seconds: u64,
}

/// Log lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`, also per module: `info,hyper=warn`.
    pub level: String,
    /// `text` for people, `json` for collectors.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line for a person.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Tracing. `OTEL_*` variables win over these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Telemetry {
    /// OTLP over HTTP, such as `http://localhost:4318`; empty: no spans are made.
    pub otlp_endpoint: String,
    /// Share of new traces that are recorded, 0 to 1. A caller's decision wins.
    pub sample_ratio: f64,
    /// How spans of messages are tied together.
    pub messaging: Messaging,
}

/// Spans of messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Messaging {
    /// `link`: a delivery links to its publish. `parent`: it also shows in the publisher's trace.
    pub correlation: Correlation,
}

/// How a delivery is tied to the trace of its publisher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Correlation {
    /// By a link: each keeps its own trace.
    #[default]
    Link,
    /// By a link, and by a span in the publisher's trace.
    Parent,
}

impl Base {
    /// The defaults of `service`, which serves users on `port` and peers on `peer_port`.
    #[must_use]
    pub fn new(service: &str, port: u16, peer_port: u16) -> Self {
        let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Self {
            node: format!("{service}-1"),
            listen: loopback(port),
            peer_listen: loopback(peer_port),
            advertise: String::new(),
            data_dir: PathBuf::from("data").join(service),
            insecure: false,
            threads: 0,
            coordinator: Coordinator::default(),
            limits: Limits::default(),
            drain: Drain::default(),
            log: Log::default(),
            telemetry: Telemetry::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_bytes: 8 * 1024 * 1024,
            max_connections: 8192,
            max_in_flight: 4096,
            header_timeout_seconds: 30,
            body_timeout_seconds: 30,
            idle_timeout_seconds: 120,
            request_timeout_seconds: 120,
        }
    }
}

impl Limits {
    pub(crate) fn header_timeout(&self) -> Duration {
        Duration::from_secs(self.header_timeout_seconds)
    }

    pub(crate) fn body_timeout(&self) -> Duration {
        Duration::from_secs(self.body_timeout_seconds)
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_timeout_seconds)
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout_seconds)
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self { delay_ms: 0, timeout_seconds: 10 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { otlp_endpoint: String::new(), sample_ratio: 1.0, messaging: Messaging::default() }
    }
}
