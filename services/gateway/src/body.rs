//! Bodies on their way through: frame by frame, none of them gathered.

use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::time::{Instant, Sleep};

/// Any error of a body.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;
/// A body whose origin does not matter any more.
pub(crate) type BoxBody = UnsyncBoxBody<Bytes, BoxError>;

/// The other end sent nothing for too long inside a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no part of the body arrived for {0:?}")]
pub(crate) struct Stalled(pub Duration);

/// Boxes a body.
pub(crate) fn boxed<B>(body: B) -> BoxBody
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// A body of known bytes.
pub(crate) fn full(bytes: impl Into<Bytes>) -> BoxBody {
    boxed(http_body_util::Full::new(bytes.into()))
}

/// A body that fails when it pauses for too long, so that a stalled peer does not hold a
/// connection forever (B2, B5). A timer runs only while nothing is there to pass on.
pub(crate) struct Paced<B> {
    body: B,
    idle: Duration,
    pause: Option<Pin<Box<Sleep>>>,
    paused: bool,
}

impl<B> Paced<B> {
    pub(crate) fn new(body: B, idle: Duration) -> Self {
        Self { body, idle, pause: None, paused: false }
    }

    /// Ready once the present pause has lasted too long.
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = Instant::now() + self.idle;
        if self.paused {
            return self.pause.as_mut().map_or(Poll::Pending, |pause| pause.as_mut().poll(cx));
        }
        self.paused = true;
        match &mut self.pause {
            Some(pause) => pause.as_mut().reset(until),
            None => self.pause = Some(Box::pin(tokio::time::sleep_until(until))),
        }
        self.pause.as_mut().map_or(Poll::Pending, |pause| pause.as_mut().poll(cx))
    }
}

impl<B> Body for Paced<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.paused = false;
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                ready!(self.poll_pause(cx));
                Poll::Ready(Some(Err(Stalled(self.idle).into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a client's request. It remembers why it failed, because the HTTP client that sends
/// it on reports only that it did. Its size and pauses are bounded by the layers of `chassis`.
pub(crate) struct Inbound {
    body: BoxBody,
    fault: FaultCell,
}

/// Why a client's body could not be read to its end.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the request's body could not be read")]
pub(crate) struct InboundError(#[source] Arc<dyn Error + Send + Sync>);

/// Where an [`Inbound`] body leaves the reason of its failure.
#[derive(Clone, Default)]
pub(crate) struct FaultCell(Arc<OnceLock<InboundError>>);

impl FaultCell {
    /// Why the client's body failed, if it did.
    pub(crate) fn get(&self) -> Option<InboundError> {
        self.0.get().cloned()
    }
}

impl Inbound {
    pub(crate) fn new(body: BoxBody) -> (Self, FaultCell) {
        let fault = FaultCell::default();
        (Self { body, fault: fault.clone() }, fault)
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = InboundError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, InboundError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            frame.map_err(|error| {
                self.fault.0.get_or_init(|| InboundError(Arc::from(error))).clone()
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_lasts_too_long_ends_the_body() {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, BoxError>>(1);
        let stream = tokio_stream_of(receiver);
        let mut body = Paced::new(StreamBody::new(stream), Duration::from_secs(10));
        for _ in 0..3 {
            sender.send(Ok(Frame::data(Bytes::from_static(b"x")))).await.unwrap();
            // Each frame starts the pause anew.
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), "x");
            tokio::time::advance(Duration::from_secs(7)).await;
        }
        let error = body.frame().await.unwrap().unwrap_err();
        let stalled = error.downcast_ref::<Stalled>().unwrap();
        assert_eq!(*stalled, Stalled(Duration::from_secs(10)));
    }

    #[tokio::test]
    async fn a_client_that_hangs_up_leaves_the_reason_behind() {
        let frames = vec![Err::<Frame<Bytes>, BoxError>("reset".into())];
        let cut = boxed(StreamBody::new(futures_util::stream::iter(frames)));
        let (body, fault) = Inbound::new(cut);
        assert!(body.collect().await.is_err());
        let error = fault.get().unwrap();
        assert_eq!(error.source().unwrap().to_string(), "reset");
    }

    fn tokio_stream_of<T: Send + 'static>(
        receiver: tokio::sync::mpsc::Receiver<T>,
    ) -> Pin<Box<dyn futures_util::Stream<Item = T> + Send>> {
        Box::pin(futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|item| (item, receiver))
        }))
    }
}
