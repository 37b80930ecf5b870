//! Tasks that bring dead letters back.

use std::sync::Arc;

use consensus::GroupId;
use messaging::ids::Name;
use messaging::queue::{MoveOrder, MoveState, MoveTask};
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Call, bounded};
use crate::directory::QueueHandle;
use crate::error::{MessageError, NotFound};
use crate::sqs::{Code, Fault, Task};

/// Highest rate, in messages a second, and most tasks told.
const MAX_RATE: u32 = 500;
const MAX_RESULTS: u32 = 10;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Request {
    source_arn: Option<String>,
    destination_arn: Option<String>,
    max_number_of_messages_per_second: Option<i64>,
    task_handle: Option<String>,
    max_results: Option<i64>,
}

/// The queue of an ARN.
fn queue_of(call: &Call, arn: Option<&str>, parameter: &str) -> Result<Arc<QueueHandle>, Fault> {
    let arn = arn.filter(|arn| !arn.is_empty()).ok_or_else(|| Fault::missing(parameter))?;
    if !arn.starts_with("arn:") {
        return Err(Fault::value(parameter, arn, "It is no ARN."));
    }
    let queue = match call.home.queue_of_arn(arn).map(|name| call.broker.directory().queue(&name)) {
        Some(Err(NotFound::Unsure)) => return Err(NotFound::Unsure.into()),
        found => found.and_then(Result::ok),
    };
    queue.ok_or_else(|| {
        let message =
            format!("The resource that you specified for the {parameter} parameter doesn't exist.");
        Fault::new(Code::ResourceNotFoundException, message)
    })
}

/// A queue that others name as their dead-letter queue.
fn source(call: &Call, request: &Request) -> Result<Arc<QueueHandle>, Fault> {
    let queue = queue_of(call, request.source_arn.as_deref(), "SourceArn")?;
    let directory = call.broker.listed()?;
    let mut others = directory.queues.values();
    if others.any(|other| other.entry.config.dead_letter.as_ref() == Some(&queue.name)) {
        return Ok(queue);
    }
    let message = "Source queue must be configured as a Dead Letter Queue.";
    Err(Fault::new(Code::InvalidParameterValue, message))
}

pub(super) async fn start(call: &Call, request: Request) -> Result<Value, Fault> {
    let from = source(call, &request)?;
    let to = match &request.destination_arn {
        None => None,
        Some(arn) => {
            let to = queue_of(call, Some(arn), "DestinationArn")?;
            if to.name == from.name {
                let message = "Source queue arn and destination queue arn cannot be the same.";
                return Err(Fault::new(Code::InvalidParameterValue, message));
            }
            if to.entry.config.fifo != from.entry.config.fifo {
                let message = "Source and destination must be of the same type, FIFO or standard.";
                return Err(Fault::new(Code::InvalidParameterValue, message));
            }
            Some(to.name.clone())
        }
    };
    let rate = request.max_number_of_messages_per_second;
    let name = "MaxNumberOfMessagesPerSecond";
    let rate = rate.map(|_| bounded(name, rate, (1, MAX_RATE), 0)).transpose()?;
    let order = MoveOrder { to, rate, ..MoveOrder::default() };
    match call.broker.begin_move(&from.name, order).await {
        Ok(task) => {
            let task = Task { group: from.entry.group.0, id: task.id };
            Ok(json!({ "TaskHandle": task.text() }))
        }
        Err(MessageError::MoveRuns { .. }) => Err(Fault::new(
            Code::UnsupportedOperation,
            "There is already a task running. Only one active task is allowed for a source queue \
             arn at a given time.",
        )),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn cancel(call: &Call, request: Request) -> Result<Value, Fault> {
    let handle = request.task_handle.ok_or_else(|| Fault::missing("TaskHandle"))?;
    let task = Task::parse(&handle)?;
    let nobody = || Fault::new(Code::ResourceNotFoundException, "Task does not exist.");
    let queue = call.broker.directory().queue_in(GroupId(task.group)).ok_or_else(nobody)?;
    let known = call.broker.moves(&queue.name).await?;
    let known = known.iter().find(|known| known.id == task.id).ok_or_else(nobody)?;
    if known.state != MoveState::Running {
        let message = "Only active tasks can be cancelled.";
        return Err(Fault::new(Code::UnsupportedOperation, message));
    }
    match call.broker.cancel_move(&queue.name, task.id).await {
        Ok(task) => Ok(json!({ "ApproximateNumberOfMessagesMoved": task.moved })),
        Err(MessageError::NoMove { .. }) => Err(nobody()),
        Err(error) => Err(error.into()),
    }
}

/// The latest first.
pub(super) async fn list(call: &Call, request: Request) -> Result<Value, Fault> {
    let max = bounded("MaxResults", request.max_results, (1, MAX_RESULTS), 1)?;
    let queue = queue_of(call, request.source_arn.as_deref(), "SourceArn")?;
    let tasks = call.broker.moves(&queue.name).await?;
    let tasks = tasks.iter().rev().take(max as usize);
    let results: Vec<_> = tasks.map(|task| told(call, &queue, task)).collect();
    Ok(json!({ "Results": results }))
}

fn told(call: &Call, queue: &QueueHandle, task: &MoveTask) -> Value {
    let status = match task.state {
        MoveState::Running => "RUNNING",
        MoveState::Done => "COMPLETED",
        MoveState::Cancelled => "CANCELLED",
        MoveState::Failed => "FAILED",
    };
    let mut result = json!({
        "Status": status,
        "SourceArn": call.home.arn(&queue.name),
        "ApproximateNumberOfMessagesMoved": task.moved,
        "ApproximateNumberOfMessagesToMove": task.moved + task.left + task.ahead(),
        "StartedTimestamp": task.begun_ms,
    });
    if task.state == MoveState::Running {
        let task = Task { group: queue.entry.group.0, id: task.id };
        result["TaskHandle"] = task.text().into();
    }
    if let Some(to) = &task.order.to {
        let to: &Name = to;
        result["DestinationArn"] = call.home.arn(to).into();
    }
    if let Some(rate) = task.order.rate {
        result["MaxNumberOfMessagesPerSecond"] = rate.into();
    }
    if let (MoveState::Failed, Some(reason)) = (task.state, &task.reason) {
        result["FailureReason"] = reason.as_str().into();
    }
    result
}
