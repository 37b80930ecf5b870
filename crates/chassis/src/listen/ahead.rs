//! Small bodies, read before the service is asked.
//!
//! A service that reads the head, waits for the body and goes on is run twice, through all of its
//! layers. Most bodies are small and arrive with their head; of those the service is given all at
//! once.

use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use futures_util::future::poll_fn;
use http::{Request, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;

/// What is read ahead at most, of each connection: nothing has judged the request yet.
const MAX_BYTES: u64 = 16 * 1024;

/// What came of a body before the service was asked.
#[derive(Debug)]
pub(super) enum Ahead {
    /// All of it.
    Whole(Bytes),
    /// This, or nothing; the rest is for the service to wait for.
    Part(Option<Result<Bytes, hyper::Error>>),
}

/// Reads an HTTP/1 body that has a length and is small, if it arrives at once.
///
/// hyper reads a body when it is asked for the first time, and asks back in the same turn: who is
/// asked a second time and has nothing would have to wait for the client.
pub(super) async fn read(request: &mut Request<Incoming>) -> Ahead {
    let small = request.body().size_hint().exact().is_some_and(|len| 0 < len && len <= MAX_BYTES);
    // Who waits for `100 Continue` is judged first.
    let waits = request.headers().contains_key(header::EXPECT);
    if !small || waits || request.version() == Version::HTTP_2 {
        return Ahead::Part(None);
    }
    let body = request.body_mut();
    let mut asked = false;
    poll_fn(|cx| {
        let frame = match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Pending if asked => return Poll::Ready(Ahead::Part(None)),
            Poll::Pending => {
                asked = true;
                return Poll::Pending;
            }
            Poll::Ready(frame) => frame,
        };
        let data = frame.map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default()));
        Poll::Ready(match data {
            Some(Ok(data)) if body.is_end_stream() => Ahead::Whole(data),
            None => Ahead::Whole(Bytes::new()),
            part => Ahead::Part(part),
        })
    })
    .await
}
