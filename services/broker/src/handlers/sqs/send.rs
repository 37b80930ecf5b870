//! Sending, one or up to ten.

use messaging::queue::SendReply;
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Call, settings};
use super::settle::failed;
use crate::broker::Broker;
use crate::directory::QueueHandle;
use crate::send::{Batch, NewJob};
use crate::sqs::{Code, Entry, Fault, Prepared, check_batch, message_id, prepare, sequence_number};

/// Most bytes of a batch, bodies and attributes.
const MAX_BATCH_BYTES: u64 = 1_048_576;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ToQueue {
    queue_url: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ToQueueBatch {
    queue_url: Option<String>,
    entries: Option<Vec<Entry>>,
}

pub(super) async fn one(call: &Call, to: ToQueue, entry: Entry) -> Result<Value, Fault> {
    let queue = call.queue(to.queue_url.as_deref())?;
    let Prepared { job, body_md5, attributes_md5, system_md5, .. } =
        prepare(entry, &settings(&queue))?;
    let stored = send(&call.broker, &queue, vec![job]).await?;
    let digests = [body_md5.into(), attributes_md5, system_md5];
    let stored = stored.first().ok_or_else(lost)?;
    Ok(sent(&queue, *stored, digests))
}

pub(super) async fn batch(call: &Call, request: ToQueueBatch) -> Result<Value, Fault> {
    let queue = call.queue(request.queue_url.as_deref())?;
    let entries = request.entries.ok_or_else(|| Fault::missing("Entries"))?;
    check_batch(entries.iter().map(|entry| entry.id.as_deref().unwrap_or_default()))?;
    let settings = settings(&queue);
    let (mut jobs, mut good, mut bad) = (Vec::new(), Vec::new(), Vec::new());
    let mut bytes = 0;
    for mut entry in entries {
        let id = entry.id.take().unwrap_or_default();
        match prepare(entry, &settings) {
            Ok(Prepared { job, body_md5, attributes_md5, system_md5, size }) => {
                bytes += size;
                jobs.push(job);
                good.push((id, [Some(body_md5), attributes_md5, system_md5]));
            }
            Err(fault) => bad.push(failed(&id, &fault)),
        }
    }
    if MAX_BATCH_BYTES < bytes {
        let message = format!(
            "Batch requests cannot be longer than {MAX_BATCH_BYTES} bytes. You have sent {bytes} bytes."
        );
        return Err(Fault::new(Code::BatchRequestTooLong, message));
    }
    let stored =
        if jobs.is_empty() { Ok(Vec::new()) } else { send(&call.broker, &queue, jobs).await };
    let mut successful = Vec::new();
    match stored {
        Ok(stored) => {
            for ((id, digests), stored) in good.into_iter().zip(stored) {
                let mut entry = sent(&queue, stored, digests);
                entry["Id"] = id.into();
                successful.push(entry);
            }
        }
        // The queue is full: that may pass, and what else was in the batch is told by itself.
        Err(fault) if fault.code == Code::RequestThrottled => {
            bad.extend(good.iter().map(|(id, _)| failed(id, &fault)));
        }
        Err(fault) => return Err(fault),
    }
    Ok(json!({ "Successful": successful, "Failed": bad }))
}

async fn send(
    broker: &Broker,
    queue: &QueueHandle,
    jobs: Vec<NewJob>,
) -> Result<Vec<SendReply>, Fault> {
    let batch = Batch { jobs, ..Batch::default() };
    Ok(broker.send(&queue.name, batch).await?.0)
}

/// `digests`: of the body, the attributes, the system attributes.
fn sent(queue: &QueueHandle, stored: SendReply, digests: [Option<String>; 3]) -> Value {
    let mut answer = json!({ "MessageId": message_id(queue.entry.group.0, stored.id) });
    let names = ["MD5OfMessageBody", "MD5OfMessageAttributes", "MD5OfMessageSystemAttributes"];
    for (name, digest) in names.into_iter().zip(digests) {
        if let Some(digest) = digest {
            answer[name] = digest.into();
        }
    }
    if queue.entry.config.fifo {
        answer["SequenceNumber"] = sequence_number(stored.id).into();
    }
    answer
}

fn lost() -> Fault {
    Fault::new(Code::InternalFailure, "The queue did not say what became of the message.")
}
