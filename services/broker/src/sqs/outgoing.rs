//! A message that is sent: checked, and turned into one of ours.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::error::{Code, Fault};
use super::md5;
use super::message::{self, MessageAttribute, PREFIX, Value, Wire};
use super::settings::Settings;
use super::system::System;
use super::text::{check_body, check_token};
use crate::message::NewMessage;
use crate::send::NewJob;

/// Longest delay, in seconds.
const MAX_DELAY: u64 = 900;
/// The priority of a message, 0 to the queue's `MaxPriority`: an extension.
const PRIORITY: &str = "Quartet-Priority";
/// Seconds after which a message expires: an extension.
const TTL: &str = "Quartet-TTL";
/// Longest time to live: 365 days.
const MAX_TTL_S: u64 = 365 * 86_400;
/// What bodies are.
const TEXT: &str = "text/plain; charset=utf-8";

/// What a client sends: the whole request, or an entry of a batch.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Entry {
    pub(crate) id: Option<String>,
    message_body: Option<String>,
    delay_seconds: Option<u64>,
    message_attributes: Option<BTreeMap<String, Wire>>,
    message_system_attributes: Option<BTreeMap<String, Wire>>,
    message_deduplication_id: Option<String>,
    message_group_id: Option<String>,
}

/// A message to be sent, and what its answer says of it.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) job: NewJob,
    pub(crate) body_md5: String,
    pub(crate) attributes_md5: Option<String>,
    pub(crate) system_md5: Option<String>,
    /// Body and attributes, in bytes.
    pub(crate) size: u64,
}

/// Checks a message for a queue.
pub(crate) fn prepare(entry: Entry, queue: &Settings) -> Result<Prepared, Fault> {
    let body = entry.message_body.ok_or_else(|| Fault::missing("MessageBody"))?;
    check_body(&body)?;
    let attributes = message::read_all(entry.message_attributes.unwrap_or_default())?;
    let system = system_attributes(entry.message_system_attributes.unwrap_or_default())?;
    let of_attributes: usize =
        attributes.iter().map(|(name, attribute)| name.len() + attribute.len()).sum();
    let size = (body.len() + of_attributes) as u64;
    let max = queue.max_message_bytes();
    if max < size {
        let message = format!(
            "One or more parameters are invalid. Reason: Message must be shorter than {max} bytes."
        );
        return Err(Fault::new(Code::InvalidParameterValue, message));
    }
    let mut kept: Vec<(String, String)> = attributes
        .iter()
        .map(|(name, attribute)| (format!("{PREFIX}{name}"), attribute.stored()))
        .collect();
    let trace = system.get("AWSTraceHeader").and_then(text_of);
    kept.extend(trace.map(|trace| (System::TRACE.to_owned(), trace.to_owned())));
    let parent = attributes.get(api::headers::TRACEPARENT).and_then(text_of).map(str::to_owned);
    let parent = parent.or_else(|| trace.and_then(traceparent));
    kept.extend(parent.map(|parent| (api::headers::TRACEPARENT.to_owned(), parent)));
    let ids = Ids { group: entry.message_group_id, dedup: entry.message_deduplication_id };
    let (group, dedup_id) = ids.check(&body, queue, &mut kept)?;
    let delay_ms = delay_ms(entry.delay_seconds, queue)?;
    let priority = extension(&attributes, PRIORITY, u64::from(queue.config.max_priority))?;
    let ttl = extension(&attributes, TTL, MAX_TTL_S)?;
    Ok(Prepared {
        body_md5: md5::of_body(&body),
        attributes_md5: digest(&attributes),
        system_md5: digest(&system),
        size,
        job: NewJob {
            message: NewMessage {
                key: group,
                content_type: TEXT.to_owned(),
                attributes: kept,
                body: Bytes::from(body),
            },
            priority: priority.map_or(0, |priority| u8::try_from(priority).unwrap_or(u8::MAX)),
            delay_ms,
            ttl_ms: ttl.map(|seconds| seconds.saturating_mul(1_000)),
            dedup_id,
            correlation_id: None,
        },
    })
}

fn digest(attributes: &BTreeMap<String, MessageAttribute>) -> Option<String> {
    md5::of_attributes(attributes.iter().map(|(name, attribute)| (name.as_str(), attribute)))
}

fn text_of(attribute: &MessageAttribute) -> Option<&str> {
    match &attribute.value {
        Value::Text(text) => Some(text),
        Value::Binary(_) => None,
    }
}

fn system_attributes(
    wire: BTreeMap<String, Wire>,
) -> Result<BTreeMap<String, MessageAttribute>, Fault> {
    let read = |(name, wire): (String, Wire)| {
        if name != "AWSTraceHeader" {
            let reason = "The only system attribute that can be sent is AWSTraceHeader.";
            return Err(Fault::value("MessageSystemAttributes", name, reason));
        }
        let attribute = MessageAttribute::read(&name, wire)?;
        if attribute.data_type != "String" {
            let reason = "AWSTraceHeader is of type String.";
            return Err(Fault::value("MessageSystemAttributes", name, reason));
        }
        Ok((name, attribute))
    };
    wire.into_iter().map(read).collect()
}

/// The context of an AWS trace header, as W3C writes it.
fn traceparent(header: &str) -> Option<String> {
    let part = |name: &str| {
        header.split(';').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
    };
    let is_hex = |text: &str, len| text.len() == len && text.bytes().all(|c| c.is_ascii_hexdigit());
    let trace = part("Root")?.strip_prefix("1-")?.replace('-', "");
    let parent = part("Parent")?;
    let sampled = u8::from(part("Sampled") == Some("1"));
    let is_whole = is_hex(&trace, 32) && is_hex(parent, 16);
    is_whole.then(|| format!("00-{trace}-{parent}-0{sampled}").to_ascii_lowercase())
}

/// How long a message waits, where it says so itself.
fn delay_ms(asked: Option<u64>, queue: &Settings) -> Result<Option<u64>, Fault> {
    match asked {
        None => Ok(None),
        Some(0) if queue.config.fifo => Ok(None),
        Some(seconds) if queue.config.fifo => {
            let reason = "The request include parameter that is not valid for this queue type.";
            Err(Fault::value("DelaySeconds", seconds, reason))
        }
        Some(seconds) if seconds <= MAX_DELAY => Ok(Some(seconds * 1_000)),
        Some(seconds) => {
            Err(Fault::value("DelaySeconds", seconds, "DelaySeconds must be >= 0 and <= 900"))
        }
    }
}

/// The value of an attribute that the broker understands.
fn extension(
    attributes: &BTreeMap<String, MessageAttribute>,
    name: &str,
    max: u64,
) -> Result<Option<u64>, Fault> {
    let Some(attribute) = attributes.get(name) else { return Ok(None) };
    let number = text_of(attribute).and_then(|text| text.parse().ok());
    match number.filter(|number| *number <= max) {
        Some(number) => Ok(Some(number)),
        None => {
            let reason = format!("{name} is a whole number from 0 to {max}.");
            Err(Fault::value(name, text_of(attribute).unwrap_or("(binary)"), &reason))
        }
    }
}

/// What orders and what deduplicates a message, as it was sent.
struct Ids {
    group: Option<String>,
    dedup: Option<String>,
}

impl Ids {
    /// Group and dedup id as the engine takes them. What it would not give back is kept.
    fn check(
        self,
        body: &str,
        queue: &Settings,
        kept: &mut Vec<(String, String)>,
    ) -> Result<(Option<String>, Option<String>), Fault> {
        if let Some(group) = &self.group {
            check_token("MessageGroupId", group)?;
        }
        if let Some(dedup) = &self.dedup {
            check_token("MessageDeduplicationId", dedup)?;
        }
        if !queue.config.fifo {
            if let Some(dedup) = self.dedup {
                let reason =
                    "The request includes a parameter that is not valid for this queue type.";
                return Err(Fault::value("MessageDeduplicationId", dedup, reason));
            }
            kept.extend(self.group.map(|group| (System::GROUP.to_owned(), group)));
            return Ok((None, None));
        }
        let group = self.group.ok_or_else(|| Fault::missing("MessageGroupId"))?;
        let dedup = match self.dedup {
            Some(dedup) => dedup,
            None if queue.deduplicates_content() => {
                let digest = Sha256::digest(body.as_bytes());
                digest.iter().map(|byte| format!("{byte:02x}")).collect()
            }
            None => {
                let message = "The queue should either have ContentBasedDeduplication enabled or \
                               MessageDeduplicationId provided explicitly";
                return Err(Fault::new(Code::InvalidParameterValue, message));
            }
        };
        kept.push((System::DEDUP_ID.to_owned(), dedup.clone()));
        let scoped = if queue.deduplicates_by_group() { format!("{group} {dedup}") } else { dedup };
        Ok((Some(group), Some(scoped)))
    }
}

#[cfg(test)]
mod tests {
    use messaging::config::QueueConfig;
    use serde_json::json;

    use super::*;
    use crate::sqs::Home;
    use crate::sqs::notes::Notes;

    fn queue(fifo: bool, attributes: &[(&str, &str)]) -> Settings {
        let config = QueueConfig { fifo, ..QueueConfig::default() };
        let mut settings = Settings { config, notes: Notes::default() };
        let text = str::to_owned;
        let home = Home { base: text("b"), account: text("a"), region: text("r") };
        let attributes = attributes.iter().map(|(name, value)| (text(name), text(value))).collect();
        settings.set_all(&attributes, &home).unwrap();
        settings
    }

    fn send(queue: &Settings, message: serde_json::Value) -> Result<Prepared, Fault> {
        prepare(serde_json::from_value(message).unwrap(), queue)
    }

    fn code(queue: &Settings, message: serde_json::Value) -> Code {
        send(queue, message).unwrap_err().code
    }

    #[test]
    fn what_the_engine_understands_is_taken_from_the_message() {
        let standard = queue(false, &[]);
        let prepared = send(
            &standard,
            json!({
                "MessageBody": "b",
                "DelaySeconds": 5,
                "MessageGroupId": "tenant",
                "MessageAttributes": {
                    "Quartet-Priority": { "DataType": "Number", "StringValue": "7" },
                    "Quartet-TTL": { "DataType": "Number", "StringValue": "60" },
                },
            }),
        )
        .unwrap();
        let NewJob { message, priority, delay_ms, ttl_ms, dedup_id, .. } = prepared.job;
        assert_eq!((priority, delay_ms, ttl_ms, dedup_id), (7, Some(5_000), Some(60_000), None));
        assert_eq!(message.key, None, "a tenant blocks nothing");
        assert!(message.attributes.contains(&(System::GROUP.to_owned(), "tenant".to_owned())));
        assert_eq!(prepared.body_md5, "92eb5ffee6ae2fec3ad71c777531578f");
    }

    #[test]
    fn a_fifo_queue_wants_group_and_dedup_id() {
        let fifo = queue(true, &[]);
        assert_eq!(code(&fifo, json!({ "MessageBody": "b" })), Code::MissingParameter);
        let grouped = json!({ "MessageBody": "b", "MessageGroupId": "g" });
        assert_eq!(code(&fifo, grouped.clone()), Code::InvalidParameterValue);
        let content = queue(true, &[("ContentBasedDeduplication", "true")]);
        let job = send(&content, grouped.clone()).unwrap().job;
        let sha = "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d";
        assert_eq!((job.message.key.as_deref(), job.dedup_id.as_deref()), (Some("g"), Some(sha)));
        let scoped =
            [("ContentBasedDeduplication", "true"), ("DeduplicationScope", "messageGroup")];
        let job = send(&queue(true, &scoped), grouped).unwrap().job;
        assert_eq!(job.dedup_id, Some(format!("g {sha}")));
        let late = json!({ "MessageBody": "b", "MessageGroupId": "g", "MessageDeduplicationId": "d",
            "DelaySeconds": 3 });
        assert_eq!(code(&fifo, late), Code::InvalidParameterValue);
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let standard = queue(false, &[("MaximumMessageSize", "1024")]);
        assert_eq!(code(&standard, json!({})), Code::MissingParameter);
        assert_eq!(
            code(&standard, json!({ "MessageBody": "\u{1}" })),
            Code::InvalidMessageContents
        );
        for bad in [
            json!({ "MessageBody": "b", "DelaySeconds": 901 }),
            json!({ "MessageBody": "b", "MessageDeduplicationId": "d" }),
            json!({ "MessageBody": "b", "MessageGroupId": "a b" }),
            json!({ "MessageBody": "x".repeat(1_025) }),
            json!({ "MessageBody": "x".repeat(1_010), "MessageAttributes": {
                "name": { "DataType": "String", "StringValue": "value" } } }),
            json!({ "MessageBody": "b", "MessageAttributes": {
                "Quartet-Priority": { "DataType": "Number", "StringValue": "10" } } }),
            json!({ "MessageBody": "b", "MessageSystemAttributes": {
                "SenderId": { "DataType": "String", "StringValue": "me" } } }),
        ] {
            assert_eq!(code(&standard, bad.clone()), Code::InvalidParameterValue, "{bad}");
        }
    }

    #[test]
    fn a_trace_of_aws_goes_on_in_ours() {
        let header = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
        let expected = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01";
        assert_eq!(traceparent(header).as_deref(), Some(expected));
        assert_eq!(traceparent("Root=1-5759e988-bd862e3fe1be46a994272793"), None);
        assert_eq!(traceparent("nonsense"), None);
    }
}
