//! `nats bench js pub`: `sync` waits for every message, `fast` sends batches. Its `async` is slower where
//! every message is synced, and `atomic` fails with this many clients on three nodes.

use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::super::super::report::{Counted, Sample};
use super::super::super::systems::Cluster;
use super::super::args::Peer;
use super::super::publish::Case;
use super::{Ended, fill, run};

/// The servers of a cluster answer before they can make streams.
const FOUNDING: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);
/// Of one publish. Its own default of 5 s is short for a batch that syncs message by message.
const TIMEOUT: &str = "60s";

pub(super) async fn publish(
    peer: &Peer,
    cluster: &Cluster,
    case: Case,
    window: Duration,
) -> anyhow::Result<Sample> {
    let step = u64::from(case.connections) * u64::from(case.batch);
    create(peer, cluster, case).await?;
    let trial = async |messages| {
        let ended = run(command(peer, cluster, case, messages, &stream(case)), cluster).await?;
        Ok(parse(&ended.output)?.requests)
    };
    let messages = fill(window, step, trial).await?;
    let Ended { output, spent } =
        run(command(peer, cluster, case, messages, &stream(case)), cluster).await?;
    let said = parse(&output)?;
    let length = Duration::from_secs_f64(messages as f64 / said.requests);
    Ok(Sample::of_client(&Counted { requests: messages as f64, length, ..said }, &spent))
}

/// With one request, which makes the stream.
async fn create(peer: &Peer, cluster: &Cluster, case: Case) -> anyhow::Result<()> {
    let one = Case { connections: 1, ..case };
    let (stream, began) = (stream(case), Instant::now());
    loop {
        let mut command = command(peer, cluster, one, one.batch.into(), &stream);
        let replicas = cluster.members.len();
        command.args(["--create", "--storage", "file", "--replicas", &replicas.to_string()]);
        match run(command, cluster).await {
            Ok(_) => return Ok(()),
            Err(error) => {
                ensure!(began.elapsed() < FOUNDING, "the stream {stream} is not made: {error:#}");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Streams may not share subjects.
fn stream(case: Case) -> String {
    format!("bench-{}-{}", case.size, case.batch)
}

fn command(peer: &Peer, cluster: &Cluster, case: Case, messages: u64, stream: &str) -> Command {
    let servers: Vec<String> =
        cluster.members.iter().map(|member| format!("nats://{}", member.target)).collect();
    let mut command = Command::new(&peer.client);
    command.args(["--no-context", "--server", &servers.join(","), "--timeout", TIMEOUT]);
    command.args(["bench", "js", "pub"]);
    if case.batch == 1 {
        command.arg("sync");
    } else {
        command.args(["fast", "--batch", &case.batch.to_string()]);
    }
    command
        .args([stream, "--stream", stream, "--no-progress", "--msgs", &messages.to_string()])
        .args(["--clients", &case.connections.to_string(), "--size", &case.size.to_string()]);
    command
}

/// `… aggregated stats: 1,540 msgs/sec ~ …` and `latencies per operation min 529.08us | … |
/// max 391,281.88us | … | P50 95,783.29us | P90 … | P99 385,010.69us | …`. Of one client alone
/// there is no line of several. Requests are those of a second.
fn parse(output: &str) -> anyhow::Result<Counted> {
    let stats = output.lines().find(|line| line.contains(" stats: "));
    let per_second = stats.and_then(|line| number_after(line, "stats: "));
    let requests = per_second.context("nats bench shows no rate")?;
    let latency = |name: &str| {
        let line = output.lines().find(|line| line.contains("latencies per operation "));
        line.and_then(|line| number_after(line, name)).map_or(f64::NAN, |us| us / 1e3)
    };
    let (p50_ms, p99_ms, max_ms) = (latency("| P50 "), latency("| P99 "), latency("| max "));
    Ok(Counted { requests, length: Duration::from_secs(1), p50_ms, p99_ms, max_ms })
}

/// With commas at the thousands.
fn number_after(line: &str, before: &str) -> Option<f64> {
    let (_, rest) = line.split_once(before)?;
    let is_part = |c: char| c.is_ascii_digit() || c == '.' || c == ',';
    let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    rest[..end].replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_nats_bench_are_read() {
        let output = " NATS JetStream synchronous publisher aggregated stats: 1,540 msgs/sec ~ 135 KiB/sec\n \
                      message rates min 8 | avg 8 | max 8 | stddev 0 msgs\n \
                      latencies per operation min 529.08us | avg 117,952.51us | max 391,281.88us | \
                      stddev 148,405.41us | P50 95,783.29us | P90 250,598.28us | P99 385,010.69us | P99.9: 390,701.90us\n";
        let counted = parse(output).unwrap();
        assert_eq!(counted.requests, 1_540.0);
        assert_eq!((counted.p50_ms, counted.p99_ms), (95.783_29, 385.010_69));
        assert_eq!(counted.max_ms, 391.281_88);
        assert!(parse("nats: error: no servers").is_err());
    }
}
