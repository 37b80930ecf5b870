//! The workers: those of the subscription, and those of the queue.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context;
use api::broker::{AckRequest, Deliveries, Delivery, PullRequest, SendLine};
use serde_json::value::to_raw_value;
use tokio::task::JoinSet;

use super::flights::{Flight, LATE_MINUTES};
use super::ledger::Item;
use super::patience::persist;
use super::{Demo, QUEUE, SUBSCRIPTION, TOPIC, key};
use crate::http::Request;

const SUBSCRIPTION_WORKERS: usize = 3;
const QUEUE_WORKERS: usize = 2;
/// Messages a worker takes at once.
const BATCH: u32 = 64;
/// How long a worker waits for the next message before it asks again.
const WAIT_SECONDS: f64 = 1.0;

/// They run until `demo.done`.
pub(crate) fn spawn(demo: &Arc<Demo>) -> JoinSet<anyhow::Result<()>> {
    let mut workers = JoinSet::new();
    for _ in 0..SUBSCRIPTION_WORKERS {
        let demo = Arc::clone(demo);
        workers.spawn(async move {
            let base = format!("/v1/topics/{TOPIC}/subscriptions/{SUBSCRIPTION}");
            run(&demo, &base, "pull", Step::Flights)
                .await
                .context("a worker of the subscription failed")
        });
    }
    for _ in 0..QUEUE_WORKERS {
        let demo = Arc::clone(demo);
        workers.spawn(async move {
            let base = format!("/v1/queues/{QUEUE}");
            run(&demo, &base, "receive", Step::Jobs).await.context("a worker of the queue failed")
        });
    }
    workers
}

/// What a worker does with what it took.
#[derive(Clone, Copy)]
enum Step {
    Flights,
    Jobs,
}

async fn run(demo: &Demo, base: &str, verb: &str, step: Step) -> anyhow::Result<()> {
    let base = demo.broker(base);
    let request = PullRequest {
        max: Some(BATCH),
        wait_seconds: Some(WAIT_SECONDS),
        ack_deadline_seconds: None,
    };
    let take = Request::post(format!("{base}/{verb}")).json(&request);
    while !demo.done.is_cancelled() {
        // A lost answer leaves its messages in flight until their deadline, then they come again.
        let taken = tokio::select! {
            taken = persist(&demo.http, &take) => taken?,
            () = demo.done.cancelled() => return Ok(()),
        };
        let taken: Deliveries = taken.parse().context("a delivery is not what it should be")?;
        if taken.messages.is_empty() {
            continue;
        }
        let again = taken.messages.iter().filter(|message| message.delivery > 1).count();
        demo.redelivered.fetch_add(again as u64, Ordering::Relaxed);
        let batch = parse(&taken.messages)?;
        if let Step::Flights = step {
            enqueue(demo, &batch).await?;
        }
        count(demo, &batch, step).await?;
        let ack_ids = taken.messages.into_iter().map(|message| message.ack_id).collect();
        // Ids that are late or unknown are no error here: those messages come again and change
        // nothing.
        let ack = Request::post(format!("{base}/ack")).json(&AckRequest { ack_ids });
        persist(&demo.http, &ack).await?;
    }
    Ok(())
}

/// A flight and the trace of its message.
type Traced = (Flight, Option<String>);

fn parse(messages: &[Delivery]) -> anyhow::Result<Vec<Traced>> {
    messages
        .iter()
        .map(|message| {
            let data = message.data.as_deref().context("a message has no data")?;
            let flight = serde_json::from_str(data.get()).context("a message is not a flight")?;
            Ok((flight, message.attributes.get("traceparent").cloned()))
        })
        .collect()
}

/// Makes a job of each late departure. The id of a job is that of its flight, so a repeat within
/// the queue's window adds nothing; beyond the window the ledger still counts it once.
async fn enqueue(demo: &Demo, batch: &[Traced]) -> anyhow::Result<()> {
    for (flight, trace) in batch {
        let Some(minutes) = flight.late() else { continue };
        let job = SendLine {
            data: Some(to_raw_value(flight)?),
            priority: Some(priority(minutes)),
            dedup_id: Some(format!("{}-{}", flight.carrier, flight.number)),
            ..SendLine::default()
        };
        let request = Request::post(demo.broker(&format!("/v1/queues/{QUEUE}/messages")))
            .header_if("traceparent", trace.as_deref())
            .body(api::headers::NDJSON, serde_json::to_vec(&job)?);
        persist(&demo.http, &request).await.context("cannot send a job")?;
    }
    Ok(())
}

/// An hour late is 0, every further half hour is one more, up to 9.
fn priority(minutes: i64) -> u8 {
    u8::try_from((minutes - LATE_MINUTES) / 30).unwrap_or(u8::MAX).min(9)
}

async fn count(demo: &Demo, batch: &[Traced], step: Step) -> anyhow::Result<()> {
    let kind = match step {
        Step::Flights => "flights",
        Step::Jobs => "late",
    };
    let mut by_carrier: BTreeMap<&str, (Vec<Item>, Option<&str>)> = BTreeMap::new();
    for (flight, trace) in batch {
        let adds = match step {
            Step::Flights => vec![("flights", 1), ("cancelled", i64::from(flight.cancelled()))],
            Step::Jobs => vec![("late", 1), ("late_minutes", flight.late().unwrap_or_default())],
        };
        let (items, latest) = by_carrier.entry(&flight.carrier).or_default();
        items.push(Item { number: flight.number, adds });
        // A write for several messages can belong to the trace of one of them only.
        *latest = trace.as_deref().or(*latest);
    }
    for (carrier, (items, trace)) in by_carrier {
        demo.ledger.count(&key(kind, carrier), &items, trace).await.context("cannot count")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_delays_have_higher_priority_within_the_limits() {
        assert_eq!([60, 89, 90, 120, 2_000].map(priority), [0, 0, 1, 2, 9]);
    }
}
