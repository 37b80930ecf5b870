//! `quartet bench`: how fast is it, at what cost, and against what?
//!
//! Every system gets the same load from the same generator on the same machine and the same disk,
//! one system at a time and in turns, so that what else goes on here hits all alike. What is
//! reported is the median of several runs, with the CPU time of the servers and of the generator.
//!
//! `load` knows no system and `systems` no load; a file per service of Quartet brings the two
//! together and says which figures are wanted.
//!
//! **Invariant:** both sides of a comparison acknowledge a write under the same promise, which
//! stands in the report.
//! **Invariant:** nothing runs on after the end, however that comes about.

pub(crate) mod args;

mod events;
mod load;
mod v3;

mod cpu;
mod host;
mod systems;

mod bar;
mod report;

mod broker;
mod coordinator;

use tokio::signal::unix::{SignalKind, signal};

use crate::output::{Output, say};
use anyhow::Context;
use args::BenchCommand;
use systems::{Cluster, System};

/// What was measured, of which version, and what its acknowledgements promise.
#[derive(Clone, PartialEq, serde::Serialize)]
struct SystemInfo {
    system: System,
    version: String,
    durability: &'static str,
}

impl SystemInfo {
    fn remember(cluster: &Cluster, known: &mut Vec<Self>) {
        let info = Self {
            system: cluster.system,
            version: cluster.version.clone(),
            durability: cluster.system.durability(),
        };
        if !known.contains(&info) {
            known.push(info);
        }
    }

    fn print(all: &[Self]) {
        for info in all {
            say!("{} {}: {}", info.system.name(), info.version, info.durability);
        }
    }
}

/// Measures until done, or until Ctrl-C or SIGTERM.
pub(crate) async fn run(
    command: BenchCommand,
    port_offset: u16,
    output: Output,
) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => (),
            _ = terminate.recv() => (),
        }
    };
    match command {
        BenchCommand::Coordinator(args) => coordinator::run(args, port_offset, output, stop).await,
        BenchCommand::Broker(args) => broker::run(args, port_offset, output, stop).await,
    }
}
