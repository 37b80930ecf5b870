//! A server of the etcd v3 JSON API in a child process, with its own directory and ports.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use client::Url;
use client::etcd::{Etcd, RangeRequest};
use tempfile::TempDir;

/// Names the coordinator to ask: this package does not build it, and an old one would mislead.
const COORDINATOR: &str = "QUARTET_COORDINATOR";

/// What a server said before it failed, in its directory.
const LOG: &str = "stderr.log";

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
        let dir = tempfile::tempdir().unwrap();
        let ports = free_ports();
        let child = spawn(kind, dir.path(), ports)?;
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
        self.child = spawn(self.kind, self.dir.path(), self.ports).expect("it was here before");
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

fn spawn(kind: Kind, dir: &Path, [client, peer]: [u16; 2]) -> Option<Child> {
    let mut command = match kind {
        Kind::Etcd => etcd(dir, client, peer),
        Kind::Coordinator => match std::env::var_os(COORDINATOR) {
            Some(program) => coordinator(&program, dir, [client, peer]),
            None => {
                println!("skipped: {COORDINATOR} does not name a quartet-coordinator");
                return None;
            }
        },
    };
    let log = OpenOptions::new().create(true).append(true).open(dir.join(LOG)).unwrap();
    match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn() {
        Ok(child) => Some(child),
        Err(error) if kind == Kind::Etcd && error.kind() == ErrorKind::NotFound => {
            println!("skipped: there is no `etcd` on the path");
            None
        }
        Err(error) => panic!("{command:?}: {error}"),
    }
}

fn etcd(dir: &Path, client: u16, peer: u16) -> Command {
    let mut command = Command::new("etcd");
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    command
        .args(["--name", "one", "--log-level", "error"])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("one={peer}")])
        .arg("--data-dir")
        .arg(dir.join("data"));
    command
}

fn coordinator(program: &OsStr, dir: &Path, [client, peer]: [u16; 2]) -> Command {
    let mut command = Command::new(program);
    command
        // To the coordinator itself it would be a setting it does not know.
        .env_remove(COORDINATOR)
        .env("QUARTET_LISTEN", format!("127.0.0.1:{client}"))
        .env("QUARTET_PEER_LISTEN", format!("127.0.0.1:{peer}"))
        .env("QUARTET_DATA_DIR", dir.join("data"));
    command
}

/// Free now. Another process may take one before the server does: then the test fails on start,
/// which is rare and loud.
fn free_ports() -> [u16; 2] {
    let listeners = [0, 1].map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}
