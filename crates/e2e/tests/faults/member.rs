//! One coordinator, or broker, as a process of its own.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use e2e::binary;
use reqwest::Client;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// Far more than any of this takes, so that a slow machine fails nothing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const POLL: Duration = Duration::from_millis(10);

/// How long a removed member may take to hear of it and to end.
const GOODBYE: Duration = Duration::from_secs(5);

/// Where a member listens.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) address: Ipv4Addr,
    pub(crate) port: u16,
    pub(crate) peer_port: u16,
    /// The network name space its process lives in.
    pub(crate) namespace: Option<String>,
    /// Where the others dial it.
    pub(crate) peer_url: String,
}

/// A process that ends with its owner.
pub(crate) struct Member {
    service: &'static str,
    name: String,
    place: Place,
    directory: TempDir,
    settings: String,
    environment: Vec<(&'static str, String)>,
    child: Option<Child>,
    /// How many processes it has had.
    lives: Arc<AtomicU64>,
    client: Client,
}

impl Member {
    pub(crate) fn new(service: &'static str, name: String, place: Place, settings: String) -> Self {
        // A connection that a fault has silenced is not used for long.
        let client = Client::builder().no_proxy().connect_timeout(Duration::from_secs(1));
        Self {
            service,
            name,
            place,
            directory: tempfile::tempdir().expect("a temporary directory"),
            settings,
            environment: Vec::new(),
            child: None,
            lives: Arc::default(),
            client: client.build().expect("a client"),
        }
    }

    /// What its process finds in its environment, from the next start on.
    pub(crate) fn set_environment(&mut self, environment: Vec<(&'static str, String)>) {
        self.environment = environment;
    }

    /// Starts the process and does not wait.
    pub(crate) fn spawn(&mut self) {
        let config = self.directory.path().join("config.toml");
        let Place { address, port, peer_port, namespace, .. } = &self.place;
        let text = format!(
            "node = {:?}\nlisten = \"{address}:{port}\"\npeer_listen = \"{address}:{peer_port}\"\n\
             insecure = true\ndata_dir = {:?}\n{}",
            self.name,
            self.data_dir(),
            self.settings,
        );
        fs::write(&config, text).expect("the configuration file");
        let log = fs::File::options().create(true).append(true).open(self.log_file());
        let service = binary(&format!("quartet-{}", self.service));
        let mut command = match namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(service);
                command
            }
            None => Command::new(service),
        };
        self.lives.fetch_add(1, Ordering::SeqCst);
        let child = command
            .arg("--config")
            .arg(config)
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("the log file"))
            .kill_on_drop(true)
            .spawn();
        self.child = Some(child.expect("the service starts"));
    }

    /// Waits until `/readyz` answers 200.
    pub(crate) async fn ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ask = self.client.get(self.url("/readyz")).timeout(Duration::from_secs(2));
            if ask.send().await.is_ok_and(|answer| answer.status() == 200) {
                return;
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "{} ended: {ended:?}\n{}", self.name, self.log());
            assert!(Instant::now() < deadline, "{} is not ready\n{}", self.name, self.log());
            sleep(POLL).await;
        }
    }

    /// SIGKILL: no goodbye, no flush.
    pub(crate) async fn kill(&mut self) {
        self.child.take().expect("it runs").kill().await.expect("it is killed");
    }

    /// SIGTERM, and how it ended.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM").await;
        let mut child = self.child.take().expect("it runs");
        match timeout(PATIENCE, child.wait()).await {
            Ok(status) => status.expect("its status"),
            Err(_) => panic!("{} does not end after SIGTERM\n{}", self.name, self.log()),
        }
    }

    /// After its removal: it ends by itself as soon as it knows, or by force, and its data is gone.
    pub(crate) async fn leave(&mut self) {
        if let Some(mut child) = self.child.take()
            && timeout(GOODBYE, child.wait()).await.is_err()
        {
            println!("{} was removed and does not know", self.name);
            child.kill().await.expect("it is killed");
        }
        // The directory itself may be a disk.
        for entry in fs::read_dir(self.data_dir()).expect("its directory").flatten() {
            let path = entry.path();
            let removed =
                if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            removed.expect("its data can be removed");
        }
    }

    /// From the next start on it comes to a cluster that is there.
    pub(crate) fn join_existing(&mut self) {
        const STATE: &str = "initial_state = \"existing\"\n";
        if !self.settings.contains(STATE) {
            self.settings =
                self.settings.replacen("[cluster]\n", &format!("[cluster]\n{STATE}"), 1);
        }
    }

    /// Sends a signal such as `STOP`.
    pub(crate) async fn signal(&self, signal: &str) {
        let pid = self.pid().expect("it runs").to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid]).status().await;
        assert!(sent.expect("kill runs").success(), "{signal} to {}", self.name);
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}:{}{path}", self.place.address, self.place.port)
    }

    pub(crate) fn peer_url(&self) -> &str {
        &self.place.peer_url
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Counts its processes: one begins after it was counted.
    pub(crate) fn lives(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.lives)
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn log_file(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Says how far its wall clock is off.
    pub(crate) fn clock_file(&self) -> PathBuf {
        self.directory.path().join("clock")
    }

    /// What the process, or its predecessors on this directory, wrote to standard error.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }
}
