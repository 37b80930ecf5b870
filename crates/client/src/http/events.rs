//! Server-sent events, resumed where they broke.
//!
//! A stream of events ends when a server restarts or a connection breaks. [`Events`] then asks
//! again, with the id of the last event in `Last-Event-ID`, so that its reader sees each event
//! once. What cannot be resumed (a 4xx, such as 410 for a compacted past) ends it.

use std::time::Duration;

use api::headers;
use http::header::ACCEPT;
use resilience::retry::Backoff;
use resilience::system_random;

use super::lines::LineBuffer;
use super::{Call, Streaming};
use crate::Error;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Where to resume after it. Empty until the stream named one.
    pub id: String,
    /// `message` unless the stream named it.
    pub event: String,
    pub data: String,
}

/// Turns bytes into events, by the rules of the HTML standard.
#[derive(Debug, Default)]
pub struct EventParser {
    lines: LineBuffer,
    last_id: String,
    event: String,
    data: String,
    has_data: bool,
    retry: Option<Duration>,
    started: bool,
}

impl EventParser {
    /// Takes a piece of the body.
    pub fn push(&mut self, chunk: &[u8]) {
        self.lines.push(chunk);
    }

    /// The next complete event.
    ///
    /// # Errors
    ///
    /// When a line or an event is larger than can be meant.
    pub fn take(&mut self) -> Result<Option<Event>, Error> {
        while let Some(line) = self.lines.take_any()? {
            let line = String::from_utf8_lossy(&line);
            let line = if self.started { &*line } else { line.trim_start_matches('\u{feff}') };
            self.started = true;
            if line.is_empty() {
                if let Some(event) = self.finish() {
                    return Ok(Some(event));
                }
            } else {
                self.field(line)?;
            }
        }
        Ok(None)
    }

    fn field(&mut self, line: &str) -> Result<(), Error> {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => {
                if super::lines::LINE_BYTES_MAX < self.data.len() + value.len() {
                    return Err(Error::bad_answer("an event is larger than can be read"));
                }
                if self.has_data {
                    self.data.push('\n');
                }
                self.has_data = true;
                self.data.push_str(value);
            }
            "event" => value.clone_into(&mut self.event),
            "id" if !value.contains('\0') => value.clone_into(&mut self.last_id),
            "retry" => {
                self.retry = value.parse().ok().map(Duration::from_millis).or(self.retry);
            }
            // Comments have an empty name; they keep the connection alive.
            _ => (),
        }
        Ok(())
    }

    /// An empty line ends an event; one without data is none.
    fn finish(&mut self) -> Option<Event> {
        let (event, data) = (std::mem::take(&mut self.event), std::mem::take(&mut self.data));
        if !std::mem::take(&mut self.has_data) {
            return None;
        }
        let event = if event.is_empty() { "message".to_owned() } else { event };
        Some(Event { id: self.last_id.clone(), event, data })
    }
}

/// A live stream of events that survives broken connections.
#[derive(Debug)]
pub struct Events {
    call: Call,
    body: Option<Streaming>,
    parser: EventParser,
    last_id: Option<String>,
    failures: u32,
    give_up_after: u32,
    trace_id: Option<String>,
}

/// Waits between attempts to connect again.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(5) };

impl Events {
    /// Opens the stream that `call` asks for. Reconnects as often as it takes, unless
    /// [`Events::give_up_after`] says otherwise.
    ///
    /// # Errors
    ///
    /// When it cannot be opened at all.
    pub async fn open(call: Call) -> Result<Self, Error> {
        let has_accept = call.headers.contains_key(ACCEPT);
        let call = if has_accept { call } else { call.accept(headers::EVENT_STREAM) };
        let body = call.clone().stream().await?;
        let trace_id = body.trace_id().map(str::to_owned);
        Ok(Self {
            call,
            body: Some(body),
            parser: EventParser::default(),
            last_id: None,
            failures: 0,
            give_up_after: u32::MAX,
            trace_id,
        })
    }

    /// Ends the stream after so many failed attempts in a row to connect again.
    #[must_use]
    pub const fn give_up_after(mut self, attempts: u32) -> Self {
        self.give_up_after = attempts;
        self
    }

    /// The id of the last event, to resume there some other time.
    #[must_use]
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// The trace of the stream's first request.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        self.trace_id.as_deref()
    }

    /// The next event. Waits through broken connections.
    ///
    /// # Errors
    ///
    /// When the stream cannot be resumed. Asking on after that tries again.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.parser.take()? {
                self.failures = 0;
                if !event.id.is_empty() {
                    self.last_id = Some(event.id.clone());
                }
                return Ok(event);
            }
            let Some(body) = &mut self.body else {
                self.reconnect().await?;
                continue;
            };
            match body.chunk().await {
                Ok(Some(chunk)) => self.parser.push(&chunk),
                Ok(None) => self.body = None,
                Err(error) => {
                    tracing::debug!(%error, "event stream broke");
                    self.body = None;
                }
            }
        }
    }

    async fn reconnect(&mut self) -> Result<(), Error> {
        let asked = self.parser.retry.unwrap_or_default().min(BACKOFF.cap);
        tokio::time::sleep(asked + BACKOFF.delay(self.failures, system_random())).await;
        self.failures = self.failures.saturating_add(1);
        // Half an event that the old connection left behind is sent again in full.
        let retry = self.parser.retry;
        self.parser = EventParser {
            last_id: self.last_id.clone().unwrap_or_default(),
            retry,
            ..EventParser::default()
        };
        let mut call = self.call.clone();
        if let Some(last_id) = &self.last_id {
            call.headers.remove(headers::LAST_EVENT_ID);
            call = call.header(headers::LAST_EVENT_ID, last_id);
        }
        match call.stream().await {
            Ok(body) => {
                self.body = Some(body);
                Ok(())
            }
            Err(error) if error.is_transient() && self.failures < self.give_up_after => {
                tracing::debug!(%error, "event stream is not back yet");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(chunks: &[&[u8]]) -> Vec<Event> {
        let mut parser = EventParser::default();
        let mut events = Vec::new();
        for chunk in chunks {
            parser.push(chunk);
            while let Some(event) = parser.take().unwrap() {
                events.push(event);
            }
        }
        events
    }

    fn event(id: &str, event: &str, data: &str) -> Event {
        Event { id: id.into(), event: event.into(), data: data.into() }
    }

    #[test]
    fn events_are_found_wherever_the_chunks_end() {
        let text = "\u{feff}: hello\nid: 7\nevent: put\ndata: {\"a\":1}\n\n\
             data:two\r\ndata: lines\r\n\r\nretry: 50\n\nid\ndata\n\ndata: cut off\n"
            .as_bytes();
        let expected = [
            event("7", "put", "{\"a\":1}"),
            event("7", "message", "two\nlines"),
            event("", "message", ""),
        ];
        for cut in 0..text.len() {
            assert_eq!(parse(&[&text[..cut], &text[cut..]]), expected, "cut at {cut}");
        }
    }

    #[test]
    fn comments_and_unknown_fields_are_no_events() {
        assert_eq!(parse(&[b":\n\n: ping\n\nfoo: bar\n\nevent: x\n\n"]), []);
    }
}
