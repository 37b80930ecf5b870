//! `quartet bench broker`: the same work on brokers, RabbitMQ, NATS JetStream and Redis Streams.
//!
//! Each peer is driven by its usual client, ours by HTTP. Where no peer is named, the figure stands
//! for itself.

pub(crate) mod args;

mod api;
mod clients;
mod table;

mod backlog;
mod cycle;
mod failover;
mod fanout;
mod publish;
mod topics;

mod bars;

use anyhow::{Context, bail};
use serde::Serialize;

use super::SystemInfo;
use super::bar::{self, Bar};
use super::host::Machine;
use super::systems::{Cluster, Launcher, System};
use crate::cluster::{self, Node, Service};
use crate::output::{Output, note, say};
use args::{BrokerArgs, Part, Peer};

/// Everything that was found out. What `--output json` prints.
#[derive(Serialize)]
struct Report {
    machine: Machine,
    systems: Vec<SystemInfo>,
    publish: Vec<table::Row>,
    cycle: Vec<table::Row>,
    topics: Vec<topics::Topics>,
    backlog: Option<backlog::Backlog>,
    fanout: Option<fanout::Fanout>,
    failover: Option<failover::Failover>,
    bars: Vec<Bar>,
}

/// Where the systems come from, and which ones were there.
struct Source {
    launcher: Launcher,
    peers: Vec<Peer>,
    known: Vec<SystemInfo>,
}

pub(crate) async fn run(
    args: BrokerArgs,
    port_offset: u16,
    output: Output,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let data = std::path::absolute(&args.data)
        .with_context(|| format!("cannot make {} an absolute path", args.data.display()))?;
    let machine = Machine::look(&data);
    machine.check(&data)?;
    let peers = args.peers();
    let programs = peers.iter().map(|peer| (peer.system, peer.server.clone())).collect();
    let launcher = Launcher { directory: data, port_offset, programs };
    check_ports(&launcher)?;
    let mut source = Source { launcher, peers, known: Vec::new() };
    let report = tokio::select! {
        report = measure(&args, &mut source, machine) => Some(report),
        // Dropping the work kills the servers, and the clients.
        () = stop => None,
    };
    if let Some(Err(_)) = &report {
        note!("logs and data are kept in {}", source.launcher.directory.display());
    } else {
        source.launcher.clean_up().await?;
    }
    let mut report = report.context("interrupted")??;
    report.bars = bars::judge(&report);
    match output {
        Output::Json => output.json(&report),
        Output::Table => {
            report.print();
            Ok(())
        }
    }
}

/// Those of the brokers serve all; RabbitMQ needs one more.
fn check_ports(launcher: &Launcher) -> anyhow::Result<()> {
    let ports = cluster::Cluster::new(&launcher.directory, launcher.port_offset)?;
    let nodes: Vec<Node> = Node::all()
        .filter(|node| match node.service {
            Service::Broker => true,
            Service::Coordinator => node.number == 1,
            Service::Replica | Service::Gateway => false,
        })
        .collect();
    cluster::ports::check_free(&ports, &nodes)
}

async fn measure(
    args: &BrokerArgs,
    source: &mut Source,
    machine: Machine,
) -> anyhow::Result<Report> {
    if let Some(nodes) = args.nodes.iter().find(|nodes| !matches!(nodes, 1 | 3)) {
        bail!("--nodes {nodes}: brokers are measured with 1 or 3 nodes");
    }
    let mut report = Report {
        machine,
        systems: Vec::new(),
        publish: Vec::new(),
        cycle: Vec::new(),
        topics: Vec::new(),
        backlog: None,
        fanout: None,
        failover: None,
        bars: Vec::new(),
    };
    if args.wants(Part::Publish) {
        report.publish = publish::measure(args, source).await?;
    }
    if args.wants(Part::Cycle) {
        report.cycle = cycle::measure(args, source).await?;
    }
    if args.wants(Part::Topics) {
        report.topics = topics::measure(args, source).await?;
    }
    if args.wants(Part::Backlog) {
        report.backlog = backlog::measure(args, source).await?;
    }
    if args.wants(Part::Fanout) {
        report.fanout = Some(fanout::measure(args, source).await?);
    }
    if args.wants(Part::Failover) {
        report.failover = Some(failover::measure(args, source).await?);
    }
    report.systems.clone_from(&source.known);
    Ok(report)
}

impl Source {
    /// What is measured in this run, in turns: nobody always has the machine as the other left it.
    fn systems(&self, run: u8) -> Vec<System> {
        let peers = self.peers.iter().map(|peer| peer.system);
        let mut systems: Vec<System> = [System::Quartet].into_iter().chain(peers).collect();
        if run.is_multiple_of(2) {
            systems.reverse();
        }
        systems
    }

    /// `None`: it is Quartet.
    fn peer(&self, system: System) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.system == system)
    }

    async fn start(&mut self, system: System, nodes: u16) -> anyhow::Result<Cluster> {
        let cluster = self.launcher.start_brokers(system, nodes).await?;
        SystemInfo::remember(&cluster, &mut self.known);
        Ok(cluster)
    }
}

impl Report {
    fn print(&self) {
        self.machine.print();
        SystemInfo::print(&self.systems);
        if !self.publish.is_empty() {
            say!(
                "\nPublishing to one topic, queue or stream, closed loop. QUARTET: its rate as a multiple of this one; \
                 OTHERS: cores in use by something else"
            );
            table::print(&self.publish);
        }
        if !self.cycle.is_empty() {
            say!("\nA queue at work: acknowledged messages; the time is from sending to receiving");
            table::print(&self.cycle);
        }
        if !self.topics.is_empty() {
            say!("\nMany topics written at once, one node");
            topics::print(&self.topics);
        }
        if let Some(one) = &self.backlog {
            say!("\nA queue with many messages, one node");
            backlog::print(one);
        }
        if let Some(one) = &self.fanout {
            say!("\nReaders of one topic over SSE, one node: time from publishing to reading");
            fanout::print(one);
        }
        if let Some(one) = &self.failover {
            say!(
                "\nThe leader of three is killed (SIGKILL): time until the next publish is acknowledged"
            );
            failover::print(one);
        }
        if !self.bars.is_empty() {
            say!("");
            bar::print(&self.bars);
        }
    }
}
