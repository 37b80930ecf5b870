//! A stream that a peer has opened: its hello, then its frames, in order, into the inbox.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::problem::Code;
use bytes::Bytes;
use consensus::NodeId;
use futures_util::stream;
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::frame::Incoming;
use super::metrics::PeerMetrics;
use super::peers::Shared;
use super::respond::{BodyError, PeerBody, problem};
use super::silence::heard_within;
use super::wire::{DecodeError, Decoder, FRAME_MAX, HELLO_MAX, Hello, Received, VERSION};

/// Numbers the streams of a process.
static STREAMS: AtomicU64 = AtomicU64::new(1);

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("{0}")]
    Decode(#[from] DecodeError),
    #[error("the connection broke")]
    Broken(#[source] BodyError),
    #[error("the peer ended the stream")]
    Ended,
    #[error("nothing was heard for too long")]
    Silent,
    #[error("a newer stream of the same node took its place")]
    Superseded,
    #[error("this node is stopping")]
    Stopped,
}

/// Answers a peer that opens a stream. The frames are read by a task of their own until the stream
/// ends; the answer's body lasts as long.
pub(super) async fn accept(shared: Arc<Shared>, body: PeerBody) -> Response<PeerBody> {
    let mut frames = Frames { body, decoder: Decoder::new(HELLO_MAX), metrics: None };
    let first = timeout(shared.config.connect_timeout, frames.next(shared.config.silence)).await;
    let hello = match first {
        Err(_elapsed) => {
            let detail = "a stream begins with a hello, and none came in time";
            return problem(Code::RequestTimeout, detail);
        }
        Ok(Err(error)) => {
            return problem(Code::InvalidRequest, format!("a stream begins with a hello: {error}"));
        }
        Ok(Ok(Received { hello: None, .. })) => {
            return problem(
                Code::InvalidRequest,
                "a stream begins with a hello, this one does not",
            );
        }
        Ok(Ok(Received { hello: Some(hello), .. })) => hello,
    };
    if let Err(detail) = check(&shared, &hello) {
        shared.report_mismatch(hello.from, &detail);
        return problem(Code::Conflict, detail);
    }
    frames.decoder.allow(FRAME_MAX);
    frames.metrics = Some(shared.metrics.peer(hello.from));
    let (last_words, ended) = oneshot::channel();
    let keepalive = shared.config.keepalive;
    let number = STREAMS.fetch_add(1, Ordering::Relaxed);
    let superseded = shared.begin_inbound(hello.from, number);
    tracing::info!(peer = %hello.from, epoch = hello.epoch, "the peer has opened its stream");
    let Hello { from, url, .. } = hello;
    let reading = Reading { shared: shared.clone(), from, url, number, superseded };
    shared.tasks.spawn(async move {
        let error = reading.run(frames).await;
        // Whoever listens may be gone as well.
        let _ = last_words.send(error.to_string());
    });
    Response::new(answer(keepalive, ended))
}

/// Says why these two do not talk, if they do not.
fn check(shared: &Shared, hello: &Hello) -> Result<(), String> {
    let config = &shared.config;
    if hello.cluster != config.cluster {
        return Err(format!(
            "this node belongs to cluster {:016x}, the caller to {:016x}; one of them has a wrong \
             peer address",
            config.cluster, hello.cluster
        ));
    }
    if hello.version != VERSION {
        return Err(format!(
            "this node speaks version {VERSION} of the peer protocol, the caller {}; run \
             compatible releases",
            hello.version
        ));
    }
    if hello.to != config.node {
        return Err(format!(
            "this is node {}, the caller looks for node {}; its peer address is out of date, or \
             this node has lost its data directory",
            config.node, hello.to
        ));
    }
    if hello.from == config.node {
        return Err(format!(
            "caller and called are both node {}: one data directory is a copy of the other",
            config.node
        ));
    }
    Ok(())
}

/// The body of the answer: a line break while the stream lasts, then last words.
fn answer(keepalive: Duration, ended: oneshot::Receiver<String>) -> PeerBody {
    let words = stream::unfold(Some(ended), move |ended| async move {
        let mut ended = ended?;
        let data = |text: String| Ok::<_, BodyError>(Frame::data(Bytes::from(text)));
        match timeout(keepalive, &mut ended).await {
            Err(_elapsed) => Some((data("\n".to_owned()), Some(ended))),
            Ok(words) => Some((data(words.unwrap_or_default() + "\n"), None)),
        }
    });
    BodyExt::boxed_unsync(StreamBody::new(words))
}

struct Reading {
    shared: Arc<Shared>,
    from: NodeId,
    /// Where it says that it is reached.
    url: String,
    number: u64,
    superseded: CancellationToken,
}

impl Reading {
    async fn run(self, mut frames: Frames) -> StreamError {
        let from = self.from;
        let error = tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => StreamError::Stopped,
            () = self.superseded.cancelled() => StreamError::Superseded,
            error = self.pass_on(&mut frames) => error,
        };
        let cause = error.source().map(ToString::to_string);
        match &error {
            StreamError::Decode(_) => {
                tracing::error!(peer = %from, %error, cause, "the peer's stream is damaged");
            }
            _ => tracing::info!(peer = %from, %error, cause, "the peer's stream has ended"),
        }
        if !matches!(error, StreamError::Stopped) {
            // Whoever listened may be gone as well.
            let _ = self.shared.inbox.send(Incoming::Unheard { node: from }).await;
        }
        self.shared.end_inbound(from, self.number);
        error
    }

    /// Reads as long as the inbox takes it. While that is full nothing is read, so the peer's
    /// side fills up and drops.
    async fn pass_on(&self, frames: &mut Frames) -> StreamError {
        let met = Incoming::Met { node: self.from, url: self.url.clone() };
        if !self.url.is_empty() && self.shared.inbox.send(met).await.is_err() {
            return StreamError::Stopped;
        }
        loop {
            let received = match frames.next(self.shared.config.silence).await {
                Ok(received) => received,
                Err(error) => return error,
            };
            let frame = received.frame;
            if frame.is_empty() {
                continue;
            }
            let event = Incoming::Frame { from: self.from, frame };
            if self.shared.inbox.send(event).await.is_err() {
                return StreamError::Stopped;
            }
        }
    }
}

/// Frames out of a body.
struct Frames {
    body: PeerBody,
    decoder: Decoder,
    /// Once it is known whose.
    metrics: Option<PeerMetrics>,
}

impl Frames {
    async fn next(&mut self, silence: Duration) -> Result<Received, StreamError> {
        loop {
            if let Some(received) = self.decoder.next()? {
                self.count(&received);
                return Ok(received);
            }
            match heard_within(silence, self.body.frame()).await {
                None => return Err(StreamError::Silent),
                Some(None) => return Err(StreamError::Ended),
                Some(Some(Err(error))) => return Err(StreamError::Broken(error)),
                Some(Some(Ok(frame))) => {
                    let data = frame.into_data().unwrap_or_default();
                    if let Some(metrics) = &self.metrics {
                        metrics.received_bytes.add(data.len() as u64);
                    }
                    self.decoder.extend(&data);
                }
            }
        }
    }

    fn count(&self, received: &Received) {
        let Some(metrics) = &self.metrics else { return };
        metrics.received_frames.inc();
        metrics.received_messages.add(received.frame.parts() as u64);
        if let Some(first) = received.unknown.first() {
            metrics.unknown_messages.add(received.unknown.len() as u64);
            tracing::debug!(?first, "skipped what a newer release says");
        }
    }
}
