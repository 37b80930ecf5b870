//! Nodes over real TCP connections, on free ports of this machine.

mod links;
mod load;
mod measure;
mod network;
mod requests;
mod snapshot;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use consensus::{Append, Entry, GroupId, Heartbeat, Index, Message, NodeId, Term};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use storage::RealFileSystem;
use storage::snapshot::SnapshotStore;
use telemetry::metrics::Registry;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;

const GROUP: GroupId = GroupId(1);
const CLUSTER: u64 = 0xc1;
/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node with its transport and its listener.
struct Node {
    id: NodeId,
    transport: Transport,
    inbox: mpsc::Receiver<Incoming>,
    address: SocketAddr,
    listener: Listener,
    stop: CancellationToken,
    dir: TempDir,
}

/// Ends with all its connections when dropped, as if the process died.
struct Listener(CancellationToken);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn config(id: u64) -> TransportConfig {
    let mut config = TransportConfig::new(CLUSTER, NodeId(id), 100 + id);
    config.keepalive = Duration::from_millis(100);
    config.silence = Duration::from_secs(2);
    config
}

impl Node {
    async fn start(id: u64) -> Self {
        Self::start_with(config(id), 64).await
    }

    async fn start_with(config: TransportConfig, inbox_max: usize) -> Self {
        let (id, stop) = (config.node, CancellationToken::new());
        let dir = tempfile::tempdir().unwrap();
        let snapshots = SnapshotStore::open(Arc::new(RealFileSystem), dir.path()).unwrap();
        let (sender, inbox) = mpsc::channel(inbox_max);
        let host = Host {
            snapshots: Arc::new(snapshots),
            metrics: Registry::default(),
            tasks: TaskTracker::new(),
            stop: stop.clone(),
        };
        let transport = Transport::new(config, sender, &host);
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let listener = serve(socket, transport.service());
        Self { id, transport, inbox, address, listener, stop, dir }
    }

    /// Makes these its peers.
    fn know(&self, peers: &[(NodeId, SocketAddr)]) {
        let urls = peers.iter().map(|(node, address)| (*node, url(*address)));
        self.transport.set_peers(urls.collect());
    }

    /// The listener dies, with every connection it has taken.
    async fn kill_listener(&mut self) {
        let dead = std::mem::replace(&mut self.listener, Listener(CancellationToken::new()));
        drop(dead);
        // Refused from now on, that is when the socket is closed.
        let closed = async {
            while tokio::net::TcpStream::connect(self.address).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, closed).await.expect("the socket closes");
    }

    async fn revive_listener(&mut self) {
        let socket = TcpListener::bind(self.address).await.unwrap();
        self.listener = serve(socket, self.transport.service());
    }

    async fn next(&mut self) -> Incoming {
        let next = tokio::time::timeout(PATIENCE, self.inbox.recv()).await;
        next.expect("something happens in time").expect("the transport lives")
    }

    /// Skips events until one is what is waited for.
    async fn until(&mut self, wanted: impl Fn(&Incoming) -> bool) -> Incoming {
        loop {
            let event = self.next().await;
            if wanted(&event) {
                return event;
            }
        }
    }

    async fn until_connected(&mut self, node: NodeId) {
        self.until(|event| *event == Incoming::Connected { node }).await;
    }

    /// The next message, and where it comes from. Connections come and go meanwhile.
    async fn next_messages(&mut self) -> Vec<Message> {
        loop {
            if let Incoming::Frame { frame, .. } = self.next().await
                && !frame.messages.is_empty()
            {
                return frame.messages.into_iter().map(|(_, message)| message).collect();
            }
        }
    }

    /// Sends, and expects that forwards are under way.
    fn send(&self, to: NodeId, frame: PeerFrame) {
        assert!(self.transport.send(to, frame).forwards.is_empty());
    }

    fn figures(&self, node: NodeId) -> metrics::PeerMetrics {
        self.transport.shared.metrics.peer(node)
    }
}

/// Two nodes that are connected both ways.
async fn pair() -> (Node, Node) {
    let (mut one, mut two) = (Node::start(1).await, Node::start(2).await);
    one.know(&[(two.id, two.address)]);
    two.know(&[(one.id, one.address)]);
    one.until_connected(two.id).await;
    two.until_connected(one.id).await;
    (one, two)
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

fn serve(socket: TcpListener, service: PeerService) -> Listener {
    let stop = CancellationToken::new();
    let ended = stop.clone();
    let tasks = TaskTracker::new();
    tasks.clone().spawn(ended.clone().run_until_cancelled_owned(async move {
        loop {
            let (stream, _peer) = socket.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let service = service.clone();
            let answer = service_fn(move |request| {
                let service = service.clone();
                async move { Ok::<_, std::convert::Infallible>(service.handle(request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), answer);
            tasks.spawn(ended.clone().run_until_cancelled_owned(connection));
        }
    }));
    Listener(stop)
}

fn append(index: u64, payload: Bytes) -> Message {
    Message::Append(Append {
        term: Term(1),
        prev_index: Index(index - 1),
        prev_term: Term(1),
        commit: Index::ZERO,
        entries: vec![Entry::command(Term(1), Index(index), payload)],
    })
}

fn of(message: Message) -> PeerFrame {
    PeerFrame { messages: vec![(GROUP, message)], ..PeerFrame::default() }
}

fn small(index: u64) -> PeerFrame {
    of(append(index, Bytes::from_static(b"payload")))
}

fn beat(sent_ms: u64) -> PeerFrame {
    let heartbeat = Heartbeat { epoch: 1, sent_ms, ..Heartbeat::default() };
    PeerFrame { heartbeat: Some(heartbeat), ..PeerFrame::default() }
}

fn forward(id: u64) -> PeerFrame {
    let forward = Forward {
        id,
        group: GROUP,
        command: Bytes::from_static(b"command"),
        freeing: false,
        trace: Bytes::new(),
    };
    PeerFrame { forwards: vec![forward], ..PeerFrame::default() }
}

/// The index of the first entry of an append.
fn index_of(message: &Message) -> u64 {
    let Message::Append(append) = message else { panic!("only appends are sent") };
    append.entries[0].index.0
}

/// Repeats until it is so.
async fn eventually(mut is_so: impl FnMut() -> bool) {
    let polled = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, polled).await.expect("it becomes so in time");
}
