//! What becomes of a request's body that nobody has read when its answer is ready.
//!
//! HTTP/1.1 has the next request behind the body, so the rest is read, or the connection ends and
//! the answer says so: a client that is not told sends its next request into a closing connection.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Version, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// A rest of at most this much is read, which costs less than a new connection.
const DRAIN_MAX_BYTES: u64 = 64 * 1024;

/// How long the answer waits for that rest, most of which has arrived already.
const DRAIN_TIME: Duration = Duration::from_millis(100);

/// Where a body is.
#[derive(Debug)]
enum State {
    /// Whoever answers the request has it still.
    Held,
    /// It was read to its end.
    Ended,
    /// It was dropped before its end.
    Dropped(Incoming),
}

type Shared = Arc<Mutex<State>>;

/// A request's body that comes back when it is dropped too early.
struct Watched {
    /// What was read already.
    first: Option<Result<Bytes, hyper::Error>>,
    /// `None` only while it is dropped.
    body: Option<Incoming>,
    state: Shared,
}

/// Tells what is left of a request's body.
pub(super) struct Unread {
    state: Shared,
    /// The client waits for `100 Continue`; reading would ask for what nobody wants.
    expects: bool,
}

/// Watches the body of an HTTP/1 request, if there is one that has not ended. `first` was read of
/// it already.
pub(super) fn watch(
    request: Request<Incoming>,
    first: Option<Result<Bytes, hyper::Error>>,
) -> (Request<Body>, Option<Unread>) {
    if request.body().is_end_stream() && first.is_none() {
        return (request.map(|_| Body::empty()), None);
    }
    if request.version() == Version::HTTP_2 {
        return (request.map(Body::new), None);
    }
    let state = Arc::new(Mutex::new(State::Held));
    let expects = request.headers().contains_key(header::EXPECT);
    let unread = Unread { state: Arc::clone(&state), expects };
    let request = request.map(|body| Body::new(Watched { first, body: Some(body), state }));
    (request, Some(unread))
}

impl Unread {
    /// Whether the connection may carry another request: the body has ended, or does now.
    pub(super) async fn settle(self) -> bool {
        let state = std::mem::replace(&mut *lock(&self.state), State::Held);
        match state {
            State::Ended => true,
            State::Held => false,
            State::Dropped(_) if self.expects => false,
            State::Dropped(body) => drain(body).await,
        }
    }
}

async fn drain(mut body: Incoming) -> bool {
    let mut left = DRAIN_MAX_BYTES;
    if left < body.size_hint().lower() {
        return false;
    }
    let rest = async {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            let len = frame.data_ref().map_or(0, |data| data.len() as u64);
            let Some(less) = left.checked_sub(len) else { return false };
            left = less;
        }
        true
    };
    tokio::time::timeout(DRAIN_TIME, rest).await.unwrap_or(false)
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first.map(Frame::data)));
        }
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        if frame.is_none() || body.is_end_stream() {
            *lock(&self.state) = State::Ended;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let Some(body) = &self.body else { return SizeHint::default() };
        let first = self.first.as_ref().and_then(|first| first.as_ref().ok());
        let (first, rest) = (first.map_or(0, |first| first.len() as u64), body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(first + rest.lower());
        if let Some(upper) = rest.upper() {
            hint.set_upper(first + upper);
        }
        hint
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        let mut state = lock(&self.state);
        if matches!(*state, State::Held) {
            *state = State::Dropped(body);
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // A panic cannot leave a half-changed state behind.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
