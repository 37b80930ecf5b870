//! Messages as answers show them.

use std::collections::BTreeMap;

use api::broker::{DeadLetter, Delivery, Message, PeekedMessage};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use messaging::frame::{DeadLetterNote, Envelope, Record};
use messaging::ids::Millis;
use serde_json::value::{RawValue, to_raw_value};
use time::OffsetDateTime;

use super::incoming::is_json;
use crate::pull::Delivered;
use crate::read::ReadMessage;
use crate::receive::Job;
use crate::redrive::Peeked;

/// A time as the API writes it: RFC 3339 in UTC, to the millisecond.
pub(crate) fn rfc3339(ms: Millis) -> String {
    // Years beyond 9999 have no RFC 3339; a clock that far off shows the last moment there is.
    const LAST: i128 = 253_402_300_799_999;
    let nanos = i128::from(ms).min(LAST) * 1_000_000;
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second, milli) = at.to_hms_milli();
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// A message of a topic.
pub(super) fn message(read: ReadMessage) -> Message {
    let ReadMessage { partition, message } = read;
    let Envelope { key, content_type, attributes, .. } = message.record.envelope;
    let (data, data_base64) = data(&content_type, &message.record.body);
    Message {
        partition,
        offset: message.offset,
        key,
        data,
        data_base64,
        content_type,
        attributes: attributes.into_iter().collect(),
        published_at: rfc3339(message.at_ms),
    }
}

/// The same as JSON.
pub(crate) fn text(read: ReadMessage) -> String {
    serde_json::to_string(&message(read)).expect("a message is strings and numbers")
}

/// A message of a subscription.
pub(super) fn delivered(delivered: Delivered) -> Delivery {
    let Delivered { ack_id, partition, taken, at_ms, record } = delivered;
    let parts = Parts::from(record);
    Delivery {
        id: format!("{partition}:{}", taken.id),
        ack_id: ack_id.to_string(),
        delivery: taken.delivery,
        offset: Some(taken.id),
        partition: Some(partition),
        key: parts.key,
        group: None,
        priority: None,
        data: parts.data,
        data_base64: parts.data_base64,
        content_type: parts.content_type,
        attributes: parts.attributes,
        published_at: rfc3339(at_ms),
        ack_deadline: rfc3339(taken.until),
        dead_letter: parts.dead_letter,
    }
}

/// A message of a queue.
pub(super) fn job(job: Job) -> Delivery {
    let Job { ack_id, receipt, record } = job;
    let parts = Parts::from(record);
    Delivery {
        id: receipt.taken.id.to_string(),
        ack_id: ack_id.to_string(),
        delivery: receipt.taken.delivery,
        offset: None,
        partition: None,
        key: None,
        group: parts.key,
        priority: Some(receipt.stored.priority),
        data: parts.data,
        data_base64: parts.data_base64,
        content_type: parts.content_type,
        attributes: parts.attributes,
        published_at: rfc3339(receipt.stored.sent_ms),
        ack_deadline: rfc3339(receipt.taken.until),
        dead_letter: parts.dead_letter,
    }
}

/// A message of a queue that nobody takes.
pub(super) fn peeked(peeked: Peeked) -> PeekedMessage {
    let Peeked { id, deliveries, stored, record } = peeked;
    let parts = Parts::from(record);
    PeekedMessage {
        id: id.0.to_string(),
        deliveries,
        priority: stored.priority,
        group: parts.key,
        data: parts.data,
        data_base64: parts.data_base64,
        content_type: parts.content_type,
        attributes: parts.attributes,
        published_at: rfc3339(stored.sent_ms),
        dead_letter: parts.dead_letter,
    }
}

struct Parts {
    key: Option<String>,
    data: Option<Box<RawValue>>,
    data_base64: Option<String>,
    content_type: String,
    attributes: BTreeMap<String, String>,
    dead_letter: Option<DeadLetter>,
}

impl From<Record> for Parts {
    fn from(record: Record) -> Self {
        let Envelope { key, content_type, attributes, dead_letter } = record.envelope;
        let (data, data_base64) = data(&content_type, &record.body);
        let attributes = attributes.into_iter().collect();
        let dead_letter = dead_letter.map(|note| shown(*note));
        Self { key, data, data_base64, content_type, attributes, dead_letter }
    }
}

fn shown(note: DeadLetterNote) -> DeadLetter {
    let DeadLetterNote { source, source_id, reason, failure, deliveries, moved_ms, history } = note;
    let moved_at = rfc3339(moved_ms);
    DeadLetter { source, source_id, reason, failure, deliveries, moved_at, history }
}

/// A payload as it was: JSON as JSON, other text as a string, the rest in base64.
fn data(content_type: &str, body: &[u8]) -> (Option<Box<RawValue>>, Option<String>) {
    let Ok(text) = std::str::from_utf8(body) else { return (None, Some(BASE64.encode(body))) };
    let json = || RawValue::from_string(text.to_owned()).ok();
    let data = is_json(content_type).then(json).flatten();
    (data.or_else(|| to_raw_value(text).ok()), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(content_type: &str, body: &[u8], json: Option<&str>, base64: Option<&str>) {
        let (data, data_base64) = data(content_type, body);
        assert_eq!(data.as_ref().map(|data| data.get()), json);
        assert_eq!(data_base64.as_deref(), base64);
    }

    #[test]
    fn data_is_the_payload_as_it_was() {
        let exact = r#"{"a": 1.0,  "b": "\u00e9"}"#;
        check("application/json", exact.as_bytes(), Some(exact), None);
        check("application/cloudevents+json; v=1", b"[1]", Some("[1]"), None);
        check("application/json", b"{broken", Some("\"{broken\""), None);
        check("text/plain", b"{\"a\":1}", Some(r#""{\"a\":1}""#), None);
        check("application/json", &[0xff, 0x00], None, Some("/wA="));
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_767_225_599_987), "2025-12-31T23:59:59.987Z");
        assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59.999Z");
    }
}
