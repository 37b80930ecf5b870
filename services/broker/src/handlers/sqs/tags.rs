//! Tags of queues.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Call, settings};
use crate::sqs::{Fault, Settings};

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Request {
    queue_url: Option<String>,
    tags: Option<BTreeMap<String, String>>,
    tag_keys: Option<Vec<String>>,
}

pub(super) async fn tag(call: &Call, request: Request) -> Result<Value, Fault> {
    let queue = call.queue(request.queue_url.as_deref())?;
    let tags = request.tags.filter(|tags| !tags.is_empty());
    let tags = tags.ok_or_else(|| Fault::missing("Tags"))?;
    let edit = |settings: &mut Settings| settings.notes.tag(tags.clone());
    call.change(&queue.name, edit).await?;
    Ok(json!({}))
}

pub(super) async fn untag(call: &Call, request: Request) -> Result<Value, Fault> {
    let queue = call.queue(request.queue_url.as_deref())?;
    let keys = request.tag_keys.filter(|keys| !keys.is_empty());
    let keys = keys.ok_or_else(|| Fault::missing("TagKeys"))?;
    let edit = |settings: &mut Settings| {
        settings.notes.tags.retain(|key, _| !keys.contains(key));
        Ok(())
    };
    call.change(&queue.name, edit).await?;
    Ok(json!({}))
}

pub(super) fn list(call: &Call, request: Request) -> Result<Value, Fault> {
    let queue = call.queue(request.queue_url.as_deref())?;
    let tags = settings(&queue).notes.tags;
    Ok(if tags.is_empty() { json!({}) } else { json!({ "Tags": tags }) })
}
