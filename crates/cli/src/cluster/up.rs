//! `quartet up`: starts the processes in order, each gated on the health of those before it.

use std::fs;
use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::future::try_join_all;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Cluster, Node, Service, banner, config, down, ports, process, ready};
use crate::http::Http;
use crate::output::Output;

/// What to run, checked.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: Vec<Node>,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`, for the configuration files: a process that is started by hand traces, too.
    pub(crate) otlp: Option<String>,
}

impl Plan {
    /// One node of each service, or three of each that can be several in this version.
    pub(crate) fn new(nodes: u16, replicas: Option<u16>, only: &[Service]) -> anyhow::Result<Self> {
        if nodes != 1 && nodes != 3 {
            bail!("--nodes {nodes}: a local cluster has 1 or 3 nodes");
        }
        let replicas = replicas.unwrap_or(nodes);
        let nodes = Node::all()
            .filter(|node| only.is_empty() || only.contains(&node.service))
            .filter(|node| match node.service {
                Service::Replica => node.number <= replicas,
                Service::Coordinator | Service::Broker => node.number <= nodes,
                Service::Gateway => node.number == 1,
            })
            .collect();
        Ok(Self { nodes, otlp: None })
    }
}

/// Runs until Ctrl-C or SIGTERM; with `detach`, returns when every process is ready.
pub(crate) async fn run(
    cluster: &Cluster,
    plan: &Plan,
    detach: bool,
    output: Output,
) -> anyhow::Result<()> {
    // Before anything else: what runs already goes on running.
    check_members(cluster, plan)?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut stop = async || {
        tokio::select! {
            _ = interrupt.recv() => (),
            _ = terminate.recv() => (),
        }
    };

    let started = tokio::select! {
        started = start(cluster, plan) => started,
        () = stop() => Err(anyhow::anyhow!("interrupted before the cluster was ready")),
    };
    let children = match started {
        Ok(children) => children,
        Err(error) => {
            down::stop_all(cluster).await?;
            return Err(error);
        }
    };
    banner::print(cluster, plan, detach, output)?;
    if detach {
        return Ok(());
    }
    tokio::select! {
        () = watch(cluster, children) => (),
        () = stop() => (),
    }
    crate::output::note!("");
    down::stop_all(cluster).await
}

/// Starts what does not run yet and returns when all of it is ready.
pub(crate) async fn start(cluster: &Cluster, plan: &Plan) -> anyhow::Result<Vec<(Node, Child)>> {
    prepare(cluster, plan)?;
    let down: Vec<Node> = plan
        .nodes
        .iter()
        .copied()
        .filter(|&node| process::running(cluster, node).is_none())
        .collect();
    ports::check_free(cluster, &down)?;

    let progress = Progress::new();
    let http = Http::default();
    let mut children = Vec::new();
    // The others register with the coordinator, and the gateway finds them through it.
    for wave in
        [&[Service::Coordinator][..], &[Service::Broker, Service::Replica], &[Service::Gateway]]
    {
        let mut starting = Vec::new();
        for &node in plan.nodes.iter().filter(|node| wave.contains(&node.service)) {
            let since = Instant::now();
            let child =
                if down.contains(&node) { Some(process::start(cluster, node)?) } else { None };
            starting.push((node, child, progress.begin(node), since));
        }
        let (http, progress) = (&http, &progress);
        let ready = starting.into_iter().map(|(node, mut child, bar, since)| async move {
            ready::wait(http, cluster, node, child.as_mut()).await?;
            progress.ready(cluster, node, &bar, child.is_some().then(|| since.elapsed()));
            anyhow::Ok(child.map(|child| (node, child)))
        });
        children.extend(try_join_all(ready).await?.into_iter().flatten());
    }
    Ok(children)
}

/// Founders of a cluster have to begin together: data of one that ran alone stands in their way.
fn check_members(cluster: &Cluster, plan: &Plan) -> anyhow::Result<()> {
    for service in [Service::Coordinator, Service::Broker] {
        let has_data = |number| {
            let node = Node { service, number };
            cluster.data_dir(node).join("wal").exists()
        };
        let planned = plan.nodes.iter().filter(|node| node.service == service).count();
        let with_data = (1..=Node::MAX_PER_SERVICE).filter(|number| has_data(*number)).count();
        if 0 < planned && 0 < with_data && planned != with_data {
            bail!(
                "{} holds the data of {with_data} {}(s) and {planned} are to run; use another \
                 --data, or `quartet down --wipe` if it is not needed any more",
                cluster.data.display(),
                service.name()
            );
        }
    }
    Ok(())
}

/// Directories, configuration files and scripts.
fn prepare(cluster: &Cluster, plan: &Plan) -> anyhow::Result<()> {
    for directory in ["run", "log", "config"].map(|name| cluster.data.join(name)) {
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
    }
    for &node in &plan.nodes {
        let binary = cluster.binary(node.service);
        if !binary.exists() {
            bail!(
                "{} is missing: `quartet` starts the services that lie beside it; build them with `cargo build --bins`, or use scripts/up",
                binary.display()
            );
        }
        config::write_file(cluster, node, plan)?;
        process::write_script(cluster, node)?;
    }
    Ok(())
}

/// Reaps the children and tells when one ended by itself. Never ends while anybody may come back.
async fn watch(cluster: &Cluster, children: Vec<(Node, Child)>) {
    let mut ends = JoinSet::new();
    for (node, mut child) in children {
        ends.spawn(async move { (node, child.wait().await) });
    }
    while let Some(end) = ends.join_next().await {
        let Ok((node, status)) = end else { continue };
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        crate::output::note!(
            "{} ended ({how}); start it again with {} or `quartet up`; its log: {}",
            node.name(),
            cluster.script(node).display(),
            cluster.log_file(node).display()
        );
    }
    // Processes started by script are nobody's children; the terminal stays theirs until Ctrl-C.
    std::future::pending().await
}

/// A spinner per process on a terminal, else a line per process.
struct Progress {
    bars: Option<MultiProgress>,
}

impl Progress {
    fn new() -> Self {
        Self { bars: std::io::stderr().is_terminal().then(MultiProgress::new) }
    }

    fn begin(&self, node: Node) -> ProgressBar {
        let Some(bars) = &self.bars else { return ProgressBar::hidden() };
        let bar = bars.add(ProgressBar::new_spinner());
        bar.set_style(
            ProgressStyle::with_template("  {spinner} {prefix:<14} {msg}")
                .expect("the template names known fields only"),
        );
        bar.set_prefix(node.name());
        bar.set_message("starting");
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }

    fn ready(&self, cluster: &Cluster, node: Node, bar: &ProgressBar, took: Option<Duration>) {
        let how = took.map_or_else(
            || "was running already".to_owned(),
            |took| format!("ready in {} ms", took.as_millis()),
        );
        if self.bars.is_some() {
            bar.finish_with_message(how);
        } else {
            crate::output::note!("  {:<14} {:<24} {how}", node.name(), cluster.url(node));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(plan: &Plan) -> Vec<String> {
        plan.nodes.iter().map(|node| node.name()).collect()
    }

    #[test]
    fn one_of_each_unless_told_otherwise() {
        let plan = Plan::new(1, None, &[]).unwrap();
        assert_eq!(names(&plan), ["coordinator-1", "broker-1", "replica-1", "gateway-1"]);
    }

    #[test]
    fn replicas_and_only_go_together() {
        let plan = Plan::new(1, Some(3), &[Service::Replica]).unwrap();
        assert_eq!(names(&plan), ["replica-1", "replica-2", "replica-3"]);
    }

    #[test]
    fn three_nodes_are_three_of_each_service_that_can_be_several() {
        let plan = Plan::new(3, None, &[]).unwrap();
        let coordinators = ["coordinator-1", "coordinator-2", "coordinator-3"];
        assert_eq!(names(&plan)[..3], coordinators);
        assert_eq!(names(&plan)[3..6], ["broker-1", "broker-2", "broker-3"]);
        assert_eq!(names(&plan)[6..], ["replica-1", "replica-2", "replica-3", "gateway-1"]);
        let error = Plan::new(2, None, &[]).unwrap_err().to_string();
        assert!(error.contains("1 or 3"), "{error}");
    }
}
