//! A cluster of child processes on this machine: what runs where, and where its files are.
//!
//! Everything about a process follows from its [`Node`], the data directory and the port offset,
//! so `up`, `down`, `status` and the demo agree without telling each other anything.
//!
//! **Invariant:** a process is found again only through `DIR/run/<name>.pid`, and a pid counts
//! only while the command line behind it names this cluster's configuration file.

pub(crate) mod banner;
pub(crate) mod config;
pub(crate) mod down;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod ready;
pub(crate) mod status;
pub(crate) mod up;

use std::path::{Path, PathBuf};

use anyhow::Context;

/// The four services, in the order in which they are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Service {
    Coordinator,
    Broker,
    Replica,
    Gateway,
}

impl Service {
    pub(crate) const ALL: [Self; 4] =
        [Self::Coordinator, Self::Broker, Self::Replica, Self::Gateway];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Broker => "broker",
            Self::Replica => "replica",
            Self::Gateway => "gateway",
        }
    }

    /// The public port of each node; the peer listener is one above.
    const fn ports(self) -> [u16; Node::MAX_PER_SERVICE as usize] {
        match self {
            Self::Coordinator => [2379, 22379, 32379],
            Self::Broker => [7070, 17070, 27070],
            Self::Replica => [6300, 16300, 26300],
            Self::Gateway => [8080, 18080, 28080],
        }
    }
}

/// One process of the cluster. Numbers begin with 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Node {
    pub(crate) service: Service,
    pub(crate) number: u16,
}

impl Node {
    /// There are standard ports for so many.
    pub(crate) const MAX_PER_SERVICE: u16 = 3;

    pub(crate) fn name(self) -> String {
        format!("{}-{}", self.service.name(), self.number)
    }

    /// Every node that a cluster can have, in starting order.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Service::ALL.into_iter().flat_map(|service| {
            (1..=Self::MAX_PER_SERVICE).map(move |number| Self { service, number })
        })
    }
}

/// Where a cluster lives.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    /// Absolute.
    pub(crate) data: PathBuf,
    /// Added to every port, so that several clusters fit on one machine.
    pub(crate) port_offset: u16,
    /// The directory with the service binaries: that of `quartet` itself.
    pub(crate) binaries: PathBuf,
}

impl Cluster {
    /// The largest offset with which every port stays below 65536.
    pub(crate) const MAX_PORT_OFFSET: u16 = 33_000;

    pub(crate) fn new(data: &Path, port_offset: u16) -> anyhow::Result<Self> {
        let data = std::path::absolute(data)
            .with_context(|| format!("cannot make {} an absolute path", data.display()))?;
        let own = std::env::current_exe().context("cannot find out where `quartet` itself is")?;
        let binaries = own.parent().map(Path::to_path_buf).unwrap_or_default();
        Ok(Self { data, port_offset, binaries })
    }

    pub(crate) fn port(&self, node: Node) -> u16 {
        node.service.ports()[usize::from(node.number) - 1] + self.port_offset
    }

    pub(crate) fn peer_port(&self, node: Node) -> u16 {
        self.port(node) + 1
    }

    pub(crate) fn url(&self, node: Node) -> String {
        format!("http://127.0.0.1:{}", self.port(node))
    }

    pub(crate) fn binary(&self, service: Service) -> PathBuf {
        self.binaries.join(format!("quartet-{}", service.name()))
    }

    pub(crate) fn config_file(&self, node: Node) -> PathBuf {
        self.data.join("config").join(node.name() + ".toml")
    }

    pub(crate) fn log_file(&self, node: Node) -> PathBuf {
        self.data.join("log").join(node.name() + ".log")
    }

    pub(crate) fn pid_file(&self, node: Node) -> PathBuf {
        self.data.join("run").join(node.name() + ".pid")
    }

    /// A script that starts this node with exactly the command line that `up` uses.
    pub(crate) fn script(&self, node: Node) -> PathBuf {
        self.data.join("run").join(node.name() + ".sh")
    }

    pub(crate) fn data_dir(&self, node: Node) -> PathBuf {
        self.data.join(node.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_those_of_the_contract() {
        let cluster = Cluster::new(Path::new("data"), 0).unwrap();
        let port = |service, number| cluster.port(Node { service, number });
        assert_eq!(port(Service::Coordinator, 2), 22379);
        assert_eq!(port(Service::Broker, 3), 27070);
        assert_eq!(port(Service::Replica, 2), 16300);
        assert_eq!(port(Service::Gateway, 1), 8080);
    }

    #[test]
    fn the_largest_offset_keeps_every_port_in_range() {
        let cluster = Cluster::new(Path::new("data"), Cluster::MAX_PORT_OFFSET).unwrap();
        assert!(Node::all().all(|node| cluster.peer_port(node) > Cluster::MAX_PORT_OFFSET));
    }
}
