//! A network that cuts and swallows, between a node and whoever connects to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Passes connections on to `target`, as told.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    state: Arc<State>,
    stop: CancellationToken,
}

#[derive(Default)]
struct State {
    /// Nothing passes, in neither direction, and nobody is told.
    swallows: AtomicBool,
    /// Bytes from the target after which a connection is cut; 0 is never.
    cut_after: AtomicU64,
    connections: AtomicU64,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Proxy {
    pub(super) async fn to(target: SocketAddr) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (state, stop) = (Arc::new(State::default()), CancellationToken::new());
        let tasks = TaskTracker::new();
        let (shared, ended) = (state.clone(), stop.clone());
        tasks.clone().spawn(stop.clone().run_until_cancelled_owned(async move {
            loop {
                let (near, _) = socket.accept().await.unwrap();
                shared.connections.fetch_add(1, Ordering::Relaxed);
                let passing = pass(near, target, shared.clone());
                tasks.spawn(ended.clone().run_until_cancelled_owned(passing));
            }
        }));
        Self { address, state, stop }
    }

    pub(super) fn swallow(&self, swallows: bool) {
        self.state.swallows.store(swallows, Ordering::Relaxed);
    }

    pub(super) fn cut_after(&self, bytes: u64) {
        self.state.cut_after.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::Relaxed)
    }
}

async fn pass(near: TcpStream, target: SocketAddr, state: Arc<State>) {
    let Ok(far) = TcpStream::connect(target).await else { return };
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    // Whichever ends first takes both sockets along.
    tokio::select! {
        () = copy(near_read, far_write, &state, false) => {}
        () = copy(far_read, near_write, &state, true) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: &State, is_answer: bool) {
    let mut buffer = vec![0; 16 * 1024];
    let mut passed = 0;
    loop {
        let Ok(len @ 1..) = from.read(&mut buffer).await else { return };
        if state.swallows.load(Ordering::Relaxed) {
            continue;
        }
        passed += len as u64;
        let cut_after = state.cut_after.load(Ordering::Relaxed);
        if to.write_all(&buffer[..len]).await.is_err()
            || (is_answer && 0 < cut_after && cut_after <= passed)
        {
            return;
        }
    }
}
