//! `quartet bench coordinator`: the same load on three coordinators and on three etcd servers.

mod bars;
mod capacity;
mod dataset;
mod failover;
mod operations;
mod throughput;
mod watchers;

use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;

use super::SystemInfo;
use super::args::{Against, CoordinatorArgs, Part};
use super::bar::{self, Bar};
use super::host::Machine;
use super::load::Target;
use super::report::{self, Row};
use super::systems::{Cluster, Launcher, Member, System};
use crate::cluster::{self, Node, Service};
use crate::output::{Output, note, say};

/// Everything that was found out. What `--output json` prints.
#[derive(Serialize)]
struct Report {
    machine: Machine,
    systems: Vec<SystemInfo>,
    /// Puts and gets.
    throughput: Vec<Row>,
    failover: Vec<failover::Failover>,
    watchers: Vec<watchers::Watching>,
    capacity: Vec<capacity::Capacity>,
    bars: Vec<Bar>,
}

/// Where the systems come from.
enum Source {
    /// Started for every run, without data.
    Launched(Launcher),
    /// Somebody else's.
    Running(Vec<String>),
}

pub(crate) async fn run(
    args: CoordinatorArgs,
    port_offset: u16,
    output: Output,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let data = std::path::absolute(&args.data)
        .with_context(|| format!("cannot make {} an absolute path", args.data.display()))?;
    let machine = Machine::look(&data);
    let source = Source::new(&args, data, port_offset, &machine)?;
    let report = tokio::select! {
        report = measure(&args, &source, machine) => Some(report),
        // Dropping the work kills the servers.
        () = stop => None,
    };
    match (&source, &report) {
        (Source::Launched(launcher), Some(Err(_))) => {
            note!("logs and data are kept in {}", launcher.directory.display());
        }
        (Source::Launched(launcher), _) => launcher.clean_up().await?,
        (Source::Running(_), _) => {}
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

async fn measure(
    args: &CoordinatorArgs,
    source: &Source,
    machine: Machine,
) -> anyhow::Result<Report> {
    let mut report = Report {
        machine,
        systems: Vec::new(),
        throughput: Vec::new(),
        failover: Vec::new(),
        watchers: Vec::new(),
        capacity: Vec::new(),
        bars: Vec::new(),
    };
    if args.wants(Part::Puts) || args.wants(Part::Gets) {
        report.throughput = throughput::measure(args, source, &mut report.systems).await?;
    }
    if args.wants(Part::Watchers) {
        report.watchers = watchers::measure(args, source, &mut report.systems).await?;
    }
    // The others need processes of ours.
    if matches!(source, Source::Running(_)) {
        return Ok(report);
    }
    if args.wants(Part::Failover) {
        report.failover = failover::measure(args, source, &mut report.systems).await?;
    }
    if args.wants(Part::Capacity) {
        report.capacity = capacity::measure(args, source, &mut report.systems).await?;
    }
    Ok(report)
}

impl Source {
    fn new(
        args: &CoordinatorArgs,
        directory: PathBuf,
        port_offset: u16,
        machine: &Machine,
    ) -> anyhow::Result<Self> {
        if !args.endpoints.is_empty() {
            return Ok(Self::Running(args.endpoints.clone()));
        }
        machine.check(&directory)?;
        let ports = cluster::Cluster::new(&directory, port_offset)?;
        let nodes: Vec<Node> =
            Node::all().filter(|node| node.service == Service::Coordinator).collect();
        cluster::ports::check_free(&ports, &nodes)?;
        let programs =
            [(System::Etcd, args.etcd.clone()), (System::Nginx, args.nginx.clone())].into();
        Ok(Self::Launched(Launcher { directory, port_offset, programs }))
    }

    /// What is measured, in turns.
    fn systems(&self, args: &CoordinatorArgs) -> Vec<System> {
        match (self, args.against) {
            (Self::Launched(_), Against::Etcd) => vec![System::Quartet, System::Etcd],
            _ => vec![System::Quartet],
        }
    }

    async fn start(&self, system: System, known: &mut Vec<SystemInfo>) -> anyhow::Result<Cluster> {
        let cluster = match self {
            Self::Launched(launcher) => launcher.start(system).await?,
            Self::Running(urls) => {
                let member = |url: &String| {
                    anyhow::Ok(Member { target: Target::parse(url)?, process: None })
                };
                Cluster::attach(system, urls.iter().map(member).collect::<Result<_, _>>()?).await?
            }
        };
        SystemInfo::remember(&cluster, known);
        Ok(cluster)
    }

    /// `None` where there is no nginx, or nothing of ours to compare it with on this machine.
    async fn start_nginx(
        &self,
        content: &str,
        known: &mut Vec<SystemInfo>,
    ) -> anyhow::Result<Option<Cluster>> {
        let Self::Launched(launcher) = self else { return Ok(None) };
        if !launcher.has_nginx() {
            note!("there is no nginx: no yardstick for reads");
            return Ok(None);
        }
        let cluster = launcher.start_nginx(content).await?;
        SystemInfo::remember(&cluster, known);
        Ok(Some(cluster))
    }
}

impl Report {
    fn print(&self) {
        self.machine.print();
        SystemInfo::print(&self.systems);
        if !self.throughput.is_empty() {
            say!(
                "\nPuts and gets: {}-byte values, closed loop; CPU time of all servers = leader + followers; \
                 OTHERS: cores in use by something else",
                dataset::VALUE_BYTES
            );
            report::print(&self.throughput);
        }
        if !self.failover.is_empty() {
            say!("\nThe leader is killed (SIGKILL): time until the next write is acknowledged");
            failover::print(&self.failover);
        }
        if !self.watchers.is_empty() {
            say!("\nWatchers of one prefix: time from a put to its event");
            watchers::print(&self.watchers);
        }
        if !self.capacity.is_empty() {
            say!("\nMemory and disk space of keys with {}-byte values", dataset::VALUE_BYTES);
            capacity::print(&self.capacity);
        }
        if !self.bars.is_empty() {
            say!("");
            bar::print(&self.bars);
        }
    }
}
