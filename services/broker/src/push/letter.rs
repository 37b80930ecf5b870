//! A message as a call of a webhook.

use bytes::Bytes;
use client::Url;
use client::webhook::Letter;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use messaging::catalog::{Push, PushFormat};
use messaging::frame::Envelope;
use telemetry::trace::{TraceContext, insert_traceparent};

use super::sign;
use crate::event::{self, Event};
use crate::pull::Delivered;

/// What a letter is about.
pub(super) struct Subject<'a> {
    pub(super) topic: &'a str,
    pub(super) subscription: &'a str,
    pub(super) message: &'a Delivered,
}

/// The name of a message at a webhook: the same however often it comes, whoever sends it, and
/// never that of another message, also when a topic is deleted and made again. It has no dots, as
/// they separate what is signed.
pub(super) fn id(message: &Delivered) -> String {
    format!("msg_{}_{}", message.ack_id.group, message.taken.id)
}

/// The call that brings this message.
pub(super) fn write(
    subject: &Subject<'_>,
    (url, push): (&Url, &Push),
    now_ms: u64,
    context: TraceContext,
) -> Letter {
    let (id, message) = (id(subject.message), subject.message);
    let mut headers = HeaderMap::new();
    let place = |headers: &mut HeaderMap| {
        put(headers, "x-topic", subject.topic);
        put(headers, "x-subscription", subject.subscription);
        put(headers, "x-partition", &message.partition.to_string());
        put(headers, "x-offset", &message.taken.id.to_string());
        put(headers, "x-delivery", &message.taken.delivery.to_string());
    };
    place(&mut headers);
    let envelope = &message.record.envelope;
    let mut body = message.record.body.clone();
    if let PushFormat::Raw = push.format {
        raw(&mut headers, envelope);
    } else {
        let event = Event::of(envelope, (subject.topic, &id, message.at_ms));
        if push.format == PushFormat::CloudeventsBinary {
            put(&mut headers, header::CONTENT_TYPE.as_str(), &envelope.content_type);
            for (name, value) in event.headers() {
                put(&mut headers, &name, &value);
            }
        } else {
            put(&mut headers, header::CONTENT_TYPE.as_str(), event::STRUCTURED);
            body = event.document(&envelope.content_type, &body);
        }
    }
    sign_and_seal((headers, body), (url, push), (&id, now_ms), context)
}

/// A made-up message, to see whether anybody is there.
pub(super) fn test((url, push): (&Url, &Push), now_ms: u64, context: TraceContext) -> Letter {
    let mut headers = HeaderMap::new();
    put(&mut headers, header::CONTENT_TYPE.as_str(), "application/json");
    let body = Bytes::from_static(br#"{"type":"quartet.test"}"#);
    let id = format!("msg_test_{now_ms}");
    sign_and_seal((headers, body), (url, push), (&id, now_ms), context)
}

fn sign_and_seal(
    (mut headers, body): (HeaderMap, Bytes),
    (url, push): (&Url, &Push),
    (id, now_ms): (&str, u64),
    context: TraceContext,
) -> Letter {
    let seconds = now_ms / 1_000;
    put(&mut headers, "webhook-id", id);
    put(&mut headers, "webhook-timestamp", &seconds.to_string());
    let signature = sign::signature(push.secrets(now_ms), (id, seconds), &body);
    put(&mut headers, "webhook-signature", &signature);
    insert_traceparent(&mut headers, context);
    let timeout = std::time::Duration::from_millis(push.timeout_ms);
    Letter { url: url.clone(), headers, body, timeout }
}

fn raw(headers: &mut HeaderMap, envelope: &Envelope) {
    put(headers, header::CONTENT_TYPE.as_str(), &envelope.content_type);
    if let Some(key) = &envelope.key {
        put(headers, api::headers::KEY, key);
    }
    for (name, value) in &envelope.attributes {
        match &**name {
            api::headers::TRACEPARENT | api::headers::TRACESTATE => (),
            name if name.starts_with(api::headers::CLOUD_EVENT_PREFIX) => {
                put(headers, name, &event::encode(value));
            }
            name => put(headers, &format!("{}{name}", api::headers::ATTRIBUTE_PREFIX), value),
        }
    }
}

/// What no header can carry stays behind.
fn put(headers: &mut HeaderMap, name: &str, value: &str) {
    let name = HeaderName::from_bytes(name.as_bytes());
    let value = HeaderValue::from_bytes(value.as_bytes());
    if let (Ok(name), Ok(value)) = (name, value) {
        headers.insert(name, value);
    }
}
