//! `quartet rpc`: one call through the gateway.

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
    let answer: Value = session.http.json(request).await?;
    match session.output {
        Output::Json => session.output.json(&answer),
        Output::Table => {
            println!("{}", serde_json::to_string_pretty(&answer["data"])?);
            Ok(())
        }
    }
}
