//! Receiving.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use messaging::ids::{MessageId, Millis, Name};
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Call, bounded, settings};
use crate::directory::QueueHandle;
use crate::receive::{Ask, Job};
use crate::settle::{Act, Outcome};
use crate::sqs::{
    Code, Fault, Handle, Remembered, System, SystemNames, Wanted, check_token, message_id,
    of_attributes, of_body, sequence_number,
};
use crate::wait::Patience;

/// Most messages, longest wait and longest visibility timeout of one receive.
const MAX_MESSAGES: u32 = 10;
const MAX_WAIT: u32 = 20;
const MAX_TIMEOUT: u32 = 43_200;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Request {
    queue_url: Option<String>,
    max_number_of_messages: Option<i64>,
    visibility_timeout: Option<i64>,
    wait_time_seconds: Option<i64>,
    message_attribute_names: Option<Vec<String>>,
    message_system_attribute_names: Option<Vec<String>>,
    attribute_names: Option<Vec<String>>,
    receive_request_attempt_id: Option<String>,
}

/// What is told of every message.
struct Telling<'a> {
    call: &'a Call,
    queue: &'a QueueHandle,
    wanted: Wanted,
    names: SystemNames,
    now: Millis,
}

pub(super) async fn receive(call: &Call, request: Request) -> Result<Value, Fault> {
    let queue = call.queue(request.queue_url.as_deref())?;
    let settings = settings(&queue);
    let max = bounded("MaxNumberOfMessages", request.max_number_of_messages, (1, MAX_MESSAGES), 1)?;
    let wait = u32::try_from(settings.wait_seconds()).unwrap_or(MAX_WAIT);
    let wait = bounded("WaitTimeSeconds", request.wait_time_seconds, (0, MAX_WAIT), wait)?;
    let timeout = request.visibility_timeout;
    let ack_timeout_ms = match timeout {
        None => settings.config.policy.ack_timeout_ms,
        Some(_) => u64::from(bounded("VisibilityTimeout", timeout, (0, MAX_TIMEOUT), 0)?) * 1_000,
    };
    let old = request.attribute_names.iter().flatten();
    let names =
        SystemNames::new(old.chain(request.message_system_attribute_names.iter().flatten()))?;
    let wanted = Wanted::new(request.message_attribute_names.unwrap_or_default());
    let attempt = attempt(&queue, request.receive_request_attempt_id)?;
    if let Some(again) = repeated(call, &queue, attempt.as_ref(), ack_timeout_ms).await? {
        return Ok((*again).clone());
    }
    let patience = Patience { wait: Duration::from_secs(wait.into()), deadline: call.deadline };
    let ask = Ask { max: max as usize, ack_timeout_ms: Some(ack_timeout_ms), patience };
    let jobs = call.broker.receive(&queue.name, ask).await?;
    if jobs.is_empty() {
        check_in_flight(call, &queue).await?;
        return Ok(json!({}));
    }
    let acks = jobs.iter().map(|job| job.ack_id).collect();
    let bytes = jobs.iter().map(|job| job.record.body.len() + 1_024).sum();
    let telling = Telling { call, queue: &queue, wanted, names, now: call.broker.now_ms() };
    let messages: Vec<_> = jobs.into_iter().map(|job| telling.tell(job)).collect();
    let answer = json!({ "Messages": messages });
    if let Some(attempt) = attempt {
        let answer = Arc::new(answer.clone());
        let remembered = Remembered { acks, answer, bytes };
        call.attempts(|attempts, now| attempts.put(now, attempt, remembered));
    }
    Ok(answer)
}

/// Nothing was received: because too much is held already? A FIFO queue just gives less.
async fn check_in_flight(call: &Call, queue: &Arc<QueueHandle>) -> Result<(), Fault> {
    let config = &queue.entry.config;
    let Some(max) = config.max_in_flight.filter(|_| !config.fifo) else { return Ok(()) };
    let stats = call.broker.queue_stats(queue).await?;
    let held: u64 = stats.depths.iter().map(|depth| depth.in_flight).sum();
    let ready: u64 = stats.depths.iter().map(|depth| depth.ready).sum();
    if ready == 0 || held < max {
        return Ok(());
    }
    let message =
        format!("{held} messages are in flight, as many as MaxInFlight allows: delete some.");
    Err(Fault::new(Code::OverLimit, message))
}

/// The id under which a receive may be repeated.
fn attempt(queue: &QueueHandle, id: Option<String>) -> Result<Option<(u64, String)>, Fault> {
    let Some(id) = id else { return Ok(None) };
    if !queue.entry.config.fifo {
        let reason = "The request include parameter that is not valid for this queue type.";
        return Err(Fault::value("ReceiveRequestAttemptId", id, reason));
    }
    check_token("ReceiveRequestAttemptId", &id)?;
    Ok(Some((queue.entry.group.0, id)))
}

/// The answer to the same attempt, if all of it is still held. Its visibility begins anew.
async fn repeated(
    call: &Call,
    queue: &QueueHandle,
    attempt: Option<&(u64, String)>,
    ack_timeout_ms: u64,
) -> Result<Option<Arc<Value>>, Fault> {
    let Some(attempt) = attempt else { return Ok(None) };
    let known = call.attempts(|attempts, now| attempts.get(now, attempt));
    let Some(Remembered { acks, answer, .. }) = known else { return Ok(None) };
    let ids: Vec<_> = acks.iter().map(|ack| Some(*ack)).collect();
    let act = Act::Extend { ack_timeout_ms: Some(ack_timeout_ms) };
    let outcomes = call.broker.settle_jobs(&queue.name, &ids, act).await?;
    Ok(outcomes.iter().all(|outcome| *outcome == Outcome::Ok).then_some(answer))
}

impl Telling<'_> {
    fn tell(&self, job: Job) -> Value {
        let Job { ack_id, receipt, record } = job;
        let handle = Handle { ack: ack_id, received_ms: self.now };
        let (group, id) = (self.queue.entry.group.0, MessageId(receipt.taken.id));
        let stored = &receipt.stored;
        // A dead letter is the message it was.
        let id_here = match &stored.source {
            Some(source) if source.subscription == 0 => {
                message_id(source.group, MessageId(source.message))
            }
            _ => message_id(group, id),
        };
        let envelope = &record.envelope;
        let is_fifo = self.queue.entry.config.fifo;
        let system = System {
            sender: self.call.home.account.clone(),
            sent_ms: stored.sent_ms,
            received: receipt.taken.delivery,
            first_ms: receipt.first_ms,
            sequence: is_fifo.then(|| sequence_number(id)),
            group: envelope.key.clone().or_else(|| kept(envelope, System::GROUP)),
            dedup_id: kept(envelope, System::DEDUP_ID),
            trace: kept(envelope, System::TRACE),
            dead_letter_source: stored.source.and_then(|_| self.dead_letter_source(envelope)),
        };
        let mut attributes = self.wanted.of(envelope);
        let body = match std::str::from_utf8(&record.body) {
            Ok(text) => text.to_owned(),
            // It came over another face. SQS has no bytes, so it is said how to read them.
            Err(_) => {
                let (name, encoding) = crate::sqs::base64_encoding();
                attributes.insert(name, encoding);
                BASE64.encode(&record.body)
            }
        };
        let mut message = json!({
            "MessageId": id_here,
            "ReceiptHandle": handle.text(),
            "MD5OfBody": of_body(&body),
            "Body": body,
        });
        let system = system.show(&self.names);
        if !system.is_empty() {
            message["Attributes"] = json!(system);
        }
        let named = attributes.iter().map(|(name, attribute)| (name.as_str(), attribute));
        if let Some(digest) = of_attributes(named) {
            message["MD5OfMessageAttributes"] = digest.into();
            let wire = attributes.iter().map(|(name, attribute)| (name, attribute.wire()));
            let wire: std::collections::BTreeMap<_, _> = wire.collect();
            message["MessageAttributes"] = json!(wire);
        }
        message
    }

    fn dead_letter_source(&self, envelope: &messaging::frame::Envelope) -> Option<String> {
        let source = envelope.dead_letter.as_ref()?.source.strip_prefix("queue/")?;
        let source: Name = source.parse().ok()?;
        Some(self.call.home.arn(&source))
    }
}

fn kept(envelope: &messaging::frame::Envelope, name: &str) -> Option<String> {
    envelope.attribute(name).map(str::to_owned)
}
