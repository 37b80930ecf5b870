//! A proxy in front of each member's peer port, which knows who dials.
//!
//! A cut link holds back what is sent over it, in both kinds of connections: those that its sender
//! has opened and those that it answers on. When it heals, what was held back arrives, late: as
//! with lost packets that are sent again.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use e2e::free_ports;
use sim::Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::{Link, MEMBERS, on_loopback};
use crate::member::Place;

/// What may be on its way over one connection, in pieces.
const PIECES: usize = 256;
const PIECE_BYTES: usize = 16 << 10;

/// How one direction behaves.
#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    cut: bool,
    delay: Duration,
    jitter: Duration,
}

/// Ends with its tasks when dropped.
pub(crate) struct Proxies {
    places: [Place; MEMBERS],
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    /// By sender and receiver.
    flows: [[watch::Sender<Flow>; MEMBERS]; MEMBERS],
    pids: Mutex<[Option<u32>; MEMBERS]>,
}

impl Proxies {
    pub(crate) async fn new() -> Self {
        let flow = |_| std::array::from_fn(|_| watch::Sender::new(Flow::default()));
        let flows = std::array::from_fn(flow);
        let shared = Arc::new(Shared { flows, pids: Mutex::new([None; MEMBERS]) });
        let mut tasks = JoinSet::new();
        let mut places = Vec::new();
        for member in 0..MEMBERS {
            let [port, peer_port] = free_ports();
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
            let dialled = listener.local_addr().expect("its port").port();
            places.push(on_loopback(port, peer_port, dialled));
            let shared = Arc::clone(&shared);
            tasks.spawn(async move { shared.serve(listener, member, peer_port).await });
        }
        let places = places.try_into().expect("one for each member");
        Self { places, shared, _tasks: tasks }
    }

    pub(crate) fn places(&self) -> [Place; MEMBERS] {
        self.places.clone()
    }

    pub(crate) fn cut(&self, Link { from, to }: Link) {
        self.shared.flows[from][to].send_modify(|flow| flow.cut = true);
    }

    pub(crate) fn slow(&self, Link { from, to }: Link, delay: Duration, jitter: Duration) {
        self.shared.flows[from][to].send_replace(Flow { cut: false, delay, jitter });
    }

    pub(crate) fn heal(&self) {
        for flow in self.shared.flows.iter().flatten() {
            flow.send_replace(Flow::default());
        }
    }

    pub(crate) fn meet(&self, member: usize, pid: Option<u32>) {
        self.shared.pids.lock().expect("nobody panics with it")[member] = pid;
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, listener: TcpListener, member: usize, peer_port: u16) {
        let mut connections = JoinSet::new();
        while let Ok((inbound, from)) = listener.accept().await {
            while connections.try_join_next().is_some() {}
            let Some(dialler) = self.owner_of(from.port()) else { continue };
            let shared = Arc::clone(&self);
            connections.spawn(async move {
                let outbound = TcpStream::connect((Ipv4Addr::LOCALHOST, peer_port)).await;
                let Ok(outbound) = outbound else { return };
                let (from_dialler, to_dialler) = inbound.into_split();
                let (from_member, to_member) = outbound.into_split();
                let there = shared.flows[dialler][member].subscribe();
                let back = shared.flows[member][dialler].subscribe();
                // Whichever side ends, the connection ends.
                tokio::select! {
                    () = carry(from_dialler, to_member, there) => {}
                    () = carry(from_member, to_dialler, back) => {}
                }
            });
        }
    }

    /// Which member's process has a connection from this port of the machine.
    fn owner_of(&self, port: u16) -> Option<usize> {
        let table = fs::read_to_string("/proc/net/tcp").ok()?;
        let local = format!("0100007F:{port:04X}");
        let line = table.lines().find(|line| line.split_whitespace().nth(1) == Some(&local))?;
        let socket = PathBuf::from(format!("socket:[{}]", line.split_whitespace().nth(9)?));
        let pids = *self.pids.lock().expect("nobody panics with it");
        let has = |pid: &Option<u32>| {
            let files = pid.and_then(|pid| fs::read_dir(format!("/proc/{pid}/fd")).ok());
            let mut files = files.into_iter().flatten().flatten();
            files.any(|file| fs::read_link(file.path()).is_ok_and(|target| target == socket))
        };
        pids.iter().position(has)
    }
}

/// One direction of one connection.
async fn carry(mut from: OwnedReadHalf, to: OwnedWriteHalf, flow: watch::Receiver<Flow>) {
    let (pieces, on_the_way) = mpsc::channel(PIECES);
    let mut rng = Rng::new(0);
    let read = {
        let flow = flow.clone();
        async move {
            let mut due = Instant::now();
            loop {
                let mut piece = vec![0; PIECE_BYTES];
                let Ok(len @ 1..) = from.read(&mut piece).await else { return };
                piece.truncate(len);
                let Flow { delay, jitter, .. } = *flow.borrow();
                let more = rng.range(0..jitter.as_micros() as u64 + 1);
                // Nothing overtakes what was sent before.
                due = due.max(Instant::now() + delay + Duration::from_micros(more));
                if pieces.send((due, piece)).await.is_err() {
                    return;
                }
            }
        }
    };
    tokio::join!(read, deliver(to, on_the_way, flow));
}

async fn deliver(
    mut to: OwnedWriteHalf,
    mut on_the_way: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut flow: watch::Receiver<Flow>,
) {
    while let Some((due, piece)) = on_the_way.recv().await {
        sleep_until(due).await;
        if flow.wait_for(|flow| !flow.cut).await.is_err() || to.write_all(&piece).await.is_err() {
            return;
        }
    }
}
