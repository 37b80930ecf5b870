//! Coordinators or brokers, configured as `quartet up` does.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

use super::process::Spec;
use super::{Launcher, Member, Process};
use crate::bench::load::Target;
use crate::cluster::{Cluster, Node, Service, config, up};

pub(super) fn start(
    launcher: &Launcher,
    directory: &Path,
    service: Service,
    nodes: u16,
) -> anyhow::Result<Vec<Member>> {
    let cluster = Cluster::new(directory, launcher.port_offset)?;
    let binary = cluster.binary(service);
    if !binary.exists() {
        bail!(
            "{} is missing: `quartet` starts the services that lie beside it; scripts/bench builds both",
            binary.display()
        );
    }
    for name in ["config", "log"] {
        fs::create_dir_all(directory.join(name))
            .with_context(|| format!("cannot create {}", directory.join(name).display()))?;
    }
    let plan = up::Plan::new(nodes, None, &[service])?;
    plan.nodes.iter().map(|&node| member(launcher, &cluster, node, &plan)).collect()
}

fn member(
    launcher: &Launcher,
    cluster: &Cluster,
    node: Node,
    plan: &up::Plan,
) -> anyhow::Result<Member> {
    config::write_file(cluster, node, plan)?;
    let process = Process::start(Spec {
        name: node.name(),
        binary: cluster.binary(node.service),
        arguments: vec![
            "--config".to_owned(),
            cluster.config_file(node).to_string_lossy().into_owned(),
        ],
        environment: Vec::new(),
        directory: cluster.data_dir(node),
        log: cluster.log_file(node),
        pid_file: launcher.pid_file(&node.name()),
    })?;
    Ok(Member { target: Target::parse(&cluster.url(node))?, process: Some(process) })
}
