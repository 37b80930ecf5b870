//! RabbitMQ with its defaults, one Erlang node for each, and the port mapper that they find each
//! other by.

use std::fs;
use std::path::Path;

use anyhow::Context;

use super::process::Spec;
use super::{Launcher, Member, Process, System};
use crate::bench::load::Target;
use crate::cluster::{Cluster, Node, Service};

pub(super) struct Started {
    /// Erlang starts one by itself otherwise, which nobody ends.
    pub(super) epmd: Process,
    pub(super) members: Vec<Member>,
}

pub(super) fn start(launcher: &Launcher, directory: &Path, nodes: u16) -> anyhow::Result<Started> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    // Only its ports are used.
    let ports = Cluster::new(directory, launcher.port_offset)?;
    let epmd = epmd(launcher, &ports)?;
    let members = (1..=nodes)
        .map(|number| member(launcher, &ports, number, nodes))
        .collect::<Result<_, _>>()?;
    Ok(Started { epmd, members })
}

fn epmd_port(ports: &Cluster) -> u16 {
    ports.port(Node { service: Service::Coordinator, number: 1 })
}

fn epmd(launcher: &Launcher, ports: &Cluster) -> anyhow::Result<Process> {
    Process::start(Spec {
        name: "epmd".to_owned(),
        binary: "epmd".into(),
        arguments: vec!["-port".to_owned(), epmd_port(ports).to_string()],
        // Where somebody who cleans up recognises it.
        environment: vec![("HOME", ports.data.to_string_lossy().into_owned())],
        directory: ports.data.clone(),
        log: ports.data.join("epmd.log"),
        pid_file: launcher.pid_file("epmd"),
    })
}

fn erlang_name(number: u16) -> String {
    format!("rabbit-{number}@localhost")
}

fn member(launcher: &Launcher, ports: &Cluster, number: u16, nodes: u16) -> anyhow::Result<Member> {
    let node = Node { service: Service::Broker, number };
    let name = format!("rabbitmq-{number}");
    let directory = ports.data.join(&name);
    let file = ports.data.join(format!("{name}.conf"));
    fs::write(&file, configuration(ports.port(node), nodes))
        .with_context(|| format!("cannot write {}", file.display()))?;
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let process = Process::start(Spec {
        binary: launcher.program(System::RabbitMq)?,
        arguments: Vec::new(),
        environment: vec![
            // The cookie that lets the nodes talk lies there.
            ("HOME", path(&ports.data)),
            ("ERL_EPMD_PORT", epmd_port(ports).to_string()),
            ("RABBITMQ_NODENAME", erlang_name(number)),
            ("RABBITMQ_DIST_PORT", ports.peer_port(node).to_string()),
            ("RABBITMQ_CONFIG_FILE", path(&file)),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", path(&directory.join("advanced.config"))),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", path(&directory.join("enabled_plugins"))),
            ("RABBITMQ_MNESIA_BASE", path(&directory)),
            ("RABBITMQ_LOG_BASE", path(&directory)),
            ("RABBITMQ_PID_FILE", path(&directory.join("own.pid"))),
            ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
            // Its script becomes the server instead of waiting for it.
            ("RUNNING_UNDER_SYSTEMD", "true".to_owned()),
        ],
        log: ports.data.join(format!("{name}.log")),
        pid_file: launcher.pid_file(&name),
        directory,
        name,
    })?;
    Ok(Member { target: Target::parse(&ports.url(node))?, process: Some(process) })
}

fn configuration(port: u16, nodes: u16) -> String {
    let mut text = format!(
        "listeners.tcp.1 = 127.0.0.1:{port}\nlog.console = true\nlog.console.level = warning\n\
         log.file = false\n"
    );
    if 1 < nodes {
        text += "cluster_formation.peer_discovery_backend = classic_config\n";
        for number in 1..=nodes {
            let name = erlang_name(number);
            text += &format!("cluster_formation.classic_config.nodes.{number} = {name}\n");
        }
    }
    text
}
