//! `live=sse`: data events, each with a control event that says where to go on.

use std::time::Duration;

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use chassis::sse::{self, Piece};
use futures_util::stream;
use http::HeaderValue;
use http::header::CACHE_CONTROL;
use messaging::stream::StreamPath;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::failure::Failure;
use super::read::body;
use super::request::Wanted;
use super::{SSE_ENCODING, cursor};
use crate::broker::Broker;
use crate::streams::{Live, View, Waiting};

/// A connection is closed after so long: its client goes on where it was, perhaps elsewhere.
const LIFE: Duration = Duration::from_secs(60);

/// A stream of events on its way.
struct Telling {
    broker: Broker,
    reader: Live,
    cursor: Option<u64>,
    until: Instant,
    /// Nothing was said yet: where it is, is said at once.
    is_new: bool,
}

pub(super) async fn events(
    broker: &Broker,
    path: &StreamPath,
    wanted: &Wanted,
) -> Result<Response, Failure> {
    let reader = broker.live_stream(path, wanted.start).await?;
    let is_text = reader.view().config.is_text();
    let telling = Telling {
        broker: broker.clone(),
        reader,
        cursor: wanted.cursor,
        until: Instant::now() + LIFE,
        is_new: true,
    };
    let events = stream::unfold(Some(telling), |telling| async {
        let mut telling = telling?;
        let (text, is_last) = telling.next().await?;
        Some((Piece::Written(text), (!is_last).then_some(telling)))
    });
    let mut response = sse::response(events, broker.draining());
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if !is_text {
        headers.insert(SSE_ENCODING, HeaderValue::from_static("base64"));
    }
    Ok(response)
}

impl Telling {
    /// What is said next, and whether it is the last. Nothing: the connection ends.
    async fn next(&mut self) -> Option<(Bytes, bool)> {
        if !std::mem::take(&mut self.is_new) {
            let gone_on = match self.reader.read_on().await {
                Ok(()) => self.reader.wait(self.until).await,
                Err(error) => Err(error),
            };
            match gone_on {
                Ok(Waiting::Over) => {}
                Ok(Waiting::TimedOut) => return None,
                Err(error) => {
                    tracing::debug!(%error, "a live reader of a stream ends");
                    return None;
                }
            }
        }
        let view = self.reader.view();
        let cursor = cursor::next(self.broker.now_ms(), self.cursor);
        Some((told(view, cursor), view.is_end()))
    }
}

/// A part as events.
fn told(view: &View, cursor: u64) -> Bytes {
    let mut text = String::new();
    if !view.appends.is_empty() {
        let body = body(view);
        match view.config.is_text() {
            true => event(&mut text, "data", &String::from_utf8_lossy(&body)),
            false => event(&mut text, "data", &BASE64.encode(body)),
        }
    }
    let mut control = Map::new();
    control.insert("streamNextOffset".to_owned(), Value::from(view.next.to_string()));
    if view.is_end() {
        control.insert("streamClosed".to_owned(), Value::from(true));
    } else {
        control.insert("streamCursor".to_owned(), Value::from(cursor.to_string()));
    }
    if view.is_up_to_date() {
        control.insert("upToDate".to_owned(), Value::from(true));
    }
    event(&mut text, "control", &Value::Object(control).to_string());
    text.into()
}

/// Clients take off one space after the colon, so that a line that begins with one gets another.
/// Every line break of the data begins a line: what follows it must not be taken for a field.
fn event(text: &mut String, name: &str, data: &str) {
    text.push_str("event: ");
    text.push_str(name);
    text.push('\n');
    for line in data.replace("\r\n", "\n").split(['\n', '\r']) {
        text.push_str(if line.starts_with(' ') { "data: " } else { "data:" });
        text.push_str(line);
        text.push('\n');
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_cannot_pose_as_events() {
        let mut text = String::new();
        event(&mut text, "data", "a\r\nevent: control\rdata: x\n b\n");
        let lines = [
            "event: data",
            "data:a",
            "data:event: control",
            "data:data: x",
            "data:  b",
            "data:",
            "",
            "",
        ];
        assert_eq!(text, lines.join("\n"));
    }
}
