//! Several nodes of one group, connected through relays that a test can pause and cut.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chassis::testing::Running;
use replica::{Config, Member, Role};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::support::{Answer, http, send};

/// What a relay does with what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Open,
    /// Bytes wait; nobody is told.
    Paused,
    /// Connections break and new ones are refused.
    Cut,
}

/// A known address in front of a node whose own is only known once it runs.
pub(crate) struct Relay {
    pub(crate) url: String,
    link: watch::Sender<Link>,
    target: Arc<Mutex<Option<SocketAddr>>>,
}

impl Relay {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let (link, mode) = watch::channel(Link::Open);
        let target = Arc::new(Mutex::new(None));
        let to = Arc::clone(&target);
        let tasks = TaskTracker::new();
        let connections = tasks.clone();
        tasks.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let target = *to.lock().expect("nobody panics with it");
                let mode = mode.clone();
                connections.spawn(async move {
                    if let Some(target) = target {
                        carry(socket, target, mode).await;
                    }
                });
            }
        });
        Self { url, link, target }
    }

    pub(crate) fn set(&self, link: Link) {
        self.link.send_replace(link);
    }

    fn point_to(&self, url: Option<&str>) {
        let address = url.map(|url| {
            url.trim_start_matches("http://").parse().expect("the URL of a server under test")
        });
        *self.target.lock().expect("nobody panics with it") = address;
    }
}

async fn carry(from: TcpStream, target: SocketAddr, mut mode: watch::Receiver<Link>) {
    if *mode.borrow() == Link::Cut {
        return;
    }
    let Ok(to) = TcpStream::connect(target).await else { return };
    let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
    tokio::select! {
        () = pump(from_read, to_write, mode.clone()) => (),
        () = pump(to_read, from_write, mode.clone()) => (),
        _ = mode.wait_for(|mode| *mode == Link::Cut) => (),
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut mode: watch::Receiver<Link>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let _ = mode.wait_for(|mode| *mode != Link::Paused).await;
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

/// Three nodes (or another number); the first is the primary.
pub(crate) struct Cluster {
    dirs: Vec<TempDir>,
    pub(crate) public: Vec<Relay>,
    pub(crate) peer: Vec<Relay>,
    pub(crate) nodes: Vec<Option<Running<Config>>>,
    change: fn(&mut Config),
}

impl Cluster {
    /// Starts `count` nodes with settings changed by `change`, and waits until all are ready.
    pub(crate) async fn start(count: usize, change: fn(&mut Config)) -> Self {
        let mut cluster = Self {
            dirs: Vec::new(),
            public: Vec::new(),
            peer: Vec::new(),
            nodes: Vec::new(),
            change,
        };
        for _ in 0..count {
            cluster.dirs.push(tempfile::tempdir().expect("a directory of our own"));
            cluster.public.push(Relay::new().await);
            cluster.peer.push(Relay::new().await);
            cluster.nodes.push(None);
        }
        for node in 0..count {
            cluster.run(node).await;
        }
        for node in 0..count {
            cluster.ready(node).await;
        }
        cluster
    }

    fn config(&self, node: usize) -> Config {
        let mut config = Config::default();
        config.base.node = name(node);
        config.base.data_dir = self.dir(node);
        config.replication.role = if node == 0 { Role::Primary } else { Role::Replica };
        let member = |(i, (public, peer)): (usize, (&Relay, &Relay))| Member {
            name: name(i),
            url: public.url.clone(),
            peer_url: peer.url.clone(),
        };
        let relays = self.public.iter().zip(&self.peer);
        config.replication.members = relays.enumerate().map(member).collect();
        (self.change)(&mut config);
        config
    }

    pub(crate) fn dir(&self, node: usize) -> PathBuf {
        self.dirs[node].path().join("data")
    }

    /// Starts a node that is not running.
    pub(crate) async fn run(&mut self, node: usize) {
        let running = chassis::testing::start(self.config(node), replica::start).await;
        self.public[node].point_to(Some(&running.url));
        self.peer[node].point_to(Some(&running.peer_url));
        self.nodes[node] = Some(running);
    }

    /// Stops a node without draining.
    pub(crate) async fn kill(&mut self, node: usize) {
        self.public[node].point_to(None);
        self.peer[node].point_to(None);
        self.nodes[node].take().expect("it runs").abort().await;
    }

    /// Both ways to a node.
    pub(crate) fn link(&self, node: usize, link: Link) {
        self.peer[node].set(link);
        self.public[node].set(link);
    }

    pub(crate) fn url(&self, node: usize, path: &str) -> String {
        format!("{}{path}", self.nodes[node].as_ref().expect("it runs").url)
    }

    pub(crate) async fn put(&self, node: usize, key: &str, value: &str) -> Answer {
        let url = self.url(node, &format!("/v1/kv/{key}"));
        send(http().put(url).body(value.to_owned())).await
    }

    pub(crate) async fn get(&self, node: usize, key: &str) -> Answer {
        send(http().get(self.url(node, &format!("/v1/kv/{key}")))).await
    }

    pub(crate) async fn status(&self, node: usize) -> Value {
        send(http().get(self.url(node, "/v1/replication"))).await.json()
    }

    pub(crate) async fn ready(&self, node: usize) {
        until("ready", async || {
            let ready = send(http().get(self.url(node, "/readyz"))).await;
            ready.status.is_success()
        })
        .await;
    }

    /// Waits until every running node has applied what the first has, and compares digests.
    pub(crate) async fn converged(&self) {
        let status = self.status(0).await;
        let at = status["last"].as_str().expect("a position").to_owned();
        let mut digests = Vec::new();
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_some() {
                let path = format!("/v1/digest?at={at}");
                let digest = send(http().get(self.url(node, &path))).await;
                assert_eq!(digest.status, 200, "node {node}: {digest:?}");
                let digest = digest.json();
                digests.push((digest["digest"].clone(), digest["history"].clone()));
            }
        }
        assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "at {at}: {digests:?}");
    }
}

fn name(node: usize) -> String {
    format!("replica-{}", node + 1)
}

/// Asks until it holds, for a bounded time.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let asked = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let bounded = tokio::time::timeout(Duration::from_secs(30), asked).await;
    bounded.unwrap_or_else(|_| panic!("not {what} in 30 s"));
}
