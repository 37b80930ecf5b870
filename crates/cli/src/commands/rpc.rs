//! `quartet rpc`: one call through the gateway.

use anyhow::bail;
use serde_json::{Value, json};

use super::{Session, json_argument};
use crate::args::RpcArgs;
use crate::cluster::Service;
use crate::http::Request;
use crate::output::Output;

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
    // An answer with `status: error` also carries an HTTP error, and says more than its code.
    let response = session.http.send(request).await?;
    let Ok(answer) = response.parse::<Value>() else { return Err(response.refusal().into()) };
    if session.output == Output::Json {
        session.output.json(&answer)?;
    }
    match answer["status"].as_str() {
        Some("ok") if session.output == Output::Table => {
            println!("{}", serde_json::to_string_pretty(&answer["data"])?);
            Ok(())
        }
        Some("ok") => Ok(()),
        Some("error") => {
            bail!("{}", answer["error"].as_str().unwrap_or("the call failed without a reason"))
        }
        _ => Err(response.refusal().into()),
    }
}
