//! RabbitMQ's PerfTest, which reports at intervals: the first warms it up, the second is what
//! counts.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use super::super::super::cpu::Clocks;
use super::super::super::report::{Counted, Sample};
use super::super::super::systems::Cluster;
use super::super::args::Peer;
use super::super::cycle::{CycleCase, WORKERS};
use super::super::publish::Case;
use super::{CLIENT_TIMEOUT, spawn};

const MAIN: &str = "com.rabbitmq.perf.PerfTest";

/// What to look for in a report.
#[derive(Clone, Copy)]
struct Fields {
    rate: &'static str,
    latency: &'static str,
}

pub(super) async fn publish(
    peer: &Peer,
    cluster: &Cluster,
    case: Case,
    window: Duration,
) -> anyhow::Result<Sample> {
    let queue = format!("publish-{}-{}", case.size, case.batch);
    let mut command = command(peer, cluster, &queue, window);
    command.args(["--producers", &case.connections.to_string(), "--consumers", "0"]).args([
        "--confirm",
        &case.batch.to_string(),
        "--size",
        &case.size.to_string(),
    ]);
    run(command, cluster, Fields { rate: "confirmed: ", latency: "confirm latency: " }).await
}

pub(super) async fn cycle(
    peer: &Peer,
    cluster: &Cluster,
    case: CycleCase,
    window: Duration,
) -> anyhow::Result<Sample> {
    let queue = format!("cycle-{}", case.at_once);
    let mut command = command(peer, cluster, &queue, window);
    command
        .args(["--producers", &WORKERS.to_string(), "--consumers", &WORKERS.to_string()])
        .args(["--confirm", "1", "--size", &case.size.to_string()])
        .args(["--qos", &case.at_once.to_string()]);
    if 1 < case.at_once {
        command.args(["--multi-ack-every", &case.at_once.to_string()]);
    }
    run(command, cluster, Fields { rate: "received: ", latency: "consumer latency: " }).await
}

fn command(peer: &Peer, cluster: &Cluster, queue: &str, window: Duration) -> Command {
    let uris: Vec<String> =
        cluster.members.iter().map(|member| format!("amqp://{}", member.target)).collect();
    let seconds = window.as_secs();
    let mut command = Command::new("java");
    command
        .arg("-cp")
        .arg(peer.client.join("*"))
        .args([MAIN, "--uris", &uris.join(","), "--quorum-queue", "--queue", queue])
        .args(["--flag", "persistent", "--interval", &seconds.to_string()])
        // We end it; this is for when we cannot.
        .args(["--time", &(3 * seconds + CLIENT_TIMEOUT.as_secs()).to_string()]);
    command
}

async fn run(command: Command, cluster: &Cluster, fields: Fields) -> anyhow::Result<Sample> {
    let (mut child, pid) = spawn(command)?;
    let output = child.stdout.take().context("its output is piped")?;
    let mut lines = BufReader::new(output).lines();
    let measured = async {
        let mut begun: Option<(f64, Clocks)> = None;
        while let Some(line) = lines.next_line().await.context("its output breaks off")? {
            let Some(time) = number_after(&line, ", time ") else { continue };
            let now = Clocks::read(cluster, 0, pid);
            if let Some((begin, before)) = begun {
                let length = Duration::from_secs_f64((time - begin).max(f64::EPSILON));
                let counted = parse(&line, fields, length)?;
                return anyhow::Ok(Some(Sample::of_client(&counted, &now.since(&before))));
            }
            begun = Some((time, now));
        }
        Ok(None)
    };
    let sample = timeout(CLIENT_TIMEOUT, measured).await.context("PerfTest reports nothing")??;
    child.kill().await.context("PerfTest survives SIGKILL")?;
    if let Some(sample) = sample {
        return Ok(sample);
    }
    let mut errors = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut errors).await.context("its errors are no text")?;
    }
    bail!("PerfTest ends early: {}", errors.lines().next().unwrap_or_default())
}

/// `id: …, time 6.003 s, sent: 2812 msg/s, confirmed: 2813 msg/s, …,
/// min/median/75th/95th/99th confirm latency: 5481/20374/26308/35935/47373 µs`.
fn parse(line: &str, fields: Fields, length: Duration) -> anyhow::Result<Counted> {
    let rate = number_after(line, fields.rate).context("PerfTest shows no rate")?;
    let (_, latencies) = line.split_once(fields.latency).context("PerfTest shows no latency")?;
    let latencies: Vec<f64> = latencies
        .split([' ', ','])
        .next()
        .unwrap_or_default()
        .split('/')
        .filter_map(|figure| figure.parse().ok())
        .collect();
    let [_, median, _, _, p99] =
        latencies[..].try_into().context("PerfTest shows other latencies than those of 2.22")?;
    let requests = rate * length.as_secs_f64();
    Ok(Counted { requests, length, p50_ms: median / 1e3, p99_ms: p99 / 1e3, max_ms: f64::NAN })
}

fn number_after(line: &str, before: &str) -> Option<f64> {
    let (_, rest) = line.split_once(before)?;
    rest.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, fields: Fields, rate: f64, p50_ms: f64, p99_ms: f64) {
        let counted = parse(line, fields, Duration::from_secs(2)).unwrap();
        assert_eq!(
            (counted.requests, counted.p50_ms, counted.p99_ms),
            (2.0 * rate, p50_ms, p99_ms)
        );
    }

    #[test]
    fn reports_of_perf_test_are_read() {
        check(
            "id: t, time 6.003 s, sent: 2812 msg/s, confirmed: 2813 msg/s, nacked: 0 msg/s, \
             min/median/75th/95th/99th confirm latency: 5481/20374/26308/35935/47373 µs",
            Fields { rate: "confirmed: ", latency: "confirm latency: " },
            2_813.0,
            20.374,
            47.373,
        );
        check(
            "id: t, time 6.006 s, sent: 930 msg/s, confirmed: 930 msg/s, nacked: 0 msg/s, received: 935 msg/s, \
             min/median/75th/95th/99th consumer latency: 16106/72522/85318/111836/131412 µs, \
             confirm latency: 1824/14906/20727/32878/40155 µs",
            Fields { rate: "received: ", latency: "consumer latency: " },
            935.0,
            72.522,
            131.412,
        );
    }
}
