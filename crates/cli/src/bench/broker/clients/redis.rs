//! `redis-benchmark`: `XADD` to one stream, with `-P` for batches.

use std::time::Duration;

use anyhow::Context;
use tokio::process::Command;

use super::super::super::report::{Counted, Sample};
use super::super::super::systems::Cluster;
use super::super::api;
use super::super::args::Peer;
use super::super::publish::Case;
use super::{Ended, fill, run};

pub(super) async fn publish(
    peer: &Peer,
    cluster: &Cluster,
    case: Case,
    window: Duration,
) -> anyhow::Result<Sample> {
    let step = u64::from(case.connections) * u64::from(case.batch);
    let trial = async |messages| {
        let ended = run(command(peer, cluster, case, messages), cluster).await?;
        Ok(parse(&ended.output)?.requests)
    };
    let messages = fill(window, step, trial).await?;
    let Ended { output, spent } = run(command(peer, cluster, case, messages), cluster).await?;
    let said = parse(&output)?;
    let length = Duration::from_secs_f64(messages as f64 / said.requests);
    Ok(Sample::of_client(&Counted { requests: messages as f64, length, ..said }, &spent))
}

/// All go to the primary.
fn command(peer: &Peer, cluster: &Cluster, case: Case, messages: u64) -> Command {
    let mut command = Command::new(&peer.client);
    let (host, port) = cluster.members[0].target.host_and_port();
    command
        .args(["-h", host, "-p", port, "--csv", "-n", &messages.to_string()])
        .args(["-c", &case.connections.to_string(), "-P", &case.batch.to_string()])
        .args(["XADD", "bench", "*", "data", &api::payload(0, case.size)]);
    command
}

/// `"test","rps","avg_latency_ms","min…","p50…","p95…","p99…","max…"`, and a line with these.
/// Requests are those of a second.
fn parse(output: &str) -> anyhow::Result<Counted> {
    let line = output.lines().rfind(|line| line.starts_with("\"XADD"));
    let line = line.context("redis-benchmark shows no figures")?;
    let figures: Vec<f64> =
        line.split(',').skip(1).filter_map(|field| field.trim_matches('"').parse().ok()).collect();
    let [per_second, _, _, p50_ms, _, p99_ms, max_ms] =
        figures[..].try_into().context("redis-benchmark shows other figures than those of 7.0")?;
    Ok(Counted { requests: per_second, length: Duration::from_secs(1), p50_ms, p99_ms, max_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_redis_benchmark_are_read() {
        let output = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\
                      \"p99_latency_ms\",\"max_latency_ms\"\n\
                      \"XADD bench * data wId/Ip\",\"6430.87\",\"9.317\",\"0.784\",\"8.079\",\"19.519\",\"23.263\",\"32.175\"\n";
        let counted = parse(output).unwrap();
        assert_eq!(counted.requests, 6430.87);
        assert_eq!((counted.p50_ms, counted.p99_ms, counted.max_ms), (8.079, 23.263, 32.175));
        assert!(parse("Could not connect").is_err());
    }
}
