//! The stream to one peer: opened, kept, opened again.
//!
//! One POST whose body never ends carries the frames. Its answer never ends either: the receiver
//! says once in a while that it lives, and at the end, in words, why it ends.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use api::problem::ProblemDetails;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Limited, StreamBody};
use hyper::body::{Frame, Incoming as IncomingBody};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::backoff::Backoff;
use super::frame::{Incoming, PeerFrame};
use super::peers::{Peer, Shared};
use super::silence::heard_within;
use super::wire::{self, Hello};

/// Where peers open their streams.
pub(super) const STREAM: &str = "/peer/v1/stream";
/// A frame's heartbeat is written ahead of it, as a frame of its own, if the rest is longer.
const SPLIT_BYTES: usize = 32 * 1024;
/// What is read of a refusal or of last words.
const WORDS_MAX: usize = 8 * 1024;

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("`{url}` is not an address of a peer: http://host:port is")]
    Address { url: String },
    #[error("the connection is refused: nothing listens there")]
    Refused,
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("no answer in time")]
    Timeout,
    #[error("the connection failed")]
    Http(#[from] hyper::Error),
    #[error("the peer refuses with status {status}: {detail}")]
    Status { status: StatusCode, detail: String },
    #[error("the peer says nothing any more")]
    Silent,
    #[error("the node at {url} gives an answer that this release does not read")]
    Strange { url: String },
    #[error("the peer ended the stream: {words}")]
    Ended { words: String },
}

/// Keeps the stream to `peer` open until the peer leaves or the process stops.
pub(super) async fn run(shared: Arc<Shared>, peer: Arc<Peer>) {
    let mut link = Link { shared, peer, backoff: Backoff::default(), reported: None };
    let stop = (link.shared.stop.clone(), link.peer.stop.clone());
    tokio::select! {
        () = stop.0.cancelled() => {}
        () = stop.1.cancelled() => {}
        _never = link.keep_open() => {}
    }
    link.disconnect().await;
}

struct Link {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    backoff: Backoff,
    /// What was last logged, so that a lasting trouble is logged once.
    reported: Option<String>,
}

impl Link {
    async fn keep_open(&mut self) -> Infallible {
        let mut url = self.peer.url.subscribe();
        let mut is_gone = false;
        loop {
            let address = url.borrow_and_update().clone();
            let began = Instant::now();
            let error = tokio::select! {
                error = self.session(&address, &mut is_gone) => error,
                // The sender of addresses lives as long as the peer.
                _changed = url.changed() => {
                    self.disconnect().await;
                    self.backoff.reset();
                    is_gone = false;
                    continue;
                }
            };
            if self.disconnect().await {
                self.reported = None;
                if self.shared.config.keepalive < began.elapsed() {
                    self.backoff.reset();
                }
            }
            self.report(&address, &error);
            // Whoever is still heard is not gone.
            if matches!(error, LinkError::Refused) {
                if !is_gone && !self.shared.is_heard(self.peer.node) {
                    is_gone = true;
                    self.tell(Incoming::Refused { node: self.peer.node }).await;
                }
            } else {
                is_gone = false;
            }
            self.wait(&error, &mut url).await;
        }
    }

    async fn wait(&mut self, error: &LinkError, url: &mut watch::Receiver<String>) {
        let config = &self.shared.config;
        let (first, max) = match error {
            LinkError::Status { status: StatusCode::CONFLICT, .. } => {
                (config.backoff_mismatch, config.backoff_mismatch)
            }
            _ => (config.backoff_first, config.backoff_max),
        };
        let wait = self.backoff.next(first, max);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.peer.retry.notified() => {}
            // Stays changed: the next session begins with it.
            _ = url.changed() => url.mark_changed(),
        }
    }

    /// Opens a stream and keeps it until it ends.
    async fn session(&self, url: &str, is_gone: &mut bool) -> LinkError {
        let stream = match self.open(url).await {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        *is_gone = false;
        let node = self.peer.node;
        tracing::info!(peer = %node, url, "stream to the peer is open");
        self.peer.metrics.connected.set(1.0);
        self.peer.metrics.connects.inc();
        // The receiver of this has ended only if the connection has.
        let _ = stream.begin.send(self.peer.outbox.connect());
        self.tell(Incoming::Connected { node }).await;
        listen(stream.answer, self.shared.config.silence).await
    }

    async fn open(&self, url: &str) -> Result<OpenStream, LinkError> {
        let limit = self.shared.config.connect_timeout;
        let authority = authority(url)?;
        let socket = dial(&authority, limit).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        let connection = AbortOnDropHandle::new(self.shared.tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a peer ended");
            }
        }));
        let (begin, begun) = oneshot::channel();
        let request = Request::post(STREAM)
            .header(header::HOST, authority)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(StreamBody::new(self.frames(begun)))
            .map_err(|_| LinkError::Address { url: url.to_owned() })?;
        let answer = timeout(limit, sender.send_request(request));
        let answer = answer.await.map_err(|_elapsed| LinkError::Timeout)??;
        if answer.status() != StatusCode::OK {
            let status = answer.status();
            let detail = timeout(limit, words(answer.into_body())).await.unwrap_or_default();
            return Err(LinkError::Status { status, detail });
        }
        Ok(OpenStream { _connection: connection, begin, answer: answer.into_body() })
    }

    /// The body of the request: the hello, and after the peer has accepted it, the frames.
    fn frames(
        &self,
        begun: oneshot::Receiver<u64>,
    ) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + use<> {
        let config = &self.shared.config;
        let hello = Hello {
            version: wire::VERSION,
            cluster: config.cluster,
            from: config.node,
            to: self.peer.node,
            epoch: config.epoch,
            url: self.shared.own_url.load().to_string(),
        };
        let (keepalive, frame_bytes) = (config.keepalive, config.frame_bytes);
        let peer = self.peer.clone();
        let frames = stream::once(begun).flat_map(move |connection| {
            let peer = peer.clone();
            stream::unfold((peer, connection.ok()), move |(peer, connection)| async move {
                let connection = connection?;
                let next = timeout(keepalive, peer.outbox.take(connection, frame_bytes));
                let bytes = match next.await {
                    Ok(frame) => encode(&peer, frame?),
                    Err(_elapsed) => Bytes::from_static(&wire::KEEPALIVE),
                };
                Some((bytes, (peer, Some(connection))))
            })
        });
        let hello = stream::once(std::future::ready(hello.encode()));
        hello.chain(frames).map(|bytes| Ok(Frame::data(bytes)))
    }

    /// Nothing is written any more. Says whether something was.
    async fn disconnect(&self) -> bool {
        let (was_connected, lost) = self.peer.outbox.disconnect();
        self.peer.metrics.connected.set(0.0);
        self.peer.metrics.dropped_messages.add(lost.dropped);
        if was_connected {
            let node = self.peer.node;
            self.tell(Incoming::Disconnected { node, unsent: lost.unsent }).await;
        }
        was_connected
    }

    async fn tell(&self, event: Incoming) {
        tokio::select! {
            biased;
            // It fails only if the driver has ended.
            _ = self.shared.inbox.send(event) => {}
            () = self.shared.stop.cancelled() => {}
        }
    }

    fn report(&mut self, url: &str, error: &LinkError) {
        let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        let text = format!("{error}{cause}");
        let peer = self.peer.node;
        if self.reported.as_ref() == Some(&text) {
            tracing::debug!(%peer, url, error = text, "still no stream to the peer");
        } else {
            tracing::warn!(%peer, url, error = text, "no stream to the peer; trying again");
            self.reported = Some(text);
        }
    }
}

/// A stream that the peer has accepted.
struct OpenStream {
    _connection: AbortOnDropHandle<()>,
    /// Lets the frames of this connection go.
    begin: oneshot::Sender<u64>,
    answer: IncomingBody,
}

fn encode(peer: &Peer, mut frame: PeerFrame) -> Bytes {
    let mut bytes = BytesMut::new();
    let messages = frame.parts();
    if frame.heartbeat.is_some() && SPLIT_BYTES < frame.cost() {
        let heartbeat = frame.heartbeat.take();
        wire::encode(&PeerFrame { heartbeat, ..PeerFrame::default() }, &mut bytes);
        peer.metrics.sent_frames.inc();
    }
    wire::encode(&frame, &mut bytes);
    peer.metrics.sent_frames.inc();
    peer.metrics.sent_messages.add(messages as u64);
    peer.metrics.sent_bytes.add(bytes.len() as u64);
    bytes.freeze()
}

/// Reads the answer until it ends, and says why.
async fn listen(mut answer: IncomingBody, silence: Duration) -> LinkError {
    let mut words = Vec::new();
    loop {
        match heard_within(silence, answer.frame()).await {
            None => return LinkError::Silent,
            Some(Some(Err(error))) => return LinkError::Http(error),
            Some(Some(Ok(frame))) => {
                let data = frame.into_data().unwrap_or_default();
                let said = data.trim_ascii();
                words.extend_from_slice(&said[..said.len().min(WORDS_MAX - words.len())]);
            }
            Some(None) => {
                let words = String::from_utf8_lossy(&words).into_owned();
                return LinkError::Ended { words };
            }
        }
    }
}

/// The text of a refusal, for the log.
pub(super) async fn words(body: IncomingBody) -> String {
    let Ok(body) = Limited::new(body, WORDS_MAX).collect().await else { return String::new() };
    let body = body.to_bytes();
    match serde_json::from_slice::<ProblemDetails>(&body) {
        Ok(problem) => problem.detail,
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    }
}

/// `host:port` of a peer's URL.
pub(super) fn authority(url: &str) -> Result<String, LinkError> {
    let invalid = || LinkError::Address { url: url.to_owned() };
    let uri: Uri = url.parse().map_err(|_| invalid())?;
    let host = uri.host().filter(|_| uri.scheme_str() == Some("http")).ok_or_else(invalid)?;
    Ok(format!("{host}:{}", uri.port_u16().unwrap_or(80)))
}

/// Connects. Refused means that every address of the name said so.
pub(super) async fn dial(authority: &str, limit: Duration) -> Result<TcpStream, LinkError> {
    let connecting = async {
        let mut failed = None;
        let mut all_refused = true;
        for address in lookup_host(authority).await.map_err(LinkError::Connect)? {
            match TcpStream::connect(address).await {
                Ok(socket) => {
                    socket.set_nodelay(true).map_err(LinkError::Connect)?;
                    return Ok(socket);
                }
                Err(error) => {
                    all_refused &= error.kind() == io::ErrorKind::ConnectionRefused;
                    failed = Some(error);
                }
            }
        }
        Err(match failed {
            Some(_) if all_refused => LinkError::Refused,
            Some(error) => LinkError::Connect(error),
            None => LinkError::Connect(io::ErrorKind::NotFound.into()),
        })
    };
    timeout(limit, connecting).await.unwrap_or(Err(LinkError::Timeout))
}
