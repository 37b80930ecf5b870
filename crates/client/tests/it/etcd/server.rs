//! A server of the etcd v3 JSON API that can be killed and started again.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use client::Url;
use client::etcd::{Etcd, RangeRequest};
use tempfile::TempDir;

use crate::process::{LOG, free_ports, service, spawn};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Etcd,
    Coordinator,
}

/// Killed when it is dropped.
pub(crate) struct Server {
    kind: Kind,
    dir: TempDir,
    ports: [u16; 2],
    child: Child,
}

impl Server {
    /// `None`, with the reason on stdout, if this server is not here.
    pub(crate) async fn start(kind: Kind) -> Option<Self> {
        let (dir, ports) = (tempfile::tempdir().unwrap(), free_ports());
        let child = spawn(command(kind, dir.path(), ports), dir.path())?;
        let server = Self { kind, dir, ports, child };
        server.ready().await;
        Some(server)
    }

    pub(crate) fn url(&self) -> Url {
        format!("http://127.0.0.1:{}", self.ports[0]).parse().unwrap()
    }

    pub(crate) fn client(&self) -> Etcd {
        Etcd::new([self.url()]).unwrap()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again with the same data and the same address.
    pub(crate) async fn restart(&mut self) {
        let command = command(self.kind, self.dir.path(), self.ports);
        self.child = spawn(command, self.dir.path()).expect("it was here before");
        self.ready().await;
    }

    async fn ready(&self) {
        // A new client each time: the breaker of one would slow the polling down.
        let mut last = None;
        for _ in 0..200 {
            match self.client().range(&RangeRequest::key("x").limit(1)).await {
                Ok(_) => return,
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let log = std::fs::read_to_string(self.dir.path().join(LOG)).unwrap();
        panic!("{:?} does not answer: {last:?}; it said: {log}", self.kind);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(kind: Kind, dir: &Path, ports: [u16; 2]) -> Command {
    match kind {
        Kind::Etcd => etcd(dir, ports),
        Kind::Coordinator => service("coordinator", dir, ports),
    }
}

fn etcd(dir: &Path, ports: [u16; 2]) -> Command {
    let mut command = Command::new("etcd");
    let [client, peer] = ports.map(|port| format!("http://127.0.0.1:{port}"));
    command
        .args(["--name", "one", "--log-level", "error"])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("one={peer}")])
        .arg("--data-dir")
        .arg(dir.join("data"));
    command
}
