//! The accept loop: HTTP/1 and HTTP/2 (prior knowledge) on one port, everything bounded.
//!
//! `axum::serve` sets no header timer, no connection bound, no TCP_NODELAY, and its graceful
//! shutdown waits for ever; so the loop is ours, on hyper-util.

mod ahead;
mod connection;
mod progress;
mod refusal;
mod unread;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use http::HeaderValue;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::Limits;

/// Pause after an accept that failed for want of descriptors or memory: both come back.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Where a request came from and how much of it is here, as its extension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// The address at the other end.
    pub(crate) address: SocketAddr,
    /// All of the body is here: nobody waits for more of it.
    pub(crate) is_read: bool,
}

/// The address at the other end of the connection that a request came on.
#[must_use]
pub fn peer_address(extensions: &http::Extensions) -> Option<SocketAddr> {
    extensions.get::<Peer>().map(|peer| peer.address)
}

/// What a listener serves: one router while the service starts, another from then on.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) starting: Router,
    pub(crate) ready: OnceLock<Router>,
}

impl App {
    fn router(&self) -> Router {
        self.ready.get().unwrap_or(&self.starting).clone()
    }
}

/// How a listener is told to end, and how it is known that it has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending {
    /// No new connections; present ones end after their requests.
    pub(crate) refuse: CancellationToken,
    /// Present connections end now.
    pub(crate) abort: CancellationToken,
    /// Holds every connection.
    pub(crate) connections: TaskTracker,
    /// Answers say that their connection takes no further request. No token: every request asks, and
    /// a token takes a lock for that.
    pub(crate) closing: Arc<AtomicBool>,
}

/// How a listener treats its connections.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    /// Who refuses what cannot be read.
    pub(crate) node: HeaderValue,
    pub(crate) clock: Clock,
}

/// Serves `app` on `listener` until told to refuse, on a task of its own.
///
/// Not a generic function, and the only one that names the server's future: so all of HTTP is
/// compiled here once, and not into each service again.
pub(crate) fn spawn(
    tasks: &TaskTracker,
    listener: TcpListener,
    app: Arc<App>,
    settings: Settings,
    ending: Ending,
) {
    tasks.spawn(serve(listener, app, settings, ending));
}

async fn serve(listener: TcpListener, app: Arc<App>, settings: Settings, ending: Ending) {
    let places = Arc::new(Semaphore::new(settings.limits.max_connections));
    let server = Arc::new(connection::Server::new(app, settings));
    while let Some((stream, peer, place)) = next(&listener, &places, &ending.refuse).await {
        let (server, refuse, abort) =
            (Arc::clone(&server), ending.refuse.clone(), ending.abort.clone());
        ending.connections.spawn(async move {
            server.serve(stream, Peer { address: peer, is_read: false }, refuse, abort).await;
            drop(place);
        });
    }
}

/// The next connection, once there is a place for it. `None`: refuse from now on.
async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    refuse: &CancellationToken,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = tokio::select! {
        biased;
        () = refuse.cancelled() => return None,
        place = Arc::clone(places).acquire_owned() => place.ok()?,
    };
    loop {
        let accepted = tokio::select! {
            biased;
            () = refuse.cancelled() => return None,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => return Some((stream, peer, place)),
            Err(error) if is_the_callers(&error) => (),
            Err(error) => {
                tracing::warn!(%error, "accept failed; raise the limit of open files if it stays");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// The connection was gone before it was accepted.
fn is_the_callers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
