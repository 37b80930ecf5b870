//! Queues: create, find, look at, change, empty, delete.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use messaging::catalog::CatalogRefused;
use messaging::ids::Name;
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Call, bounded, settings};
use crate::directory::QueueHandle;
use crate::error::{AdminError, NotFound};
use crate::sqs::{COUNTS, Code, Fault, Settings, TIMES};

/// Most queues in one answer.
const MAX_RESULTS: u32 = 1_000;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Create {
    queue_name: Option<String>,
    attributes: Option<BTreeMap<String, String>>,
    #[serde(rename = "tags")]
    tags: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ByName {
    queue_name: Option<String>,
    #[serde(rename = "QueueOwnerAWSAccountId")]
    owner: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ByUrl {
    queue_url: Option<String>,
    attribute_names: Option<Vec<String>>,
    attributes: Option<BTreeMap<String, String>>,
    queue_name_prefix: Option<String>,
    next_token: Option<String>,
    max_results: Option<i64>,
}

/// A queue of this name, as it is or new.
pub(super) async fn create(call: &Call, request: Create) -> Result<Value, Fault> {
    let name = request.queue_name.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Fault::missing("QueueName"))?;
    let attributes = request.attributes.unwrap_or_default();
    let (name, mut wanted) = Settings::new(&name, &attributes)?;
    if let Ok(known) = call.broker.directory().queue(&name) {
        return same(call, &known, &attributes);
    }
    wanted.set_all(&attributes, &call.home)?;
    check_dead_letter(call, &name, &wanted)?;
    wanted.notes.tag(request.tags.unwrap_or_default())?;
    let notes = wanted.notes.text();
    match call.broker.put_queue_as(name.clone(), None, wanted.config, notes).await {
        Err(AdminError::Refused(CatalogRefused::QueueChanged(_))) => {
            same(call, &*call.broker.directory().queue(&name)?, &attributes)
        }
        result => {
            result?;
            Ok(json!({ "QueueUrl": call.home.url(&name) }))
        }
    }
}

/// A queue that is there already may be created once more, with the attributes it has.
fn same(
    call: &Call,
    known: &QueueHandle,
    attributes: &BTreeMap<String, String>,
) -> Result<Value, Fault> {
    let has = settings(known);
    let mut wanted = has.clone();
    wanted.set_all(attributes, &call.home)?;
    if wanted != has {
        let message = "A queue already exists with the same name and a different value for an \
                       attribute.";
        return Err(Fault::new(Code::QueueNameExists, message));
    }
    Ok(json!({ "QueueUrl": call.home.url(&known.name) }))
}

/// A dead-letter queue is there, is of the same kind, and lets itself be used.
fn check_dead_letter(call: &Call, name: &Name, wanted: &Settings) -> Result<(), Fault> {
    let Some(target) = &wanted.config.dead_letter else { return Ok(()) };
    let invalid = |reason: &str| Err(Fault::attribute("RedrivePolicy", reason));
    if target == name {
        return invalid("A queue cannot be its own dead letter queue.");
    }
    let target = match call.broker.directory().queue(target) {
        Ok(target) => target,
        Err(NotFound::Unsure) => return Err(NotFound::Unsure.into()),
        Err(_) => return invalid("Dead letter target does not exist."),
    };
    let target = settings(&target);
    if target.config.fifo != wanted.config.fifo {
        return invalid("Dead letter target must be same type of queue as the source.");
    }
    if !target.allows(&call.home.arn(name)) {
        return invalid(
            "The RedriveAllowPolicy of the dead letter target does not allow this queue.",
        );
    }
    Ok(())
}

/// The URL of a queue.
pub(super) fn url(call: &Call, request: ByName) -> Result<Value, Fault> {
    let name = request.queue_name.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Fault::missing("QueueName"))?;
    let nobody = || Fault::new(Code::QueueDoesNotExist, "The specified queue does not exist.");
    if request.owner.is_some_and(|owner| owner != call.home.account) {
        return Err(nobody());
    }
    let name: Name = name.parse().map_err(|_| nobody())?;
    let queue = call.broker.directory().queue(&name)?;
    Ok(json!({ "QueueUrl": call.home.url(&queue.name) }))
}

/// Queues, by name.
pub(super) fn list(call: &Call, request: ByUrl) -> Result<Value, Fault> {
    let prefix = request.queue_name_prefix.as_deref().unwrap_or_default();
    let directory = call.broker.listed()?;
    let names = directory.queues.keys().filter(|name| name.as_str().starts_with(prefix));
    page(call, names, (&request, "QueueUrls"))
}

/// Queues whose dead letters go to this one.
pub(super) fn sources(call: &Call, request: ByUrl) -> Result<Value, Fault> {
    let target = call.queue(request.queue_url.as_deref())?;
    let directory = call.broker.listed()?;
    let names = directory.queues.iter().filter(|(_, queue)| {
        let config = &queue.entry.config;
        config.policy.max_deliveries.is_some() && config.dead_letter.as_ref() == Some(&target.name)
    });
    page(call, names.map(|(name, _)| name), (&request, "queueUrls"))
}

/// Names in order, up to as many as are asked for. A token is the last name of a page.
fn page<'a>(
    call: &Call,
    names: impl Iterator<Item = &'a Name>,
    (request, member): (&ByUrl, &str),
) -> Result<Value, Fault> {
    let max = bounded("MaxResults", request.max_results, (1, MAX_RESULTS), MAX_RESULTS)?;
    let after = match request.next_token.as_deref().filter(|token| !token.is_empty()) {
        None => None,
        Some(token) => {
            let name = BASE64.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let name: Option<Name> = name.and_then(|name| name.parse().ok());
            Some(name.ok_or_else(|| Fault::value("NextToken", token, "It is no token of ours."))?)
        }
    };
    let mut names =
        names.filter(|name| after.as_ref().is_none_or(|after| after < *name)).peekable();
    let page: Vec<&Name> = names.by_ref().take(max as usize).collect();
    let urls: Vec<String> = page.iter().map(|name| call.home.url(name)).collect();
    let mut answer = json!({ member: urls });
    if request.max_results.is_some()
        && names.peek().is_some()
        && let Some(last) = page.last()
    {
        answer["NextToken"] = BASE64.encode(last.as_str()).into();
    }
    Ok(answer)
}

/// Deletes a queue.
pub(super) async fn delete(call: &Call, request: ByUrl) -> Result<Value, Fault> {
    let queue = call.queue(request.queue_url.as_deref())?;
    call.broker.delete_queue(queue.name.clone()).await?;
    Ok(json!({}))
}

/// Removes every message.
pub(super) async fn purge(call: &Call, request: ByUrl) -> Result<Value, Fault> {
    let queue = call.queue(request.queue_url.as_deref())?;
    let pause_ms = call.broker.limits().sqs.purge_pause_seconds.saturating_mul(1_000);
    if 0 < pause_ms {
        let now = call.broker.now_ms();
        let check = |settings: &mut Settings| {
            let last = settings.notes.purged_ms.replace(now);
            if last.is_some_and(|last| now < last.saturating_add(pause_ms)) {
                let message = format!(
                    "Only one PurgeQueue operation on {} is allowed every {} seconds.",
                    queue.name,
                    pause_ms / 1_000
                );
                return Err(Fault::new(Code::PurgeQueueInProgress, message));
            }
            Ok(())
        };
        call.change(&queue.name, check).await?;
    }
    call.broker.purge(&queue.name).await?;
    Ok(json!({}))
}

/// What is asked for of a queue.
pub(super) async fn get_attributes(call: &Call, request: ByUrl) -> Result<Value, Fault> {
    let queue = call.queue(request.queue_url.as_deref())?;
    let asked = request.attribute_names.unwrap_or_default();
    let settings = settings(&queue);
    let mut shown = settings.show(&asked, (&queue.name, &call.home))?;
    let is_asked = |name: &&str| asked.iter().any(|asked| asked == "All" || asked == name);
    let created_ms = queue.entry.created_ms;
    let times = [created_ms, settings.notes.modified_ms.unwrap_or(created_ms)];
    let times = times.map(|ms| ms / 1_000);
    let told = TIMES.into_iter().zip(times).filter(|(name, _)| is_asked(name));
    shown.extend(told.map(|(name, value)| (name.to_owned(), value.to_string())));
    if COUNTS.iter().any(&is_asked) {
        let counts = counts(call, &queue).await?;
        let told = COUNTS.into_iter().zip(counts).filter(|(name, _)| is_asked(name));
        shown.extend(told.map(|(name, value)| (name.to_owned(), value.to_string())));
    }
    Ok(if shown.is_empty() { json!({}) } else { json!({ "Attributes": shown }) })
}

/// In the order of [`COUNTS`].
async fn counts(call: &Call, queue: &Arc<QueueHandle>) -> Result<[u64; 3], Fault> {
    let stats = call.broker.queue_stats(queue).await?;
    Ok(stats.depths.iter().fold([0; 3], |[ready, held, delayed], depth| {
        [ready + depth.ready, held + depth.in_flight, delayed + depth.delayed]
    }))
}

/// Changes attributes.
pub(super) async fn set_attributes(call: &Call, request: ByUrl) -> Result<Value, Fault> {
    let queue = call.queue(request.queue_url.as_deref())?;
    let attributes = request.attributes.ok_or_else(|| Fault::missing("Attributes"))?;
    let now = call.broker.now_ms();
    let edit = |settings: &mut Settings| {
        let before = settings.clone();
        settings.set_all(&attributes, &call.home)?;
        if settings.config.dead_letter != before.config.dead_letter {
            check_dead_letter(call, &queue.name, settings)?;
        }
        if *settings != before {
            settings.notes.modified_ms = Some(now);
        }
        Ok(())
    };
    call.change(&queue.name, edit).await?;
    Ok(json!({}))
}
