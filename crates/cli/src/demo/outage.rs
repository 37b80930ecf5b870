//! The crash: SIGKILL to the broker half way through, and a new start a moment later.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, sleep};

use super::{BROKER, Demo};
use crate::cluster::{process, ready};

/// How long the broker stays away, so that publishers and workers run into it.
const AWAY: Duration = Duration::from_millis(500);

/// Kills the broker when half of the flights are published. Returns how long it was away.
pub(crate) async fn half_way(demo: &Demo, flights: u64) -> anyhow::Result<Duration> {
    while demo.published.load(Ordering::Relaxed) < flights / 2 {
        sleep(Duration::from_millis(5)).await;
    }
    let start = Instant::now();
    process::kill(&demo.cluster, BROKER).await?;
    say(demo, "broker-1 was killed (SIGKILL), publishers and workers go on trying");
    sleep(AWAY).await;
    let mut child = process::start(&demo.cluster, BROKER)?;
    ready::wait(&demo.http, &demo.cluster, BROKER, Some(&mut child))
        .await
        .context("the broker does not come back")?;
    let away = start.elapsed();
    say(demo, &format!("broker-1 is back after {} ms", away.as_millis()));
    Ok(away)
}

fn say(demo: &Demo, text: &str) {
    if demo.progress.is_hidden() {
        crate::output::note!("  {text}");
    } else {
        demo.progress.println(format!("  {text}"));
    }
}
