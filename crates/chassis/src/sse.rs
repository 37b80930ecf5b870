//! Server-sent events: live answers that end with the drain and resume by id.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body, Frame};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

pub use run::Run;

mod run;

/// A comment is sent after this much silence, so that proxies in between keep the stream open and
/// a client that is gone is noticed.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Events that are ready travel in one piece, up to about this many bytes.
const PIECE_BYTES: usize = 64 << 10;

/// One event. Its id is what `Last-Event-ID` resumes after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    id: Option<String>,
    content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Fields { name: Option<String>, data: String, retry: Option<Duration> },
    Encoded(Encoded),
}

/// All of an event but its id, as it is written: for an event that many streams send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded(Bytes);

/// What a stream sends next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Event(Event),
    /// Events that are [`written`] already. They are sent from where they are in memory, which any
    /// number of streams may share.
    Written(Bytes),
}

impl From<Event> for Piece {
    fn from(event: Event) -> Self {
        Self::Event(event)
    }
}

/// Events as a stream writes them, ids and all.
#[must_use]
pub fn written(events: impl IntoIterator<Item = Event>) -> Bytes {
    let mut text = BytesMut::new();
    events.into_iter().for_each(|event| event.write(&mut text));
    text.freeze()
}

impl From<Encoded> for Event {
    fn from(encoded: Encoded) -> Self {
        Self { id: None, content: Content::Encoded(encoded) }
    }
}

impl Event {
    /// An event with this data; every line of it becomes a `data:` line.
    pub fn new(data: impl Into<String>) -> Self {
        Self { id: None, content: Content::Fields { name: None, data: data.into(), retry: None } }
    }

    /// An event with JSON data. It fails only if the value cannot be JSON.
    pub fn json(value: &impl serde::Serialize) -> Result<Self, serde_json::Error> {
        serde_json::to_string(value).map(Self::new)
    }

    /// Sets the id; what would end its line is left out.
    #[must_use]
    pub fn id(mut self, id: impl std::fmt::Display) -> Self {
        self.id = Some(one_line(&id.to_string()));
        self
    }

    /// Sets the event's name (its type); without one it is `message`. An encoded event keeps its
    /// own.
    #[must_use]
    pub fn named(mut self, to: &str) -> Self {
        if let Content::Fields { name, .. } = &mut self.content {
            *name = Some(one_line(to));
        }
        self
    }

    /// Tells the client how long to wait before it reconnects. An encoded event says what it did.
    #[must_use]
    pub fn retry(mut self, wait: Duration) -> Self {
        if let Content::Fields { retry, .. } = &mut self.content {
            *retry = Some(wait);
        }
        self
    }

    /// All but the id, as it is written.
    #[must_use]
    pub fn encode(&self) -> Encoded {
        if let Content::Encoded(encoded) = &self.content {
            return encoded.clone();
        }
        let mut text = BytesMut::new();
        self.content.write(&mut text);
        Encoded(text.freeze())
    }

    fn write(&self, text: &mut BytesMut) {
        self.write_id(text);
        self.content.write(text);
    }

    fn write_id(&self, text: &mut BytesMut) {
        if let Some(id) = &self.id {
            write_field(text, "id", id);
        }
    }
}

impl Content {
    fn write(&self, text: &mut BytesMut) {
        let (name, data, retry) = match self {
            Self::Encoded(Encoded(encoded)) => return text.extend_from_slice(encoded),
            Self::Fields { name, data, retry } => (name, data, retry),
        };
        text.reserve(data.len() + 64);
        if let Some(name) = name {
            write_field(text, "event", name);
        }
        if let Some(retry) = retry {
            write_field(text, "retry", &retry.as_millis().to_string());
        }
        // A lone CR ends a line as well, by the standard.
        for line in data.replace("\r\n", "\n").split(['\n', '\r']) {
            write_field(text, "data", line);
        }
        text.extend_from_slice(b"\n");
    }
}

fn write_field(text: &mut BytesMut, name: &str, value: &str) {
    text.extend_from_slice(name.as_bytes());
    text.extend_from_slice(b": ");
    text.extend_from_slice(value.as_bytes());
    text.extend_from_slice(b"\n");
}

fn one_line(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '\n' | '\r' | '\0')).collect()
}

/// The id after which the client wants to resume, if it says so.
#[must_use]
pub fn last_event_id(headers: &HeaderMap) -> Option<&str> {
    headers.get(api::headers::LAST_EVENT_ID)?.to_str().ok().filter(|id| !id.is_empty())
}

/// Answers with `events` until they end or the server drains. The client sees a clean end either
/// way, and reconnects with the last id it saw.
pub fn response(
    events: impl Stream<Item: Into<Piece>> + Send + 'static,
    draining: &CancellationToken,
) -> Response {
    let body = EventStream {
        events,
        held: Bytes::new(),
        draining: draining.clone().cancelled_owned(),
        keep_alive: sleep(KEEP_ALIVE),
        quiet_since: Instant::now(),
        opened: false,
        ended: false,
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(api::headers::EVENT_STREAM)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // nginx would hold events back in its buffer.
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, axum::body::Body::new(body)).into_response()
}

pin_project! {
    struct EventStream<S> {
        #[pin]
        events: S,
        // What goes out next, whatever else is there.
        held: Bytes,
        #[pin]
        draining: WaitForCancellationFutureOwned,
        #[pin]
        keep_alive: Sleep,
        quiet_since: Instant,
        opened: bool,
        ended: bool,
    }
}

impl<S: Stream<Item: Into<Piece>>> Body for EventStream<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        if !std::mem::replace(this.opened, true) {
            // Something at once: the client knows that it is connected, and buffers let go.
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b": open\n\n")))));
        }
        let text = if this.draining.as_mut().poll(cx).is_ready() {
            *this.ended = true;
            Bytes::from_static(b": draining, reconnect\n\n")
        } else {
            match ready_events(this.events, this.held, this.ended, cx) {
                Some(text) => text,
                None if *this.ended => return Poll::Ready(None),
                None => {
                    ready!(poll_silence(this.keep_alive, *this.quiet_since, cx));
                    Bytes::from_static(b": keep-alive\n\n")
                }
            }
        };
        *this.quiet_since = Instant::now();
        Poll::Ready(Some(Ok(Frame::data(text))))
    }
}

/// Until nothing was sent for [`KEEP_ALIVE`]. Setting the timer anew with everything that is sent
/// would cost more than sending it: the timer is told when it fires too early.
fn poll_silence(mut timer: Pin<&mut Sleep>, since: Instant, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        ready!(timer.as_mut().poll(cx));
        let over = since + KEEP_ALIVE;
        if over <= Instant::now() {
            timer.reset(Instant::now() + KEEP_ALIVE);
            return Poll::Ready(());
        }
        timer.as_mut().reset(over);
    }
}

/// What is there, in one piece. `None`: nothing is, for now or, if `ended`, for ever.
fn ready_events<S: Stream<Item: Into<Piece>>>(
    mut events: Pin<&mut S>,
    held: &mut Bytes,
    ended: &mut bool,
    cx: &mut Context<'_>,
) -> Option<Bytes> {
    if !held.is_empty() {
        return Some(std::mem::take(held));
    }
    let mut text = BytesMut::new();
    while text.len() < PIECE_BYTES {
        match events.as_mut().poll_next(cx) {
            Poll::Ready(Some(piece)) => match piece.into() {
                Piece::Event(event) => event.write(&mut text),
                Piece::Written(run) if run.is_empty() => {}
                Piece::Written(run) if text.is_empty() => return Some(run),
                Piece::Written(run) => {
                    *held = run;
                    break;
                }
            },
            Poll::Ready(None) => {
                *ended = true;
                break;
            }
            Poll::Pending => break,
        }
    }
    (!text.is_empty()).then(|| text.freeze())
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use http_body_util::BodyExt as _;

    use super::*;

    async fn text(response: Response) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn an_event_is_written_line_by_line() {
        let written = |event: &Event| {
            let mut text = BytesMut::new();
            event.write(&mut text);
            text.freeze()
        };
        let event = Event::new("a\r\nb\rc").id("7\n8").named("put");
        assert_eq!(written(&event), "id: 78\nevent: put\ndata: a\ndata: b\ndata: c\n\n");
        assert_eq!(written(&Event::new("")), "data: \n\n");
        let again = Event::from(event.encode()).id(9);
        assert_eq!(written(&again), "id: 9\nevent: put\ndata: a\ndata: b\ndata: c\n\n");
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_events() {
        let events = stream::iter([Event::new("1").id(1), Event::new("2").id(2)]);
        let response = response(events, &CancellationToken::new());
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        assert_eq!(text(response).await, ": open\n\nid: 1\ndata: 1\n\nid: 2\ndata: 2\n\n");
    }

    #[tokio::test]
    async fn what_is_ready_travels_in_bounded_pieces() {
        let long = "x".repeat(PIECE_BYTES / 2);
        let events = stream::iter([Event::new("1"), Event::new("2")]).chain(stream::iter([
            Event::new(&*long),
            Event::new(&*long),
            Event::new("3"),
        ]));
        let response = response(events, &CancellationToken::new());
        let mut body = response.into_body();
        let mut lens = Vec::new();
        while let Some(frame) = body.frame().await {
            lens.push(frame.unwrap().into_data().unwrap().len());
        }
        let (field, short) = ("data: \n\n".len(), "data: 1\n\n".len());
        assert_eq!(lens, [": open\n\n".len(), 2 * short + 2 * (field + long.len()), short]);
    }

    #[tokio::test]
    async fn what_is_written_already_is_sent_in_order_and_not_copied() {
        let run = written([Event::new("2").id(2), Event::new("3")]);
        let pieces = [
            Event::new("1").into(),
            Piece::Written(run.clone()),
            Piece::Written(Bytes::new()),
            Piece::Written(run.clone()),
            Event::new("4").into(),
        ];
        let response = response(stream::iter(pieces), &CancellationToken::new());
        let mut body = response.into_body();
        let mut sent = Vec::new();
        while let Some(frame) = body.frame().await {
            sent.push(frame.unwrap().into_data().unwrap());
        }
        let run_text = "id: 2\ndata: 2\n\ndata: 3\n\n";
        assert_eq!(sent, [": open\n\n", "data: 1\n\n", run_text, run_text, "data: 4\n\n"]);
        assert!([2, 3].iter().all(|&at| sent[at].as_ptr() == run.as_ptr()));
    }

    #[tokio::test]
    async fn a_drain_ends_an_endless_stream() {
        let draining = CancellationToken::new();
        let endless = response(stream::pending::<Event>().boxed(), &draining);
        draining.cancel();
        assert_eq!(text(endless).await, ": open\n\n: draining, reconnect\n\n");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_filled_with_comments() {
        let response = response(stream::pending::<Event>().boxed(), &CancellationToken::new());
        let mut body = response.into_body();
        body.frame().await.unwrap().unwrap();
        for _ in 0..3 {
            let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(frame, ": keep-alive\n\n");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_begins_with_the_last_event() {
        let late = async {
            sleep(KEEP_ALIVE / 3 * 2).await;
            Event::new("late")
        };
        let events = stream::once(late).chain(stream::pending());
        let mut body = response(events, &CancellationToken::new()).into_body();
        let begin = Instant::now();
        let mut sent = Vec::new();
        for _ in 0..4 {
            let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
            sent.push((frame, begin.elapsed().as_secs()));
        }
        let expected = [
            (": open\n\n", 0),
            ("data: late\n\n", 10),
            (": keep-alive\n\n", 25),
            (": keep-alive\n\n", 40),
        ];
        assert_eq!(sent, expected.map(|(text, second)| (text.into(), second)));
    }
}
