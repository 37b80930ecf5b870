//! A socket that gives up on a peer that connects and says nothing.
//!
//! hyper-util reads up to 24 bytes to tell HTTP/2 from HTTP/1, before any timer of hyper runs.
//! Until those bytes are decided, this wrapper has a timer of its own.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// What an HTTP/2 client says first.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// When bytes last moved on a connection.
#[derive(Clone, Debug)]
pub(super) struct Activity {
    opened: Instant,
    last_ms: Arc<AtomicU64>,
}

impl Default for Activity {
    fn default() -> Self {
        Self { opened: Instant::now(), last_ms: Arc::default() }
    }
}

impl Activity {
    fn note(&self) {
        let now = self.opened.elapsed().as_millis() as u64;
        self.last_ms.store(now, Ordering::Relaxed);
    }

    /// How long nothing has moved.
    pub(super) fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
        self.opened.elapsed().saturating_sub(last)
    }
}

/// A socket with a timer on its first bytes.
pub(super) struct TimedIo {
    inner: TcpStream,
    activity: Activity,
    /// Gone as soon as the protocol is known.
    undecided: Option<Undecided>,
}

struct Undecided {
    timer: Pin<Box<Sleep>>,
    /// Bytes so far, all of them equal to the HTTP/2 preface.
    seen: usize,
}

impl TimedIo {
    pub(super) fn new(inner: TcpStream, timeout: Duration, activity: Activity) -> Self {
        let undecided = Undecided { timer: Box::pin(sleep(timeout)), seen: 0 };
        Self { inner, activity, undecided: Some(undecided) }
    }

    /// Looks whether `bytes` decide between the protocols.
    fn decide(&mut self, bytes: &[u8]) {
        let Some(undecided) = &mut self.undecided else { return };
        let expected = &HTTP2_PREFACE[undecided.seen..];
        let len = bytes.len().min(expected.len());
        undecided.seen += len;
        if bytes[..len] != expected[..len] || undecided.seen == HTTP2_PREFACE.len() {
            self.undecided = None;
        }
    }
}

impl AsyncRead for TimedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.inner).poll_read(cx, buffer) {
            Poll::Ready(result) => {
                self.activity.note();
                self.decide(&buffer.filled()[before..]);
                Poll::Ready(result)
            }
            Poll::Pending => {
                let Some(undecided) = &mut self.undecided else { return Poll::Pending };
                ready!(undecided.timer.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncWrite for TimedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if written.is_ready() {
            self.activity.note();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        if written.is_ready() {
            self.activity.note();
        }
        written
    }
}
