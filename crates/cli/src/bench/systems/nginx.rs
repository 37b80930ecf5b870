//! One nginx with one worker and one small file: what serving bytes costs, as a yardstick.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::Request;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::process::Spec;
use super::{Cluster, Greeting, Launcher, Member, POLL, Process, READY_TIMEOUT, System};
use crate::bench::load::{Connection, Target};
use crate::cluster::{self, Node, Service};

pub(crate) const PATH: &str = "/value";

pub(super) async fn start(
    launcher: &Launcher,
    directory: &Path,
    content: &str,
) -> anyhow::Result<Cluster> {
    let ports = cluster::Cluster::new(directory, launcher.port_offset)?;
    let port = ports.port(Node { service: Service::Coordinator, number: 1 });
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(directory.join(&PATH[1..]), content))
        .and_then(|()| fs::write(directory.join("nginx.conf"), configuration(directory, port)))
        .with_context(|| format!("cannot write into {}", directory.display()))?;
    let nginx = launcher.program(System::Nginx)?;
    let mut process = Process::start(Spec {
        name: "nginx".to_owned(),
        binary: nginx.clone(),
        arguments: ["-p", &directory.to_string_lossy(), "-e", "error.log", "-c", "nginx.conf"]
            .map(str::to_owned)
            .to_vec(),
        environment: Vec::new(),
        directory: directory.to_owned(),
        log: directory.join("nginx.log"),
        pid_file: launcher.pid_file("nginx"),
    })?;
    let target = Target::parse(&format!("http://127.0.0.1:{port}"))?;
    let deadline = Instant::now() + READY_TIMEOUT;
    while let Err(problem) = ask(&target).await {
        process.check()?;
        if deadline <= Instant::now() {
            bail!("nginx is not ready after {} s: {problem:#}", READY_TIMEOUT.as_secs());
        }
        sleep(POLL).await;
    }
    let version = version(&nginx).await?;
    let members = vec![Member { target, process: Some(process) }];
    let (greeting, helpers) = (Greeting::Etcd, Vec::new());
    Ok(Cluster { system: System::Nginx, version, members, greeting, helpers })
}

/// One process, so that all of its CPU time is seen; no log, and files stay open.
fn configuration(directory: &Path, port: u16) -> String {
    let directory = directory.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path tmp-{kind};\n"))
        .concat();
    format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid own.pid;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n{temporary}    access_log off;\n    open_file_cache max=16;\n    \
         keepalive_requests 1000000000;\n    keepalive_timeout 600;\n    tcp_nodelay on;\n    \
         server {{ listen 127.0.0.1:{port}; root \"{directory}\"; }}\n}}\n"
    )
}

async fn ask(target: &Target) -> anyhow::Result<()> {
    let request = Request::get(PATH).body(Bytes::new()).expect("it is a constant");
    let answer = Connection::open(target).await?.send(request).await?;
    if !answer.status.is_success() {
        bail!("it answers {answer}");
    }
    Ok(())
}

async fn version(nginx: &Path) -> anyhow::Result<String> {
    let output = Command::new(nginx).arg("-v").output().await.context("cannot ask its version")?;
    // `nginx version: nginx/1.22.1`
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(text.rsplit('/').next().unwrap_or_default().trim().to_owned())
}
