//! `quartet rpc`: one call through the gateway.

use anyhow::bail;
use api::gateway::{RpcResponse, RpcStatus};
use serde_json::{Value, json};

use super::{Session, json_argument};
use crate::args::RpcArgs;
use crate::cluster::Service;
use crate::http::Request;
use crate::output::{Output, say};

pub(crate) async fn run(session: &Session, args: RpcArgs) -> anyhow::Result<()> {
    let mut call = json!({ "method": args.method });
    if let Some(id) = args.id {
        call["id"] = Value::from(id);
    }
    if let Some(data) = args.data {
        call["data"] = json_argument(&data)?;
    }
    let request = Request::post(session.url(Service::Gateway, "/v1/rpc"))
        .json(&call)
        .header_if("idempotency-key", args.idempotency_key);
    let answer: RpcResponse = match session.http.send(request).await {
        Ok(response) => response.parse()?,
        // A method that failed is an answer, too, and says more than the HTTP status.
        Err(error) => match error.answer.as_deref().map(serde_json::from_slice) {
            Some(Ok(answer)) => answer,
            _ => return Err(error.into()),
        },
    };
    if session.output == Output::Json {
        session.output.json(&answer)?;
    }
    match (answer.status, answer.data) {
        (RpcStatus::Ok, Some(data)) if session.output == Output::Table => say!("{data}"),
        (RpcStatus::Ok, _) => (),
        (RpcStatus::Error, _) => bail!("{}", answer.error.unwrap_or_default()),
    }
    Ok(())
}
