//! Messages as requests bring them: a raw body with headers, or a batch of JSON lines.

use api::broker::{PublishLine, ReplyRequest, SendLine};
use api::headers;
use api::problem::Code;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use chassis::problem::Problem;
use http::{HeaderMap, header};
use messaging::partition::{MAX_PRODUCER_NUMBER, Producer};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::events::{self, Mode};
use super::settings::MAX_AHEAD_MS;
use crate::config::Limits;
use crate::event;
use crate::message::NewMessage;
use crate::send::NewJob;

/// Longest key, group, dedup id, idempotency key or content type, in bytes.
const MAX_TEXT_BYTES: usize = 256;
/// Most attributes of one message.
const MAX_ATTRIBUTES: usize = 64;
/// Most bytes of the attributes of one message, names and values.
const MAX_ATTRIBUTE_BYTES: usize = 16 * 1024;

const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";

/// The messages of a publish.
pub(super) fn messages(
    request: &HeaderMap,
    body: Bytes,
    limits: &Limits,
) -> Result<Vec<NewMessage>, Problem> {
    let defaults = defaults(request, headers::KEY)?;
    match events::mode(&defaults.content_type)? {
        Mode::Binary => (),
        Mode::Structured => {
            return Ok(vec![checked(events::structured(&body, &defaults)?, limits)?]);
        }
        Mode::Batch => {
            let events = events::batch(&body, &defaults, limits.max_batch_messages)?;
            return events.into_iter().map(|event| checked(event, limits)).collect();
        }
    }
    if !is_batch(request) {
        events::check_headers(&defaults.attributes)?;
        let message = NewMessage { body: not_empty(body)?, ..defaults };
        return Ok(vec![checked(message, limits)?]);
    }
    lines(&body, limits, |line: PublishLine| {
        let (body, content_type) = payload(line.data, line.data_base64, line.content_type)?;
        let key = line.key.or_else(|| defaults.key.clone());
        let attributes = merged(&defaults.attributes, line.attributes);
        checked(NewMessage { key, content_type, attributes, body }, limits)
    })
}

/// The messages of a send.
pub(super) fn jobs(
    request: &HeaderMap,
    body: Bytes,
    limits: &Limits,
) -> Result<Vec<NewJob>, Problem> {
    let message = defaults(request, headers::GROUP)?;
    let defaults = NewJob {
        message,
        priority: number(request, headers::PRIORITY)?.unwrap_or(0),
        delay_ms: number(request, headers::DELAY_MS)?,
        ttl_ms: number(request, headers::TTL_MS)?,
        dedup_id: text(request, headers::DEDUP_ID)?,
        correlation_id: text(request, headers::CORRELATION_ID)?,
    };
    if !is_batch(request) {
        let message = NewMessage { body: not_empty(body)?, ..defaults.message };
        return Ok(vec![checked_job(NewJob { message, ..defaults }, limits)?]);
    }
    lines(&body, limits, |line: SendLine| {
        let (body, content_type) = payload(line.data, line.data_base64, line.content_type)?;
        let key = line.group.or_else(|| defaults.message.key.clone());
        let attributes = merged(&defaults.message.attributes, line.attributes);
        let job = NewJob {
            message: NewMessage { key, content_type, attributes, body },
            priority: line.priority.unwrap_or(defaults.priority),
            delay_ms: line.delay_ms.or(defaults.delay_ms),
            ttl_ms: line.ttl_ms.or(defaults.ttl_ms),
            dedup_id: line.dedup_id.or_else(|| defaults.dedup_id.clone()),
            correlation_id: line.correlation_id.or_else(|| defaults.correlation_id.clone()),
        };
        checked_job(job, limits)
    })
}

/// The only message of a request.
pub(super) fn job(request: &HeaderMap, body: Bytes, limits: &Limits) -> Result<NewJob, Problem> {
    if is_batch(request) {
        return Err(invalid("a request is one message: its body, with its own content-type"));
    }
    let job = jobs(request, body, limits)?.pop();
    job.ok_or_else(|| invalid("the body is the message"))
}

/// An answer to a message.
pub(super) fn reply(reply: ReplyRequest, limits: &Limits) -> Result<NewMessage, Problem> {
    let ReplyRequest { data, data_base64, content_type, attributes, .. } = reply;
    let (body, content_type) = payload(data, data_base64, content_type)?;
    let attributes = attributes.into_iter().collect();
    checked(NewMessage { key: None, content_type, attributes, body }, limits)
}

/// The key under which a repeat answers the first result.
pub(super) fn idempotency_key(request: &HeaderMap) -> Result<Option<String>, Problem> {
    text(request, headers::IDEMPOTENCY_KEY)
}

/// Who numbers this publish, if somebody does.
pub(super) fn producer(request: &HeaderMap) -> Result<Option<Producer>, Problem> {
    let id = text(request, headers::PRODUCER_ID)?;
    let epoch: Option<u64> = number(request, headers::PRODUCER_EPOCH)?;
    let seq = number(request, headers::PRODUCER_SEQ)?;
    let (id, epoch, seq) = match (id, epoch, seq) {
        (None, None, None) => return Ok(None),
        (Some(id), Some(epoch), Some(seq)) if !id.is_empty() => (id, epoch, seq),
        _ => {
            let (id, epoch) = (headers::PRODUCER_ID, headers::PRODUCER_EPOCH);
            let seq = headers::PRODUCER_SEQ;
            return Err(invalid(format!("send all of {id}, {epoch} and {seq}, or none of them")));
        }
    };
    if MAX_PRODUCER_NUMBER < epoch.max(seq) {
        return Err(invalid(format!("epochs and sequences end at {MAX_PRODUCER_NUMBER}")));
    }
    if request.contains_key(headers::IDEMPOTENCY_KEY) {
        let (key, id) = (headers::IDEMPOTENCY_KEY, headers::PRODUCER_ID);
        return Err(invalid(format!("{key} and {id} both tell repeats; send one of them")));
    }
    Ok(Some(Producer { id, epoch, seq }))
}

/// The publisher's `tracestate`, if it can be kept.
pub(super) fn tracestate(request: &HeaderMap) -> Option<String> {
    let state = request.get(headers::TRACESTATE)?.to_str().ok()?;
    (state.len() <= 512).then(|| state.to_owned())
}

/// What headers say of a message, or of every line that does not say it itself.
fn defaults(request: &HeaderMap, key: &str) -> Result<NewMessage, Problem> {
    let content_type = text(request, header::CONTENT_TYPE.as_str())?;
    Ok(NewMessage {
        key: text(request, key)?,
        content_type: content_type.unwrap_or_else(|| BYTES.to_owned()),
        attributes: attributes(request)?,
        body: Bytes::new(),
    })
}

fn attributes(request: &HeaderMap) -> Result<Vec<(String, String)>, Problem> {
    let mut attributes: Vec<(String, String)> = Vec::new();
    for (name, value) in request {
        let stored = match name.as_str().strip_prefix(headers::ATTRIBUTE_PREFIX) {
            Some(name) => name,
            None if name.as_str().starts_with(headers::CLOUD_EVENT_PREFIX) => name.as_str(),
            None => continue,
        };
        let Ok(mut value) = std::str::from_utf8(value.as_bytes()).map(str::to_owned) else {
            return Err(invalid(format!("the header {name} is not UTF-8")));
        };
        if stored.starts_with(headers::CLOUD_EVENT_PREFIX) {
            value = event::decode(&value)
                .ok_or_else(|| invalid(format!("the header {name} encodes no UTF-8")))?;
        }
        if attributes.iter().any(|(name, _)| name == stored) {
            return Err(invalid(format!("the header {name} is there twice; send it once")));
        }
        attributes.push((stored.to_owned(), value));
    }
    Ok(attributes)
}

/// A line's own attributes win over those of the request.
fn merged(
    defaults: &[(String, String)],
    own: std::collections::BTreeMap<String, String>,
) -> Vec<(String, String)> {
    let rest = defaults.iter().filter(|(name, _)| !own.contains_key(name)).cloned();
    let mut merged: Vec<_> = rest.collect();
    merged.extend(own);
    merged
}

/// The body of one line and what it is.
fn payload(
    data: Option<Box<RawValue>>,
    data_base64: Option<String>,
    content_type: Option<String>,
) -> Result<(Bytes, String), Problem> {
    match (data, data_base64) {
        (Some(data), None) => {
            let content_type = content_type.unwrap_or_else(|| JSON.to_owned());
            if is_json(&content_type) {
                return Ok((Bytes::from(String::from(Box::<str>::from(data))), content_type));
            }
            let Ok(text) = serde_json::from_str::<String>(data.get()) else {
                let detail = "`data` must be a string when `content_type` is not JSON";
                return Err(invalid(detail));
            };
            Ok((Bytes::from(text), content_type))
        }
        (None, Some(text)) => match BASE64.decode(&text) {
            Ok(bytes) => Ok((Bytes::from(bytes), content_type.unwrap_or_else(|| BYTES.to_owned()))),
            Err(_) => Err(invalid("`data_base64` is not standard base64 with padding")),
        },
        _ => Err(invalid("give exactly one of `data` and `data_base64`")),
    }
}

/// Every line decoded; an error names its line. Blank lines are passed over.
fn lines<L: DeserializeOwned, T>(
    body: &Bytes,
    limits: &Limits,
    mut take: impl FnMut(L) -> Result<T, Problem>,
) -> Result<Vec<T>, Problem> {
    let mut taken = Vec::new();
    for (number, line) in (1..).zip(body.split(|byte| *byte == b'\n')) {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if limits.max_batch_messages <= taken.len() {
            let max = limits.max_batch_messages;
            let detail = format!("a batch holds at most {max} messages; split it");
            return Err(Problem::new(Code::TooLarge, detail).with("max_messages", max));
        }
        let decoded = serde_json::from_slice(line).map_err(|error| {
            let cause: String = error.to_string().chars().take(200).collect();
            Problem::new(Code::InvalidJson, cause)
        });
        let message = decoded.and_then(&mut take).map_err(|problem| at_line(&problem, number))?;
        taken.push(message);
    }
    if taken.is_empty() {
        return Err(invalid("the batch is empty; send one JSON document a line"));
    }
    Ok(taken)
}

fn at_line(problem: &Problem, number: u64) -> Problem {
    let detail = format!("line {number}: {}; nothing was stored", problem.details().detail);
    Problem::new(problem.code(), detail).with("line", number)
}

fn checked(message: NewMessage, limits: &Limits) -> Result<NewMessage, Problem> {
    let (len, max) = (message.body.len() as u64, limits.max_message_bytes);
    if max < len {
        let detail = format!("the message is {len} bytes, the limit is {max}; send it in parts");
        return Err(Problem::new(Code::TooLarge, detail).with("max_bytes", max));
    }
    short("the key or group", message.key.as_deref())?;
    short("the content type", Some(&message.content_type))?;
    let count = message.attributes.len();
    if MAX_ATTRIBUTES < count {
        return Err(invalid(format!("{count} attributes, the limit is {MAX_ATTRIBUTES}")));
    }
    let bytes: usize =
        message.attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
    if MAX_ATTRIBUTE_BYTES < bytes {
        let detail = format!("{bytes} bytes of attributes, the limit is {MAX_ATTRIBUTE_BYTES}");
        return Err(invalid(detail));
    }
    if message.attributes.iter().any(|(name, _)| name.is_empty()) {
        return Err(invalid("an attribute needs a name"));
    }
    Ok(message)
}

fn checked_job(job: NewJob, limits: &Limits) -> Result<NewJob, Problem> {
    let message = checked(job.message, limits)?;
    short("the dedup id", job.dedup_id.as_deref())?;
    short("the correlation id", job.correlation_id.as_deref())?;
    if job.correlation_id.as_deref() == Some("") {
        return Err(invalid("the correlation id is empty; leave it out instead"));
    }
    if job.dedup_id.as_deref() == Some("") {
        return Err(invalid("the dedup id is empty; leave it out instead"));
    }
    for (name, ms) in [("delay_ms", job.delay_ms), ("ttl_ms", job.ttl_ms)] {
        if ms.is_some_and(|ms| MAX_AHEAD_MS < ms) {
            return Err(invalid(format!("{name} is at most {MAX_AHEAD_MS}, 365 days")));
        }
    }
    if job.ttl_ms == Some(0) {
        return Err(invalid("ttl_ms must be at least 1: a message of no life is not delivered"));
    }
    Ok(NewJob { message, ..job })
}

fn not_empty(body: Bytes) -> Result<Bytes, Problem> {
    if body.is_empty() {
        return Err(invalid("the body is the message, and it is empty; send at least one byte"));
    }
    Ok(body)
}

fn short(what: impl std::fmt::Display, text: Option<&str>) -> Result<(), Problem> {
    match text.map(str::len) {
        Some(len) if MAX_TEXT_BYTES < len => {
            Err(invalid(format!("{what} is {len} bytes, the limit is {MAX_TEXT_BYTES}")))
        }
        _ => Ok(()),
    }
}

fn text(request: &HeaderMap, name: &str) -> Result<Option<String>, Problem> {
    let Some(value) = request.get(name) else { return Ok(None) };
    let Ok(text) = std::str::from_utf8(value.as_bytes()) else {
        return Err(invalid(format!("the header {name} is not UTF-8")));
    };
    if text.is_empty() {
        return Err(invalid(format!("the header {name} is empty; leave it out instead")));
    }
    short(format_args!("the header {name}"), Some(text))?;
    Ok(Some(text.to_owned()))
}

fn number<N: std::str::FromStr>(request: &HeaderMap, name: &str) -> Result<Option<N>, Problem> {
    let Some(text) = text(request, name)? else { return Ok(None) };
    let number = text
        .trim()
        .parse()
        .map_err(|_| invalid(format!("the header {name} must be a whole number, not `{text}`")));
    number.map(Some)
}

fn is_batch(request: &HeaderMap) -> bool {
    let essence = request
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(|text| text.split(';').next().unwrap_or_default().trim());
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case(headers::NDJSON))
}

/// Whether a content type says that its payload is JSON.
pub(crate) fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let lower = essence.to_ascii_lowercase();
    lower == JSON || lower == "text/json" || lower.ends_with("+json")
}

fn invalid(detail: impl std::fmt::Display) -> Problem {
    Problem::new(Code::InvalidRequest, detail)
}
