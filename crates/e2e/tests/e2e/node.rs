//! One service as a process of its own.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

pub(crate) use e2e::{binary, free_ports};
use reqwest::{Client, RequestBuilder, Response};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::load::until;

/// Far more than any of this takes, so that a slow machine fails nothing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// A process that ends with its owner.
pub(crate) struct Node {
    service: &'static str,
    name: String,
    directory: TempDir,
    port: u16,
    peer_port: u16,
    settings: String,
    child: Option<Child>,
    client: Client,
}

impl Node {
    /// Starts a service alone, and waits until it is ready.
    pub(crate) async fn start(service: &'static str) -> Self {
        Self::start_with(service, "").await
    }

    /// Starts a service with further lines in its configuration file.
    pub(crate) async fn start_with(service: &'static str, settings: &str) -> Self {
        let mut node = Self::prepared(service, settings);
        node.restart().await;
        node
    }

    /// Ports and a directory, but no process yet.
    pub(crate) fn prepared(service: &'static str, settings: &str) -> Self {
        let [port, peer_port] = free_ports();
        Self {
            service,
            name: format!("{service}-1"),
            directory: tempfile::tempdir().expect("a temporary directory"),
            port,
            peer_port,
            settings: settings.to_owned(),
            child: None,
            client: Client::builder().no_proxy().build().expect("a client"),
        }
    }

    /// What it says goes to a file that takes nothing, as on a full disk.
    pub(crate) fn gag(&self) {
        std::os::unix::fs::symlink("/dev/full", self.log_file()).expect("there is no log yet");
    }

    /// A coordinator of this name; no process yet.
    pub(crate) fn coordinator(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::prepared("coordinator", "") }
    }

    /// Starts the process again, on the same ports and directory.
    pub(crate) async fn restart(&mut self) {
        self.spawn();
        self.ready().await;
    }

    /// Starts the process again and waits until it serves, ready or not.
    pub(crate) async fn restart_degraded(&mut self) {
        self.spawn();
        let ended = self.ended_or_started().await;
        assert!(ended.is_err(), "{} ended: {ended:?}\n{}", self.service, self.log());
    }

    /// Starts the process and does not wait.
    pub(crate) fn spawn(&mut self) {
        let path = self.config_file();
        fs::write(&path, self.config_text()).expect("the configuration file");
        self.child = Some(self.command(&path));
    }

    fn config_text(&self) -> String {
        let mut text = format!(
            "node = {name:?}\nlisten = \"127.0.0.1:{port}\"\npeer_listen = \"127.0.0.1:{peer}\"\ndata_dir = {data:?}\n",
            name = self.name,
            port = self.port,
            peer = self.peer_port,
            data = self.data_dir(),
        );
        let _ = writeln!(text, "{}", self.settings);
        text
    }

    fn command(&self, config: &Path) -> Child {
        let log = fs::File::options().create(true).append(true).open(self.log_file());
        Command::new(binary(&format!("quartet-{}", self.service)))
            .arg("--config")
            .arg(config)
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("the log file"))
            .kill_on_drop(true)
            .spawn()
            .expect("the service starts")
    }

    /// A second process with the same data directory and other ports. Returns how it ended.
    pub(crate) async fn rival(&self) -> ExitStatus {
        let [port, peer] = free_ports();
        let path = self.directory.path().join("rival.toml");
        let text = self
            .config_text()
            .replace(&format!(":{}\"", self.port), &format!(":{port}\""))
            .replace(&format!(":{}\"", self.peer_port), &format!(":{peer}\""));
        fs::write(&path, text).expect("the configuration file");
        let mut child = self.command(&path);
        timeout(PATIENCE, child.wait()).await.expect("it ends by itself").expect("its status")
    }

    /// Waits until `/readyz` answers 200.
    pub(crate) async fn ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.get("/readyz").timeout(Duration::from_secs(2)).send().await;
            if answer.is_ok_and(|answer| answer.status() == 200) {
                return;
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "{} ended: {ended:?}\n{}", self.service, self.log());
            assert!(Instant::now() < deadline, "{} is not ready\n{}", self.service, self.log());
            sleep(POLL).await;
        }
    }

    /// SIGKILL: no goodbye, no flush.
    pub(crate) async fn kill(&mut self) {
        self.child.take().expect("it runs").kill().await.expect("it is killed");
    }

    /// SIGTERM, and how it ended.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let pid = child.id().expect("it has not ended").to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().await;
        assert!(sent.expect("kill runs").success());
        match timeout(PATIENCE, child.wait()).await {
            Ok(status) => status.expect("its status"),
            Err(_) => panic!("{} does not end after SIGTERM\n{}", self.service, self.log()),
        }
    }

    /// Waits for the process to end by itself.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        match timeout(PATIENCE, child.wait()).await {
            Ok(status) => status.expect("its status"),
            Err(_) => panic!("{} does not end\n{}", self.name, self.log()),
        }
    }

    /// Waits for the process to end by itself, or to be as far as it will come: then what
    /// `/readyz?verbose` says.
    pub(crate) async fn ended_or_started(&mut self) -> Result<ExitStatus, (u16, String)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let child = self.child.as_mut().expect("it was started");
            if let Some(status) = child.try_wait().expect("its status") {
                return Ok(status);
            }
            if let Ok(answer) = self.get("/readyz?verbose").send().await {
                let status = answer.status().as_u16();
                let said = answer.text().await.unwrap_or_default();
                if !said.contains("is starting") {
                    return Err((status, said));
                }
            }
            assert!(Instant::now() < deadline, "neither up nor down\n{}", self.log());
            sleep(POLL).await;
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    /// Takes the place of whatever the configuration file said besides addresses.
    pub(crate) fn set_settings(&mut self, settings: String) {
        self.settings = settings;
    }

    pub(crate) fn settings(&self) -> &str {
        &self.settings
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn service(&self) -> &'static str {
        self.service
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path)).timeout(PATIENCE)
    }

    pub(crate) fn put(&self, path: &str) -> RequestBuilder {
        self.client.put(self.url(path)).timeout(PATIENCE)
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(self.url(path)).timeout(PATIENCE)
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.directory.path().join("config.toml")
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// What the process, or its predecessors on this directory, wrote to standard error.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }
}

/// A primary and its replica, both ready.
pub(crate) async fn pair() -> (Node, Node) {
    let (mut primary, mut replica) = prepared_pair();
    primary.spawn();
    replica.spawn();
    primary.ready().await;
    replica.ready().await;
    (primary, replica)
}

/// The same without processes yet.
pub(crate) fn prepared_pair() -> (Node, Node) {
    let mut primary = Node::prepared("replica", "");
    let mut replica = Node::prepared("replica", "");
    replica.name = "replica-2".to_owned();
    let members: String = [&primary, &replica]
        .map(|node| {
            format!(
                "[[replication.members]]\nname = {:?}\nurl = {:?}\npeer_url = {:?}\n",
                node.name,
                node.url(""),
                node.peer_url()
            )
        })
        .concat();
    primary.settings = format!("[replication]\nrole = \"primary\"\n{members}");
    replica.settings = format!("[replication]\nrole = \"replica\"\n{members}");
    (primary, replica)
}

/// Three coordinators that found a cluster together, all ready.
pub(crate) async fn trio() -> [Node; 3] {
    trio_with("").await
}

/// The same with further settings of `[cluster]`.
pub(crate) async fn trio_with(cluster: &str) -> [Node; 3] {
    let mut nodes = [1, 2, 3].map(|number| {
        let mut node = Node::prepared("coordinator", "");
        node.name = format!("coordinator-{number}");
        node
    });
    let peers: String =
        nodes.iter().map(|node| format!("{} = {:?}\n", node.name, node.peer_url())).collect();
    for node in &mut nodes {
        node.settings = format!("[cluster]\n{cluster}\n[cluster.initial_peers]\n{peers}");
        node.spawn();
    }
    for node in &mut nodes {
        node.ready().await;
    }
    nodes
}

/// A coordinator that is to join the cluster of others; no process yet.
pub(crate) fn joiner(name: &str, members: &[&Node]) -> Node {
    let mut node = Node::prepared("coordinator", "");
    node.name = name.to_owned();
    node.settings = "[cluster]\ninitial_state = \"existing\"\n[cluster.initial_peers]\n".to_owned();
    let _ = writeln!(node.settings, "{name} = {:?}", node.peer_url());
    for member in members {
        let _ = writeln!(node.settings, "{} = {:?}", member.name, member.peer_url());
    }
    node
}

/// Who leads, as soon as somebody does.
pub(crate) async fn leader_name(node: &Node) -> String {
    let name = std::cell::RefCell::new(String::new());
    until("somebody leads", || async {
        let cluster: serde_json::Value =
            ok(node.get("/v1/cluster")).await.json().await.unwrap_or_default();
        *name.borrow_mut() = cluster["leader"].as_str().unwrap_or_default().to_owned();
        !name.borrow().is_empty()
    })
    .await;
    name.into_inner()
}

/// The answer, or a panic that says what was answered instead.
pub(crate) async fn ok(request: RequestBuilder) -> Response {
    let response = request.send().await.expect("an answer");
    let status = response.status();
    if status.is_success() {
        return response;
    }
    panic!("{} {status}: {}", response.url().clone(), response.text().await.unwrap_or_default());
}
