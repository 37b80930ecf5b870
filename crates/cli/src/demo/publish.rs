//! The publishers: one per carrier, so that each carrier's flights stay in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::flights::Flight;
use super::patience::persist;
use super::{Demo, TOPIC};
use crate::http::Request;

/// What publishing cost.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// From the first attempt to the acknowledgement, outage included. Sorted.
    pub(crate) latencies: Vec<Duration>,
    /// The trace of a flight that became a job, so that it crosses every service.
    pub(crate) trace_id: Option<String>,
}

/// Returns when every flight is acknowledged.
pub(crate) async fn all(demo: &Arc<Demo>, flights: Vec<Flight>) -> anyhow::Result<Published> {
    let mut lanes: BTreeMap<String, Vec<Flight>> = BTreeMap::new();
    for flight in flights {
        lanes.entry(flight.carrier.clone()).or_default().push(flight);
    }
    let mut tasks = JoinSet::new();
    for flights in lanes.into_values() {
        let demo = Arc::clone(demo);
        tasks.spawn(async move { lane(&demo, flights).await });
    }
    let mut all = Published::default();
    while let Some(lane) = tasks.join_next().await {
        let lane = lane.context("a publisher panicked")??;
        all.latencies.extend(lane.latencies);
        all.trace_id = lane.trace_id.or(all.trace_id);
    }
    all.latencies.sort();
    Ok(all)
}

async fn lane(demo: &Demo, flights: Vec<Flight>) -> anyhow::Result<Published> {
    let url = demo.broker(&format!("/v1/topics/{TOPIC}/messages"));
    let mut published = Published::default();
    for flight in flights {
        let start = Instant::now();
        let request = Request::post(&url)
            .header("x-key", &flight.carrier)
            // After a lost answer the repeat must not publish the flight twice.
            .header("idempotency-key", format!("flight-{}-{}", flight.carrier, flight.number))
            .json(&flight);
        let response = persist(&demo.http, &request).await.with_context(|| {
            format!("cannot publish flight {} of {}", flight.number, flight.carrier)
        })?;
        published.latencies.push(start.elapsed());
        if flight.late().is_some()
            && let Some(trace_id) = response.header("x-trace-id")
        {
            published.trace_id = Some(trace_id.to_owned());
        }
        demo.published.fetch_add(1, Ordering::Relaxed);
        demo.progress.inc(1);
    }
    Ok(published)
}
