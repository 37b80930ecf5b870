//! What `sub pull` and `queue receive` show, and what they then settle.

use std::time::Duration;

use api::broker::{AckOutcome, AckRequest, Deliveries, Delivery, NackRequest, Settled};
use serde_json::value::RawValue;

use super::Session;
use crate::http::Request;
use crate::output::Table;

/// What to take, for both.
#[derive(Debug, clap::Args)]
pub(crate) struct TakeArgs {
    /// At most so many messages.
    #[arg(long, default_value = "10")]
    max: u32,
    /// Wait so long for the first.
    #[arg(long, default_value = "0", value_name = "SECONDS")]
    wait: f64,
    /// Acknowledge what was shown.
    #[arg(long)]
    ack: bool,
}

/// What to give back, for both.
#[derive(Debug, clap::Args)]
pub(crate) struct NackArgs {
    #[arg(required = true)]
    ack_ids: Vec<String>,
    /// When they may be delivered again.
    #[arg(long)]
    delay_ms: Option<u64>,
    /// Why, for people: the last one goes into the dead letter.
    #[arg(long, conflicts_with = "untried")]
    reason: Option<String>,
    /// They were not tried: nothing counts against them.
    #[arg(long)]
    untried: bool,
}

/// Takes messages at `base` + `verb` and shows them.
pub(crate) async fn take(
    session: &Session,
    base: &str,
    verb: &str,
    args: &TakeArgs,
) -> anyhow::Result<()> {
    let body = api::broker::PullRequest {
        max: Some(args.max),
        wait_seconds: Some(args.wait),
        ack_deadline_seconds: None,
    };
    let patience = Duration::try_from_secs_f64(args.wait + 30.0).unwrap_or(Duration::MAX);
    let request = Request::post(format!("{base}/{verb}")).json(&body).timeout(patience);
    let response = session.http.send(request).await?;
    let taken: Deliveries = response.parse()?;
    if session.output == crate::output::Output::Json {
        session.output.json(&response.parse::<serde_json::Value>()?)?;
    } else {
        show(&taken.messages);
    }
    if args.ack && !taken.messages.is_empty() {
        let ack_ids = taken.messages.into_iter().map(|message| message.ack_id).collect();
        let request = Request::post(format!("{base}/ack")).json(&AckRequest { ack_ids });
        let settled: Settled = session.http.json(request).await?;
        report(&settled);
    }
    Ok(())
}

fn show(messages: &[Delivery]) {
    if messages.is_empty() {
        crate::output::note!("nothing to take right now");
        return;
    }
    let mut table = Table::new(["ID", "DELIVERY", "DATA", "ACK ID"]);
    for message in messages {
        table.row([
            message.id.clone(),
            message.delivery.to_string(),
            data(message.data.as_deref(), message.data_base64.as_deref()),
            message.ack_id.clone(),
        ]);
    }
    table.print();
}

/// A payload in a table.
pub(crate) fn data(json: Option<&RawValue>, base64: Option<&str>) -> String {
    json.map(RawValue::get).or(base64).unwrap_or_default().to_owned()
}

/// Settles by id.
pub(crate) async fn ack(session: &Session, base: &str, ack_ids: Vec<String>) -> anyhow::Result<()> {
    let request = Request::post(format!("{base}/ack")).json(&AckRequest { ack_ids });
    settle(session, request).await
}

/// Gives back by id.
pub(crate) async fn nack(session: &Session, base: &str, nack: NackArgs) -> anyhow::Result<()> {
    let NackArgs { ack_ids, delay_ms, reason, untried } = nack;
    let failed = untried.then_some(false);
    let request = Request::post(format!("{base}/nack")).json(&NackRequest {
        ack_ids,
        delay_ms,
        failed,
        reason,
    });
    settle(session, request).await
}

async fn settle(session: &Session, request: Request) -> anyhow::Result<()> {
    let Some(settled) = session.ask::<Settled>(request).await? else { return Ok(()) };
    report(&settled);
    if settled.results.iter().any(|result| result.result != AckOutcome::Ok) {
        anyhow::bail!("not all were settled: late ones have been or will be delivered again");
    }
    Ok(())
}

fn report(settled: &Settled) {
    for result in settled.results.iter().filter(|result| result.result != AckOutcome::Ok) {
        let why = if result.result == AckOutcome::Late { "too late" } else { "unknown" };
        crate::output::note!("{}: {why}", result.ack_id);
    }
    crate::output::note!("{} settled", settled.ok);
}
