//! `quartet queue ask` and `reply`: questions through a queue.

use std::time::Duration;

use anyhow::bail;
use api::broker::{AckOutcome, Replied, ReplyRequest, Requested};

use crate::commands::{Session, content_type, deliveries, payload};
use crate::http::{Request, query};
use crate::output::{note, say};

#[derive(Debug, clap::Args)]
pub(crate) struct AskArgs {
    pub(super) queue: String,
    /// The question; a dash reads it from stdin.
    data: String,
    /// How long to wait for the answer.
    #[arg(long, default_value = "30", value_name = "SECONDS")]
    wait: f64,
    /// A repeat asks once and finds the same answer.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReplyArgs {
    pub(super) queue: String,
    ack_id: String,
    /// The answer; a dash reads it from stdin.
    data: String,
}

pub(super) async fn ask(session: &Session, url: &str, args: AskArgs) -> anyhow::Result<()> {
    let body = payload(&args.data)?;
    let wait = query(&[("wait_seconds", Some(args.wait.to_string()))]);
    let patience = Duration::try_from_secs_f64(args.wait + 30.0).unwrap_or(Duration::MAX);
    let request = Request::post(format!("{url}/requests{wait}"))
        .header_if("idempotency-key", args.idempotency_key)
        .body(content_type(&body), body)
        .timeout(patience);
    let Some(requested) = session.ask::<Requested>(request).await? else { return Ok(()) };
    match requested.reply {
        Some(reply) => {
            say!("{}", deliveries::data(reply.data.as_deref(), reply.data_base64.as_deref()));
        }
        None => note!("no answer yet; its correlation id is {}", requested.correlation_id),
    }
    Ok(())
}

pub(super) async fn reply(session: &Session, url: &str, args: ReplyArgs) -> anyhow::Result<()> {
    let body = payload(&args.data)?;
    let text = String::from_utf8(body)?;
    let data = match serde_json::value::RawValue::from_string(text.clone()) {
        Ok(json) => json,
        Err(_) => serde_json::value::to_raw_value(&text)?,
    };
    let reply = ReplyRequest { ack_id: args.ack_id, data: Some(data), ..ReplyRequest::default() };
    let request = Request::post(format!("{url}/replies")).json(&reply);
    let Some(replied) = session.ask::<Replied>(request).await? else { return Ok(()) };
    if replied.result != AckOutcome::Ok {
        bail!("not answered: the message was taken back, or is gone");
    }
    Ok(())
}
