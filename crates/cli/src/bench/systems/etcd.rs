//! Three etcd servers with their defaults, on the ports that the coordinators have when it is
//! their turn.

use std::fs;
use std::path::Path;

use anyhow::Context;

use super::process::Spec;
use super::{Launcher, Member, NODES, Process, System};
use crate::bench::load::Target;
use crate::cluster::{Cluster, Node, Service};

/// Room for a million keys; the default of 2 GiB only makes it stop.
const QUOTA_BYTES: u64 = 8 << 30;

pub(super) fn start(launcher: &Launcher, directory: &Path) -> anyhow::Result<Vec<Member>> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    // Only its ports are used.
    let ports = Cluster::new(directory, launcher.port_offset)?;
    let nodes = (1..=NODES).map(|number| Node { service: Service::Coordinator, number });
    let peers: Vec<String> =
        nodes.clone().map(|node| format!("{}={}", name(node), peer_url(&ports, node))).collect();
    let peers = peers.join(",");
    nodes.map(|node| member(launcher, &ports, node, &peers)).collect()
}

fn name(node: Node) -> String {
    format!("etcd-{}", node.number)
}

fn peer_url(ports: &Cluster, node: Node) -> String {
    format!("http://127.0.0.1:{}", ports.peer_port(node))
}

fn member(launcher: &Launcher, ports: &Cluster, node: Node, peers: &str) -> anyhow::Result<Member> {
    let (name, url, peer_url) = (name(node), ports.url(node), peer_url(ports, node));
    let directory = ports.data.join(&name);
    let flags = [
        ("name", name.as_str()),
        ("data-dir", &directory.to_string_lossy()),
        ("listen-client-urls", &url),
        ("advertise-client-urls", &url),
        ("listen-peer-urls", &peer_url),
        ("initial-advertise-peer-urls", &peer_url),
        ("initial-cluster", peers),
        ("initial-cluster-state", "new"),
        ("logger", "zap"),
        ("log-level", "warn"),
        ("quota-backend-bytes", &QUOTA_BYTES.to_string()),
    ]
    .map(|(flag, value)| format!("--{flag}={value}"));
    let process = Process::start(Spec {
        binary: launcher.program(System::Etcd)?,
        arguments: flags.to_vec(),
        log: ports.data.join(format!("{name}.log")),
        pid_file: launcher.pid_file(&name),
        environment: Vec::new(),
        directory,
        name,
    })?;
    Ok(Member { target: Target::parse(&url)?, process: Some(process) })
}
