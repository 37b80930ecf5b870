//! Redis with an append-only file that is synced before every answer. The first node is the
//! primary; the others follow it, which no write waits for.

use std::fs;
use std::path::Path;

use anyhow::Context;

use super::process::Spec;
use super::{Launcher, Member, Process, System};
use crate::bench::load::Target;
use crate::cluster::{Cluster, Node, Service};

pub(super) fn start(
    launcher: &Launcher,
    directory: &Path,
    nodes: u16,
) -> anyhow::Result<Vec<Member>> {
    // Only its ports are used.
    let ports = Cluster::new(directory, launcher.port_offset)?;
    (1..=nodes).map(|number| member(launcher, &ports, number)).collect()
}

fn member(launcher: &Launcher, ports: &Cluster, number: u16) -> anyhow::Result<Member> {
    let node = |number| Node { service: Service::Broker, number };
    let name = format!("redis-{number}");
    let directory = ports.data.join(&name);
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let mut arguments: Vec<String> = [
        ("port", ports.port(node(number)).to_string()),
        ("bind", "127.0.0.1".to_owned()),
        ("dir", directory.to_string_lossy().into_owned()),
        ("appendonly", "yes".to_owned()),
        ("appendfsync", "always".to_owned()),
        ("save", String::new()),
    ]
    .into_iter()
    .flat_map(|(name, value)| [format!("--{name}"), value])
    .collect();
    if number != 1 {
        let port = ports.port(node(1)).to_string();
        arguments.extend(["--replicaof".to_owned(), "127.0.0.1".to_owned(), port]);
    }
    let process = Process::start(Spec {
        binary: launcher.program(System::Redis)?,
        arguments,
        environment: Vec::new(),
        log: ports.data.join(format!("{name}.log")),
        pid_file: launcher.pid_file(&name),
        directory,
        name,
    })?;
    Ok(Member { target: Target::parse(&ports.url(node(number)))?, process: Some(process) })
}
