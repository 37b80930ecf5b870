//! NATS servers with JetStream that sync every message.

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
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    // Only its ports are used.
    let ports = Cluster::new(directory, launcher.port_offset)?;
    let nodes: Vec<Node> =
        (1..=nodes).map(|number| Node { service: Service::Broker, number }).collect();
    nodes.iter().map(|&node| member(launcher, &ports, node, &nodes)).collect()
}

fn member(
    launcher: &Launcher,
    ports: &Cluster,
    node: Node,
    all: &[Node],
) -> anyhow::Result<Member> {
    let name = format!("nats-{}", node.number);
    let directory = ports.data.join(&name);
    let file = ports.data.join(format!("{name}.conf"));
    fs::write(&file, configuration(ports, node, all))
        .with_context(|| format!("cannot write {}", file.display()))?;
    let process = Process::start(Spec {
        binary: launcher.program(System::Nats)?,
        arguments: vec!["-c".to_owned(), file.to_string_lossy().into_owned()],
        environment: Vec::new(),
        log: ports.data.join(format!("{name}.log")),
        pid_file: launcher.pid_file(&name),
        directory,
        name,
    })?;
    Ok(Member { target: Target::parse(&ports.url(node))?, process: Some(process) })
}

fn configuration(ports: &Cluster, node: Node, all: &[Node]) -> String {
    let (name, port) = (format!("nats-{}", node.number), ports.port(node));
    let store = ports.data.join(&name);
    let mut text = format!(
        "server_name: {name}\nlisten: \"127.0.0.1:{port}\"\n\
         jetstream {{ store_dir: \"{}\", sync_interval: always }}\n",
        store.display()
    );
    if 1 < all.len() {
        let routes: Vec<String> = all
            .iter()
            .map(|&node| format!("\"nats://127.0.0.1:{}\"", ports.peer_port(node)))
            .collect();
        let listen = ports.peer_port(node);
        text += &format!(
            "cluster {{ name: bench, listen: \"127.0.0.1:{listen}\", routes: [{}] }}\n",
            routes.join(", ")
        );
    }
    text
}
