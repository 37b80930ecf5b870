//! Permissions: statements of the attribute `Policy`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::call::Call;
use crate::sqs::{Fault, Settings, grant, revoke};

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Request {
    queue_url: Option<String>,
    label: Option<String>,
    #[serde(rename = "AWSAccountIds")]
    accounts: Option<Vec<String>>,
    actions: Option<Vec<String>>,
}

pub(super) async fn add(call: &Call, request: Request) -> Result<Value, Fault> {
    let queue = call.queue(request.queue_url.as_deref())?;
    let label = request.label.ok_or_else(|| Fault::missing("Label"))?;
    let accounts = request.accounts.filter(|accounts| !accounts.is_empty());
    let accounts = accounts.ok_or_else(|| Fault::missing("AWSAccountIds"))?;
    let actions = request.actions.filter(|actions| !actions.is_empty());
    let actions = actions.ok_or_else(|| Fault::missing("Actions"))?;
    let arn = call.home.arn(&queue.name);
    let edit = |settings: &mut Settings| {
        let policy = grant(settings.policy(), &arn, &label, (&accounts, &actions))?;
        settings.set_policy(&policy);
        Ok(())
    };
    call.change(&queue.name, edit).await?;
    Ok(json!({}))
}

pub(super) async fn remove(call: &Call, request: Request) -> Result<Value, Fault> {
    let queue = call.queue(request.queue_url.as_deref())?;
    let label = request.label.ok_or_else(|| Fault::missing("Label"))?;
    let arn = call.home.arn(&queue.name);
    let edit = |settings: &mut Settings| {
        let policy = revoke(settings.policy(), &arn, &label)?;
        settings.set_policy(&policy);
        Ok(())
    };
    call.change(&queue.name, edit).await?;
    Ok(json!({}))
}
