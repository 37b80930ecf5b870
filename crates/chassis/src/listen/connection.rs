//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use http::{HeaderValue, Request, StatusCode, Version, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::ahead::{self, Ahead};
use super::progress::{Patience, Progress, Verdict};
use super::refusal::Refusals;
use super::unread;
use super::wire::Wire;
use super::{App, Peer, Settings};

/// Head of a request, all in all: a longer one is answered 431.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Requests that one HTTP/2 connection may have in progress.
const MAX_STREAMS: u32 = 200;

/// HTTP/2 peers that do not answer a ping within the same time again are gone.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// How often a connection's timer looks within the shorter of its limits: how exact limits are.
const TICKS: u32 = 8;

/// What all connections of a listener share.
pub(super) struct Server {
    app: Arc<App>,
    http: auto::Builder<TokioExecutor>,
    refusals: Arc<Refusals>,
    header_timeout: Duration,
    idle_timeout: Duration,
}

impl Server {
    pub(super) fn new(app: Arc<App>, settings: Settings) -> Self {
        let Settings { limits, node, clock } = settings;
        // hyper's own timer for heads would be made and dropped with every request, also counts
        // the pause between requests, and ends without an answer: see `Patience`.
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1().header_read_timeout(None).max_buf_size(MAX_HEAD_BYTES);
        http.http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_INTERVAL)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD_BYTES as u32);
        let bounds = (MAX_HEAD_BYTES, limits.header_timeout());
        Self {
            app,
            http,
            refusals: Arc::new(Refusals::new(node, clock, bounds)),
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
        let progress = Arc::new(Progress::default());
        let wire = Wire::new(stream, Arc::clone(&progress), Arc::clone(&self.refusals));
        let (app, shared) = (Arc::clone(&self.app), Arc::clone(&progress));
        let service = service_fn(move |request| {
            shared.answering();
            answer(Arc::clone(&app), peer, Arc::clone(&shared), request)
        });
        let io = TokioIo::new(wire);
        let mut connection = pin!(self.http.serve_connection_with_upgrades(io, service));
        let mut signals = signals(refuse, abort);
        let (tick, mut patience) = self.patience();
        let mut timer = pin!(sleep(tick));
        let mut closing = false;
        loop {
            tokio::select! {
                biased;
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(peer = %peer.address, error, "connection ended");
                    }
                    return;
                }
                Some(signal) = signals.next() => match signal {
                    Signal::Abort => return,
                    Signal::Refuse => {
                        closing = true;
                        connection.as_mut().graceful_shutdown();
                    }
                },
                () = timer.as_mut() => {
                    timer.as_mut().reset(Instant::now() + tick);
                    match patience.tick(&progress) {
                        Verdict::Fine => (),
                        // hyper asks the wire for more of the head, and learns it there.
                        Verdict::HeadLate => progress.set_late(),
                        Verdict::Silent if closing => return,
                        Verdict::Silent => {
                            closing = true;
                            connection.as_mut().graceful_shutdown();
                        }
                    }
                }
            }
        }
    }

    /// The timer's period, and the limits in such periods.
    fn patience(&self) -> (Duration, Patience) {
        let tick = self.header_timeout.min(self.idle_timeout) / TICKS;
        let tick = tick.max(Duration::from_millis(1));
        let ticks = |limit: Duration| {
            u32::try_from(limit.as_millis().div_ceil(tick.as_millis())).unwrap_or(u32::MAX - 1)
        };
        (tick, Patience::new(ticks(self.header_timeout), ticks(self.idle_timeout)))
    }
}

/// What a connection is told from outside.
#[derive(Clone, Copy, Debug)]
enum Signal {
    /// End after the request in progress.
    Refuse,
    /// End now.
    Abort,
}

/// A set, because it asks its members only when one of them has something to say. The tokens
/// themselves take a lock shared by all connections whenever they are asked: with every request.
fn signals(
    refuse: CancellationToken,
    abort: CancellationToken,
) -> FuturesUnordered<BoxFuture<'static, Signal>> {
    FuturesUnordered::from_iter([
        refuse.cancelled_owned().map(|()| Signal::Refuse).boxed(),
        abort.cancelled_owned().map(|()| Signal::Abort).boxed(),
    ])
}

/// Answers one request by the router of the moment.
async fn answer(
    app: Arc<App>,
    peer: Peer,
    progress: Arc<Progress>,
    mut request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let version = request.version();
    let (mut request, unread, peer) = match ahead::read(&mut request).await {
        Ahead::Whole(body) => {
            let request = request.map(|_| Body::from(body));
            (request, None, Peer { is_read: true, ..peer })
        }
        Ahead::Part(first) => {
            let (request, unread) = unread::watch(request, first);
            (request, unread, peer)
        }
    };
    request.extensions_mut().insert(peer);
    let mut response = {
        let _in_progress = progress.begin();
        // A router is always ready.
        app.router().call(request).await?
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        progress.set_free();
    }
    if let Some(unread) = unread
        && !unread.settle().await
    {
        // What comes now is the rest of this body, never a request.
        progress.set_free();
        progress.linger();
        close(&mut response, version);
    }
    Ok(response.map(|body| Answer { body, progress, waits: false }))
}

/// Says that no further request is taken on this connection; hyper acts on it.
fn close(response: &mut Response, version: Version) {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    if version == Version::HTTP_10 {
        // To a client of HTTP/1.0 that asks for it, hyper would add `keep-alive`.
        *response.version_mut() = version;
    }
}

/// The body of an answer; dropped, it has been handed over to its last byte.
struct Answer {
    body: Body,
    progress: Arc<Progress>,
    /// The service has more to say and has not said it: its silence is not the peer's.
    waits: bool,
}

impl Answer {
    fn note(&mut self, waits: bool) {
        match (self.waits, waits) {
            (false, true) => self.progress.await_service(),
            (true, false) => self.progress.served(),
            _ => {}
        }
        self.waits = waits;
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.note(false);
        self.progress.answered();
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.note(frame.is_pending());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
