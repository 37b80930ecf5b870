//! Nodes that know each other by a book of addresses, as those of a catalog do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use consensus::NodeId;
use raft_node::{Config, Groups};
use telemetry::metrics::Format;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Host;
use super::cluster::serve;

/// A place for a node: what outlives its process.
pub(crate) struct Stand {
    pub(crate) dir: TempDir,
    address: SocketAddr,
    pub(crate) node: NodeId,
}

/// A node that runs.
pub(crate) struct Running {
    host: Host,
    listener: CancellationToken,
    connections: TaskTracker,
}

impl Stand {
    /// With a running node.
    pub(crate) async fn new(configure: impl Fn(Config) -> Config) -> (Self, Running) {
        let dir = tempfile::tempdir().unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let running = open(socket, configure(config(dir.path())));
        (Self { dir, address, node: running.groups().node() }, running)
    }

    /// The node starts again.
    pub(crate) async fn open(&self, configure: impl Fn(Config) -> Config) -> Running {
        let socket = TcpListener::bind(self.address).await.unwrap();
        open(socket, configure(config(self.dir.path())))
    }
}

fn config(dir: &Path) -> Config {
    Config { cluster_id: 7, heartbeat_ms: 50, election_ms: 1000, ..Config::new(dir.to_owned()) }
}

fn open(socket: TcpListener, config: Config) -> Running {
    let host = Host::open(config);
    let connections = TaskTracker::new();
    let listener = serve(socket, host.groups.peer_service(), connections.clone());
    Running { host, listener, connections }
}

impl Running {
    pub(crate) fn groups(&self) -> &Groups {
        &self.host.groups
    }

    /// Messages of groups that it has sent.
    pub(crate) fn messages(&self) -> u64 {
        let metrics = self.host.metrics.encode(Format::Prometheus);
        let sent = metrics.lines().filter(|line| line.starts_with("raft_peer_sent_messages_total"));
        sent.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
    }

    /// The process ends, whatever it is doing.
    pub(crate) async fn stop(self) {
        let Self { host, listener, connections } = self;
        listener.cancel();
        connections.close();
        connections.wait().await;
        host.close().await;
    }
}

/// Where all of them are.
pub(crate) fn book<'a>(stands: impl IntoIterator<Item = &'a Stand>) -> BTreeMap<NodeId, String> {
    stands.into_iter().map(|stand| (stand.node, format!("http://{}", stand.address))).collect()
}
