//! The usual client of each peer, which makes the load on it and says how it went.

mod nats;
mod perf_test;
mod redis;

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::super::cpu::Clocks;
use super::super::report::{CpuSpent, Sample};
use super::super::systems::{Cluster, System};
use super::args::Peer;
use super::cycle::CycleCase;
use super::publish::Case;

/// A client that takes longer hangs.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(180);
/// How often to look at the client: what it used last is known to so much.
const LOOK: Duration = Duration::from_millis(10);
/// How many times as long every measurement is than the one that finds out how long it takes.
const TRIAL_SHARE: u32 = 4;
/// A trial that was too short is repeated with so many times as many messages.
const TRIAL_GROWTH: u64 = 4;

/// The client's name, for the table.
pub(super) const fn name(system: System) -> &'static str {
    match system {
        System::RabbitMq => "perf-test",
        System::Nats => "nats bench",
        System::Redis => "redis-benchmark",
        System::Quartet | System::Etcd | System::Nginx => "HTTP",
    }
}

pub(super) async fn publish(
    peer: &Peer,
    cluster: &Cluster,
    case: Case,
    window: Duration,
) -> anyhow::Result<Sample> {
    match peer.system {
        System::RabbitMq => perf_test::publish(peer, cluster, case, window).await,
        System::Nats => nats::publish(peer, cluster, case, window).await,
        System::Redis => redis::publish(peer, cluster, case, window).await,
        System::Quartet | System::Etcd | System::Nginx => bail!("it has no client of its own"),
    }
}

/// `None`: its client does not measure that.
pub(super) async fn cycle(
    peer: &Peer,
    cluster: &Cluster,
    case: CycleCase,
    window: Duration,
) -> anyhow::Result<Option<Sample>> {
    if peer.system != System::RabbitMq {
        return Ok(None);
    }
    perf_test::cycle(peer, cluster, case, window).await.map(Some)
}

fn spawn(mut command: Command) -> anyhow::Result<(Child, u32)> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C reaches us alone; we end it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", command.as_std().get_program().display()))?;
    let pid = child.id().context("a child that was just started has a pid")?;
    Ok((child, pid))
}

/// What a client said that has ended by itself.
struct Ended {
    output: String,
    spent: CpuSpent,
}

async fn run(command: Command, cluster: &Cluster) -> anyhow::Result<Ended> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let (child, pid) = spawn(command)?;
    let (began, before) = (Instant::now(), Clocks::read(cluster, 0, pid));
    // Once it has ended, nobody knows any more what it used.
    let mut after = before.clone();
    let ended = child.wait_with_output();
    tokio::pin!(ended);
    let ended = loop {
        tokio::select! {
            ended = &mut ended => break ended.with_context(|| format!("{program} is lost"))?,
            () = sleep(LOOK) => after = Clocks::read(cluster, 0, pid),
        }
        if CLIENT_TIMEOUT < began.elapsed() {
            bail!("{program} does not end within {CLIENT_TIMEOUT:?}");
        }
    };
    let output = String::from_utf8_lossy(&ended.stdout).into_owned();
    let errors = String::from_utf8_lossy(&ended.stderr);
    ensure!(
        ended.status.success(),
        "{program} fails ({}): {}",
        ended.status,
        errors.lines().chain(output.lines()).last().unwrap_or_default()
    );
    Ok(Ended { output: output + &errors, spent: after.since(&before) })
}

/// How many messages fill the window: clients that count messages are tried with few of them first.
async fn fill(
    window: Duration,
    step: u64,
    mut trial: impl AsyncFnMut(u64) -> anyhow::Result<f64>,
) -> anyhow::Result<u64> {
    let mut messages = step;
    loop {
        let rate = trial(messages).await?;
        ensure!(0.0 < rate, "it took nothing");
        if window / TRIAL_SHARE < Duration::from_secs_f64(messages as f64 / rate) {
            let wanted = rate * window.as_secs_f64();
            return Ok((wanted as u64).div_ceil(step).max(1) * step);
        }
        messages *= TRIAL_GROWTH;
    }
}
