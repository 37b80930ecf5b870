//! A request body that is bounded in size and in silence.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};

/// The most bytes that a request body may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MaxBody(pub(crate) u64);

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body is larger than {} bytes", max.0)]
    TooLarge { max: MaxBody },
    #[error("no byte of the body arrived for {} s; send it faster", after.as_secs())]
    Stalled { after: Duration },
    #[error("the connection broke inside the body")]
    Broken(#[source] Box<dyn Error + Send + Sync>),
}

pin_project! {
    /// Ends with an error past `max` bytes, or when nothing arrives for `silence`; whoever takes
    /// silence for an answer may go on reading then.
    pub(crate) struct BoundedBody<B> {
        #[pin]
        inner: B,
        left: u64,
        max: MaxBody,
        silence: Duration,
        // Made when first waited for: most bodies arrive with their head.
        #[pin]
        timer: Option<Sleep>,
    }
}

impl<B> BoundedBody<B> {
    pub(crate) fn new(inner: B, max: MaxBody, silence: Duration) -> Self {
        Self { inner, left: max.0, max, silence, timer: None }
    }
}

impl<B> Body for BoundedBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut this = self.project();
        let frame = match this.inner.poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                if this.timer.is_none() {
                    this.timer.set(Some(sleep(*this.silence)));
                }
                let mut timer = this.timer.as_mut().as_pin_mut().expect("it was just set");
                std::task::ready!(timer.as_mut().poll(cx));
                timer.reset(Instant::now() + *this.silence);
                return Poll::Ready(Some(Err(BodyError::Stalled { after: *this.silence })));
            }
        };
        if let Some(timer) = this.timer.as_mut().as_pin_mut() {
            timer.reset(Instant::now() + *this.silence);
        }
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(|error| BodyError::Broken(error.into()))?;
            let len = frame.data_ref().map_or(0, |data| data.remaining() as u64);
            *this.left =
                this.left.checked_sub(len).ok_or(BodyError::TooLarge { max: *this.max })?;
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full, StreamBody};

    use super::*;

    const SILENCE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_body_of_exactly_the_limit_passes_and_one_byte_more_does_not() {
        for (len, fits) in [(8, true), (9, false)] {
            let body = BoundedBody::new(Full::new(Bytes::from(vec![0; len])), MaxBody(8), SILENCE);
            assert_eq!(body.collect().await.is_ok(), fits, "{len}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_ends_with_an_error() {
        let silent =
            StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, BodyError>>());
        let body = BoundedBody::new(silent, MaxBody(8), SILENCE);
        assert!(matches!(body.collect().await, Err(BodyError::Stalled { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_bears_silence_reads_on() {
        let late = futures_util::stream::once(async {
            sleep(SILENCE * 5 / 2).await;
            Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"late")))
        });
        let body = BoundedBody::new(StreamBody::new(late), MaxBody(8), SILENCE);
        let mut body = std::pin::pin!(body);
        let mut silences = 0;
        loop {
            match body.frame().await.unwrap() {
                Err(BodyError::Stalled { .. }) => silences += 1,
                frame => break assert_eq!(frame.unwrap().into_data().unwrap(), "late"),
            }
        }
        assert_eq!(silences, 2);
    }
}
