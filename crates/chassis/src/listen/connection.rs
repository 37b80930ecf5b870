//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::future::RouteFuture;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use pin_project_lite::pin_project;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::first_bytes::{Activity, TimedIo};
use super::{App, Peer};
use crate::config::Limits;

/// Head of a request, all in all: a longer one is answered 431.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Requests that one HTTP/2 connection may have in progress.
const MAX_STREAMS: u32 = 200;

/// HTTP/2 peers that do not answer a ping within the same time again are gone.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// What all connections of a listener share.
pub(super) struct Server {
    app: App,
    http: auto::Builder<TokioExecutor>,
    header_timeout: Duration,
    idle_timeout: Duration,
}

impl Server {
    pub(super) fn new(app: App, limits: &Limits) -> Self {
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout())
            .max_buf_size(MAX_HEAD_BYTES);
        http.http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_INTERVAL)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD_BYTES as u32);
        Self {
            app,
            http,
            header_timeout: limits.header_timeout(),
            idle_timeout: limits.idle_timeout(),
        }
    }

    /// Serves until the peer is done, idle for too long, or we end.
    pub(super) async fn serve(
        &self,
        stream: TcpStream,
        peer: Peer,
        refuse: CancellationToken,
        abort: CancellationToken,
    ) {
        // Answers are written whole: waiting for more to send would only add latency.
        let _ = stream.set_nodelay(true);
        let activity = Activity::default();
        let in_progress = Arc::new(AtomicUsize::new(0));
        let service =
            Dispatch { app: self.app.clone(), peer, in_progress: Arc::clone(&in_progress) };
        let io = TokioIo::new(TimedIo::new(stream, self.header_timeout, activity.clone()));
        let mut connection = pin!(self.http.serve_connection_with_upgrades(io, service));
        let mut idle_check = pin!(tokio::time::sleep(self.idle_timeout));
        let mut closing = false;
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(peer = %peer.0, error, "connection ended");
                    }
                    return;
                }
                () = refuse.cancelled(), if !closing => {
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = abort.cancelled() => return,
                () = idle_check.as_mut() => {
                    let quiet = activity.silence();
                    if quiet < self.idle_timeout || 0 < in_progress.load(Ordering::Relaxed) {
                        let wait = self.idle_timeout.saturating_sub(quiet);
                        idle_check.as_mut().reset(Instant::now() + wait.max(self.idle_timeout / 4));
                        continue;
                    }
                    if closing {
                        return;
                    }
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                    idle_check.as_mut().reset(Instant::now() + self.idle_timeout / 4);
                }
            }
        }
    }
}

/// Hands each request to the router of the moment.
struct Dispatch {
    app: App,
    peer: Peer,
    in_progress: Arc<AtomicUsize>,
}

impl hyper::service::Service<http::Request<Incoming>> for Dispatch {
    type Response = axum::response::Response;
    type Error = Infallible;
    type Future = Dispatched;

    fn call(&self, mut request: http::Request<Incoming>) -> Dispatched {
        request.extensions_mut().insert(self.peer);
        let mut router: Router = self.app.router();
        // A router is always ready.
        let inner = router.call(request);
        self.in_progress.fetch_add(1, Ordering::Relaxed);
        Dispatched { inner, _count: Count(Arc::clone(&self.in_progress)) }
    }
}

pin_project! {
    /// A request in progress.
    struct Dispatched {
        #[pin]
        inner: RouteFuture<Infallible>,
        _count: Count,
    }
}

impl Future for Dispatched {
    type Output = Result<axum::response::Response, Infallible>;

    fn poll(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        self.project().inner.poll(cx)
    }
}

struct Count(Arc<AtomicUsize>);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
