//! The socket, as far as hyper cannot be left alone with it.
//!
//! - hyper answers heads that it cannot read with a bare status. Such an answer is recognized by
//!   its moment (no request is being answered, all earlier answers are on the wire) and replaced
//!   by a problem document.
//! - A head that arrives too slowly is answered too, where hyper would only hang up.
//! - A connection that ends while its peer is still sending lingers: closing it at once would
//!   reset it, and the reset may overtake the answer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::progress::{Progress, Stage};
use super::refusal::Refusals;

/// What an HTTP/2 client says first.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a peer that is still sending is listened to after our last word.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// And how much of it is read.
const LINGER_MAX_BYTES: usize = 32 * 1024 * 1024;

/// A connection's socket.
pub(super) struct Wire {
    socket: TcpStream,
    progress: Arc<Progress>,
    refusals: Arc<Refusals>,
    /// Bytes so far, all of them equal to the HTTP/2 preface; `None` once the protocol is known.
    preface: Option<usize>,
    /// What is left of a document that goes out in place of hyper's answer.
    refusal: Bytes,
    lingering: Option<Lingering>,
}

/// Our side is closed; what the peer still sends is dropped.
struct Lingering {
    timer: Pin<Box<Sleep>>,
    left: usize,
}

impl Wire {
    pub(super) fn new(socket: TcpStream, progress: Arc<Progress>, refusals: Arc<Refusals>) -> Self {
        let refusal = Bytes::new();
        Self { socket, progress, refusals, preface: Some(0), refusal, lingering: None }
    }

    /// Looks whether `bytes` decide between the protocols.
    fn decide(&mut self, bytes: &[u8]) {
        let Some(seen) = &mut self.preface else { return };
        let expected = &HTTP2_PREFACE[*seen..];
        let len = bytes.len().min(expected.len());
        *seen += len;
        if bytes[..len] != expected[..len] {
            self.preface = None;
        } else if *seen == HTTP2_PREFACE.len() {
            self.preface = None;
            self.progress.set_free();
        }
    }

    /// The last word to a peer whose head is late. Whoever has said nothing at all may be a client
    /// that connects in advance: it would take the answer for that to its next request.
    fn say_late(&self) {
        if self.progress.stage() == Stage::Head {
            // A socket whose buffer is full at this point has nobody at its other end.
            let _ = self.socket.try_write(&self.refusals.late());
        }
    }

    /// Takes what hyper writes if it is an answer of its own; the document goes out instead.
    fn replace(&mut self, head: &[u8]) -> bool {
        if !self.progress.is_between_requests() {
            return false;
        }
        let Some(refusal) = self.refusals.instead_of(head) else { return false };
        self.refusal = refusal;
        self.progress.linger();
        true
    }

    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.refusal.is_empty() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.refusal))?;
            self.refusal.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(Lingering { timer, left }) = &mut self.lingering else { return Poll::Ready(()) };
        let mut space = [0; 8 * 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut self.socket).poll_read(cx, &mut buffer) {
                Poll::Pending => return timer.as_mut().poll(cx),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(()))
                    if buffer.filled().is_empty() || *left < buffer.filled().len() =>
                {
                    return Poll::Ready(());
                }
                Poll::Ready(Ok(())) => *left -= buffer.filled().len(),
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buffer);
        if read.is_pending() && self.progress.is_late() {
            self.say_late();
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        ready!(read)?;
        let bytes = &buffer.filled()[before..];
        if !bytes.is_empty() {
            self.progress.read();
            self.decide(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.replace(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, bytes))?;
        self.progress.wrote();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if slices.first().is_some_and(|head| self.replace(head)) {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, slices))?;
        self.progress.wrote();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(cx))?;
        ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
        self.progress.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(self.poll_refusal(cx))?;
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
            if !self.progress.lingers() {
                return Poll::Ready(Ok(()));
            }
            let timer = Box::pin(sleep(LINGER_TIME));
            self.lingering = Some(Lingering { timer, left: LINGER_MAX_BYTES });
        }
        self.poll_linger(cx).map(Ok)
    }
}
