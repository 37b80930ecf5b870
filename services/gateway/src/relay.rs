//! A response on its way to the client, and what hangs on its end.
//!
//! The connection goes back to its pool only when the response was read to its last byte. A
//! response that the upstream cuts off fails towards the client too, never ends cleanly (F5). A
//! client that leaves drops this, which closes the upstream's connection and is nobody's failure
//! (B4).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use resilience::{Clock, SystemClock};
use telemetry::trace::ActiveSpan;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::body::{BoxBody, BoxError, Paced, boxed};
use crate::headers::strip_hop_by_hop;
use crate::pool::Connection;
use crate::upstream::{Endpoint, InFlight};

/// The body of an upstream's response.
pub(crate) struct Relay {
    body: Paced<Incoming>,
    exchange: Option<Exchange>,
}

/// What ends with a response.
pub(crate) struct Exchange {
    pub connection: Connection,
    /// Whether the connection may carry another request.
    pub reusable: bool,
    pub endpoint: Arc<Endpoint>,
    #[expect(dead_code, reason = "counts for as long as it lives")]
    pub in_flight: InFlight,
    pub span: ActiveSpan,
}

impl Relay {
    /// Passes `body` on; `idle` bounds each pause in it.
    pub(crate) fn new(body: Incoming, idle: Duration, exchange: Exchange) -> Self {
        let mut relay = Self { body: Paced::new(body, idle), exchange: Some(exchange) };
        if relay.body.is_end_stream() {
            relay.finish();
        }
        relay
    }

    /// The body of the client's response. `draining` ends an event stream, whose reader resumes
    /// elsewhere with its `Last-Event-ID`.
    pub(crate) fn until(self, draining: Option<CancellationToken>) -> BoxBody {
        match draining {
            Some(draining) => boxed(Drained { relay: self, draining: draining_future(draining) }),
            None => boxed(self),
        }
    }

    fn finish(&mut self) {
        let Some(exchange) = self.exchange.take() else { return };
        if exchange.reusable {
            exchange.connection.give_back(SystemClock.now());
        }
        exchange.span.end();
    }

    fn fail(&mut self, error: &BoxError) {
        let Some(mut exchange) = self.exchange.take() else { return };
        let reason = format!("the response was cut off: {error}");
        tracing::warn!(endpoint = %exchange.endpoint.key.authority, %error, "response cut off");
        exchange.endpoint.value.failed(reason);
        exchange.span.fail("response_cut_off");
        exchange.span.end();
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(_)) if self.body.is_end_stream() => self.finish(),
            Some(Ok(_)) => (),
            Some(Err(error)) => self.fail(error),
            None => self.finish(),
        }
        Poll::Ready(frame.map(|frame| frame.map(clean_trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

type Draining = Pin<Box<WaitForCancellationFutureOwned>>;

fn draining_future(draining: CancellationToken) -> Draining {
    Box::pin(draining.cancelled_owned())
}

/// An event stream that ends with the drain.
struct Drained {
    relay: Relay,
    draining: Draining,
}

impl Body for Drained {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.relay).poll_frame(cx) {
            Poll::Pending => self.draining.as_mut().poll(cx).map(|()| None),
            frame => frame,
        }
    }
}

/// Hop-by-hop fields end here in trailers as well (H1).
fn clean_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            strip(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

fn strip(trailers: &mut HeaderMap) {
    strip_hop_by_hop(trailers);
    // A length or a host in trailers could only mislead whoever merges them into the header.
    trailers.remove(http::header::CONTENT_LENGTH);
    trailers.remove(http::header::HOST);
}
