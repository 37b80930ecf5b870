//! A request body that can be sent again.
//!
//! Frames pass through at once, never held back; a copy of each is kept until there is more than
//! [`REPLAY_BYTES_MAX`] of them. Past that the copies are dropped and the body is only a stream.
//! Trailers are kept like the rest.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::BodyState;

/// How much of a body is kept for another attempt.
pub const REPLAY_BYTES_MAX: usize = 64 * 1024;

/// What several attempts share: the rest of the body and the copies of what was read.
#[derive(Debug)]
struct Shared<B> {
    rest: B,
    kept: Vec<Kept>,
    kept_bytes: usize,
    state: BodyState,
    /// The attempt that reads now: an older one must not take frames away from it.
    attempt: u64,
}

#[derive(Clone, Debug)]
enum Kept {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Kept {
    fn frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}

/// Makes the body of each attempt, and knows whether another one is possible.
#[derive(Debug)]
pub struct ReplayHandle<B>(Arc<Mutex<Shared<B>>>);

impl<B> Clone for ReplayHandle<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: Body<Data = Bytes>> ReplayHandle<B> {
    /// Takes over the body of the request.
    pub fn new(body: B) -> Self {
        let state = if body.is_end_stream() { BodyState::Complete } else { BodyState::Untouched };
        Self(Arc::new(Mutex::new(Shared {
            rest: body,
            kept: Vec::new(),
            kept_bytes: 0,
            state,
            attempt: 0,
        })))
    }

    /// What is kept so far.
    #[must_use]
    pub fn state(&self) -> BodyState {
        lock(&self.0).state
    }

    /// The body of the next attempt: the copies, then the rest. Bodies made before it end with an
    /// error if they are read on. `None` if it cannot be sent again.
    #[must_use]
    pub fn attempt(&self) -> Option<ReplayBody<B>> {
        let mut shared = lock(&self.0);
        if shared.state == BodyState::Truncated {
            return None;
        }
        shared.attempt += 1;
        let replayed: VecDeque<Kept> = shared.kept.iter().cloned().collect();
        let attempt = shared.attempt;
        drop(shared);
        Some(ReplayBody { shared: Arc::clone(&self.0), attempt, replayed })
    }
}

/// The body of one attempt.
#[derive(Debug)]
pub struct ReplayBody<B> {
    shared: Arc<Mutex<Shared<B>>>,
    attempt: u64,
    replayed: VecDeque<Kept>,
}

/// The body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError<E> {
    /// A newer attempt reads it.
    #[error("a newer attempt took the body over")]
    Superseded,
    /// The caller's own body failed.
    #[error("the request body ended early")]
    Body(#[source] E),
}

impl<B: Body<Data = Bytes> + Unpin> Body for ReplayBody<B> {
    type Data = Bytes;
    type Error = ReplayError<B::Error>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(kept) = self.replayed.pop_front() {
            return Poll::Ready(Some(Ok(kept.frame())));
        }
        let mut shared = lock(&self.shared);
        if shared.attempt != self.attempt {
            return Poll::Ready(Some(Err(ReplayError::Superseded)));
        }
        match std::task::ready!(Pin::new(&mut shared.rest).poll_frame(cx)) {
            Some(Ok(frame)) => {
                shared.keep(&frame);
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                shared.drop_copies();
                Poll::Ready(Some(Err(ReplayError::Body(error))))
            }
            None => {
                shared.finish();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.replayed.is_empty() && lock(&self.shared).rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let replayed: u64 = self.replayed.iter().map(Kept::len).sum();
        let rest = lock(&self.shared).rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + replayed);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + replayed);
        }
        hint
    }
}

impl Kept {
    fn len(&self) -> u64 {
        match self {
            Self::Data(data) => data.len() as u64,
            Self::Trailers(_) => 0,
        }
    }
}

impl<B: Body<Data = Bytes>> Shared<B> {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        if self.state != BodyState::Truncated {
            self.state = BodyState::Partial;
            if let Some(data) = frame.data_ref() {
                self.kept_bytes += data.len();
                self.kept.push(Kept::Data(data.clone()));
            } else if let Some(trailers) = frame.trailers_ref() {
                self.kept.push(Kept::Trailers(trailers.clone()));
            }
            if REPLAY_BYTES_MAX < self.kept_bytes {
                self.drop_copies();
            }
        }
        if self.rest.is_end_stream() {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if self.state != BodyState::Truncated {
            self.state = BodyState::Complete;
        }
    }

    fn drop_copies(&mut self) {
        self.state = BodyState::Truncated;
        self.kept = Vec::new();
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().expect("nobody panics while holding it")
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;

    fn frames(sizes: &[usize]) -> impl Body<Data = Bytes, Error = Infallible> + Unpin + use<> {
        let mut frames: Vec<_> = sizes
            .iter()
            .map(|size| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; *size]))))
            .collect();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        frames.push(Ok(Frame::trailers(trailers)));
        StreamBody::new(futures_util::stream::iter(frames))
    }

    async fn read<B>(body: ReplayBody<B>) -> (usize, bool)
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Debug,
    {
        let collected = body.collect().await.unwrap();
        let trailers = collected.trailers().is_some();
        (collected.to_bytes().len(), trailers)
    }

    #[tokio::test]
    async fn a_second_attempt_sends_the_same_bytes_and_trailers() {
        let handle = ReplayHandle::new(frames(&[10, 20]));
        assert_eq!(handle.state(), BodyState::Untouched);
        assert_eq!(read(handle.attempt().unwrap()).await, (30, true));
        assert_eq!(handle.state(), BodyState::Complete);
        assert_eq!(read(handle.attempt().unwrap()).await, (30, true));
    }

    #[tokio::test]
    async fn an_attempt_in_the_middle_sends_the_copies_and_then_the_rest() {
        let handle = ReplayHandle::new(frames(&[10, 20, 30]));
        let mut first = handle.attempt().unwrap();
        first.frame().await.unwrap().unwrap();
        assert_eq!(handle.state(), BodyState::Partial);
        let second = handle.attempt().unwrap();
        assert!(matches!(first.frame().await, Some(Err(ReplayError::Superseded))));
        assert_eq!(read(second).await, (60, true));
    }

    #[tokio::test]
    async fn past_the_cap_it_streams_on_but_cannot_be_repeated() {
        let handle = ReplayHandle::new(frames(&[REPLAY_BYTES_MAX, 1]));
        assert_eq!(read(handle.attempt().unwrap()).await, (REPLAY_BYTES_MAX + 1, true));
        assert_eq!(handle.state(), BodyState::Truncated);
        assert!(handle.attempt().is_none());
    }

    #[tokio::test]
    async fn exactly_the_cap_is_kept() {
        let handle = ReplayHandle::new(frames(&[REPLAY_BYTES_MAX]));
        read(handle.attempt().unwrap()).await;
        assert_eq!(handle.state(), BodyState::Complete);
    }

    #[tokio::test]
    async fn a_known_length_stays_known() {
        let handle = ReplayHandle::new(Full::new(Bytes::from_static(b"12345")));
        assert_eq!(handle.attempt().unwrap().size_hint().exact(), Some(5));
        handle.attempt().unwrap().frame().await.unwrap().unwrap();
        assert_eq!(handle.attempt().unwrap().size_hint().exact(), Some(5));
    }

    #[test]
    fn an_empty_body_is_complete_from_the_start() {
        let handle = ReplayHandle::new(Full::new(Bytes::new()));
        assert_eq!(handle.state(), BodyState::Complete);
    }
}
