//! Several brokers that make one cluster, each a real server with a directory of its own.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use broker::{Config, InitialState};
use chassis::testing::Running;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::read;

pub(crate) struct Trio {
    pub(crate) nodes: Vec<Node>,
    client: Client,
}

pub(crate) struct Node {
    pub(crate) name: String,
    listen: SocketAddr,
    peer_listen: SocketAddr,
    dir: TempDir,
    peers: BTreeMap<String, String>,
    state: InitialState,
    running: Option<Running<Config>>,
}

impl Node {
    fn new(number: usize) -> Self {
        Self {
            name: format!("b{number}"),
            listen: free_address(),
            peer_listen: free_address(),
            dir: tempfile::tempdir().unwrap(),
            peers: BTreeMap::new(),
            state: InitialState::New,
            running: None,
        }
    }

    fn peer_url(&self) -> String {
        format!("http://{}", self.peer_listen)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub(crate) async fn start(&mut self) {
        let mut config = Config::default();
        config.base.node.clone_from(&self.name);
        config.base.listen = self.listen;
        config.base.peer_listen = self.peer_listen;
        config.base.data_dir = self.dir.path().to_owned();
        config.cluster.members.initial_peers.clone_from(&self.peers);
        config.cluster.members.initial_state = self.state;
        config.cluster.settle_seconds = 0;
        let running = chassis::testing::start_where_configured(config, broker::start).await;
        self.running = Some(running);
    }

    /// Cuts connections and stops without draining.
    pub(crate) async fn kill(&mut self) {
        self.running.take().unwrap().abort().await;
    }
}

impl Trio {
    /// Three brokers that know each other, when all are known to each.
    pub(crate) async fn start() -> Self {
        let mut nodes: Vec<_> = (1..=3).map(Node::new).collect();
        let peers: BTreeMap<_, _> =
            nodes.iter().map(|node| (node.name.clone(), node.peer_url())).collect();
        for node in &mut nodes {
            node.peers.clone_from(&peers);
        }
        futures_util::future::join_all(nodes.iter_mut().map(Node::start)).await;
        let trio = Self { nodes, client: Client::new() };
        for node in 0..3 {
            trio.until(node, "/v1/cluster", |seen| all_up(seen, 3)).await;
            // Refused until it knows all of the catalog.
            trio.until(node, "/v1/cluster/groups", |_| true).await;
        }
        trio
    }

    /// A fourth broker is let in and started.
    pub(crate) async fn join(&mut self) {
        let mut node = Node::new(self.nodes.len() + 1);
        let spec = json!({ "name": node.name, "peer_url": node.peer_url() });
        self.post(0, "/v1/cluster/members", spec).await;
        node.peers.clone_from(&self.nodes[0].peers);
        node.peers.insert(node.name.clone(), node.peer_url());
        node.state = InitialState::Existing;
        node.start().await;
        self.nodes.push(node);
    }

    pub(crate) async fn stop(mut self) {
        for node in &mut self.nodes {
            if let Some(running) = node.running.take() {
                running.stop().await;
            }
        }
    }

    pub(crate) fn request(&self, node: usize, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.nodes[node].listen))
    }

    pub(crate) async fn put(&self, node: usize, path: &str, body: Value) -> Value {
        read(self.request(node, Method::PUT, path).json(&body).send().await.unwrap()).await
    }

    pub(crate) async fn post(&self, node: usize, path: &str, body: Value) -> Value {
        read(self.request(node, Method::POST, path).json(&body).send().await.unwrap()).await
    }

    pub(crate) async fn get(&self, node: usize, path: &str) -> Value {
        read(self.request(node, Method::GET, path).send().await.unwrap()).await
    }

    pub(crate) async fn send(&self, node: usize, path: &str, body: &str) -> Response {
        let request = self.request(node, Method::POST, path).body(body.to_owned());
        request.send().await.unwrap()
    }

    /// Asks until the answer is as wanted, for at most a minute.
    pub(crate) async fn until(&self, node: usize, path: &str, wanted: impl Fn(&Value) -> bool) {
        let mut last = Value::Null;
        let asking = async {
            loop {
                if let Ok(response) = self.request(node, Method::GET, path).send().await {
                    let is_success = response.status().is_success();
                    last = response.json().await.unwrap();
                    if is_success && wanted(&last) {
                        return;
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let asked = tokio::time::timeout(Duration::from_secs(60), asking).await;
        assert!(asked.is_ok(), "{path} did not come to be as wanted: {last}");
    }

    /// The index of the broker that leads this queue.
    pub(crate) async fn leader_of(&self, node: usize, queue: &str) -> Option<usize> {
        self.leader(node, ("queue", queue)).await
    }

    /// The index of the broker that leads the only partition of this topic.
    pub(crate) async fn leader_of_topic(&self, node: usize, topic: &str) -> Option<usize> {
        self.leader(node, ("topic", topic)).await
    }

    async fn leader(&self, node: usize, (kind, name): (&str, &str)) -> Option<usize> {
        let groups = self.get(node, "/v1/cluster/groups").await;
        let groups = groups["groups"].as_array().unwrap().clone();
        let group = groups.into_iter().find(|group| group[kind] == name)?;
        self.nodes.iter().position(|node| group["leader"] == node.name.as_str())
    }
}

/// So many brokers are known, and all are up.
pub(crate) fn all_up(cluster: &Value, count: usize) -> bool {
    let brokers = cluster["brokers"].as_array().unwrap();
    brokers.len() == count && brokers.iter().all(|broker| broker["up"] == true)
}

fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed) + std::process::id() * 37;
        let port = 10_000 + u16::try_from(turn % 10_000).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let is_mine = ![11_379, 12_379, 13_379, 14_379].contains(&port);
        if is_mine && TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
