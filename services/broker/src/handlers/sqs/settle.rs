//! Deleting messages, and changing how long they are held.

use futures_util::future::join_all;
use messaging::ack::AckId;
use messaging::dispatch::Release;
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::Call;
use crate::directory::QueueHandle;
use crate::settle::{Act, Outcome};
use crate::sqs::{Code, Fault, Handle, check_batch};

/// Longest time that a message may be held from now on, in seconds.
const MAX_TIMEOUT: i64 = 43_200;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct One {
    queue_url: Option<String>,
    #[serde(flatten)]
    entry: Entry,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Many {
    queue_url: Option<String>,
    entries: Option<Vec<Entry>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Entry {
    id: Option<String>,
    receipt_handle: Option<String>,
    visibility_timeout: Option<i64>,
}

impl Entry {
    fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    fn handle(&self, queue: &QueueHandle) -> Result<Handle, Fault> {
        let text = self.receipt_handle.as_deref();
        let text = text.ok_or_else(|| Fault::missing("ReceiptHandle"))?;
        Handle::parse(text, queue.entry.group.0)
    }
}

pub(super) async fn delete(call: &Call, request: One) -> Result<Value, Fault> {
    let queue = call.queue(request.queue_url.as_deref())?;
    let handle = request.entry.handle(&queue)?;
    let outcomes = delete_all(call, &queue, &[handle.ack]).await?;
    outcomes.into_iter().collect::<Result<(), Fault>>()?;
    Ok(json!({}))
}

pub(super) async fn delete_batch(call: &Call, request: Many) -> Result<Value, Fault> {
    let queue = call.queue(request.queue_url.as_deref())?;
    let entries = request.entries.ok_or_else(|| Fault::missing("Entries"))?;
    check_batch(entries.iter().map(Entry::id))?;
    let handles: Vec<_> = entries.iter().map(|entry| entry.handle(&queue)).collect();
    let acks: Vec<AckId> =
        handles.iter().filter_map(|handle| Some(handle.as_ref().ok()?.ack)).collect();
    let mut deleted = delete_all(call, &queue, &acks).await?.into_iter();
    let outcomes =
        handles.into_iter().map(|handle| handle.and_then(|_| deleted.next().unwrap_or(Ok(()))));
    Ok(answer(&entries, outcomes))
}

/// One outcome for each delivery. What is gone already is deleted.
async fn delete_all(
    call: &Call,
    queue: &QueueHandle,
    acks: &[AckId],
) -> Result<Vec<Result<(), Fault>>, Fault> {
    if acks.is_empty() {
        return Ok(Vec::new());
    }
    call.attempts(|attempts, _| attempts.forget(acks));
    let ids: Vec<_> = acks.iter().map(|ack| Some(*ack)).collect();
    let is_fifo = queue.entry.config.fifo;
    let act = if is_fifo { Act::Ack } else { Act::AckLate };
    let outcomes = call.broker.settle_jobs(&queue.name, &ids, act).await?;
    let outcome = |outcome| match outcome {
        Outcome::Late if is_fifo => {
            let reason = "The receipt handle has expired.";
            Err(Fault::value("ReceiptHandle", "(as given)", reason))
        }
        Outcome::Ok | Outcome::Late | Outcome::Unknown => Ok(()),
    };
    Ok(outcomes.into_iter().map(outcome).collect())
}

pub(super) async fn change(call: &Call, request: One) -> Result<Value, Fault> {
    let queue = call.queue(request.queue_url.as_deref())?;
    change_one(call, &queue, &request.entry).await?;
    Ok(json!({}))
}

pub(super) async fn change_batch(call: &Call, request: Many) -> Result<Value, Fault> {
    let queue = call.queue(request.queue_url.as_deref())?;
    let entries = request.entries.ok_or_else(|| Fault::missing("Entries"))?;
    check_batch(entries.iter().map(Entry::id))?;
    let changes = entries.iter().map(|entry| change_one(call, &queue, entry));
    Ok(answer(&entries, join_all(changes).await))
}

async fn change_one(call: &Call, queue: &QueueHandle, entry: &Entry) -> Result<(), Fault> {
    let handle = entry.handle(queue)?;
    let timeout = entry.visibility_timeout;
    let timeout = timeout.ok_or_else(|| Fault::missing("VisibilityTimeout"))?;
    if !(0..=MAX_TIMEOUT).contains(&timeout) {
        let reason = "Must be between 0 and 43200, if provided.";
        return Err(Fault::value("VisibilityTimeout", timeout, reason));
    }
    let timeout_ms = timeout.unsigned_abs() * 1_000;
    if handle.is_beyond(call.broker.now_ms(), timeout_ms) {
        let reason = "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]";
        return Err(Fault::value("VisibilityTimeout", timeout, reason));
    }
    call.attempts(|attempts, _| attempts.forget(&[handle.ack]));
    let act = match timeout_ms {
        // It comes again at once, and was received: that counts.
        0 => Act::Nack(Release::Failed { delay_ms: Some(0), reason: None }),
        timeout_ms => Act::Extend { ack_timeout_ms: Some(timeout_ms) },
    };
    let outcomes = call.broker.settle_jobs(&queue.name, &[Some(handle.ack)], act).await?;
    match outcomes.first() {
        Some(Outcome::Ok) => Ok(()),
        Some(Outcome::Late) => Err(Fault::new(
            Code::MessageNotInflight,
            "The message referred to is not in flight: its visibility timeout is over.",
        )),
        Some(Outcome::Unknown) | None => {
            let reason =
                "Message does not exist or is not available for visibility timeout change.";
            Err(Fault::value("ReceiptHandle", "(as given)", reason))
        }
    }
}

/// The answer to a batch whose entries stand for themselves.
fn answer(entries: &[Entry], outcomes: impl IntoIterator<Item = Result<(), Fault>>) -> Value {
    let (mut successful, mut bad) = (Vec::new(), Vec::new());
    for (entry, outcome) in entries.iter().zip(outcomes) {
        match outcome {
            Ok(()) => successful.push(json!({ "Id": entry.id() })),
            Err(fault) => bad.push(failed(entry.id(), &fault)),
        }
    }
    json!({ "Successful": successful, "Failed": bad })
}

/// An entry that failed.
pub(super) fn failed(id: &str, fault: &Fault) -> Value {
    json!({
        "Id": id,
        "SenderFault": fault.code.is_senders(),
        "Code": fault.code.query_code(),
        "Message": fault.message,
    })
}
