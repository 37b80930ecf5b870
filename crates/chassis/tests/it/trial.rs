//! The trial service as a process of its own (`examples/trial.rs`).

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

/// A process that has not ended by then hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running process, killed when dropped.
pub(crate) struct Trial {
    pub(crate) url: String,
    child: Child,
    stderr: BufReader<ChildStderr>,
}

/// `trial` on free ports, without this process's settings.
pub(crate) fn command() -> Command {
    let tests = std::env::current_exe().unwrap();
    let target: PathBuf = tests.ancestors().nth(2).unwrap().into();
    let binary = target.join("examples/trial");
    assert!(binary.exists(), "{} is built by `cargo test -p chassis`", binary.display());
    let mut command = Command::new(binary);
    command
        .env_clear()
        .args(["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

impl Trial {
    /// Starts it and waits until it says where it listens.
    pub(crate) async fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut seen = String::new();
        let url = loop {
            let from = seen.len();
            let read = timeout(PATIENCE, stderr.read_line(&mut seen)).await.expect("a banner");
            assert_ne!(read.unwrap(), 0, "it ended:\n{seen}");
            if let Some(url) = seen[from..].trim().strip_prefix("listen") {
                break url.trim().to_owned();
            }
        };
        Self { url, child, stderr }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it still runs").to_string();
        let sent = std::process::Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end; gives what it said after the line with its address.
    pub(crate) async fn end(mut self) -> (ExitStatus, String) {
        let mut said = String::new();
        let end = async {
            self.stderr.read_to_string(&mut said).await.unwrap();
            self.child.wait().await.unwrap()
        };
        let status = timeout(PATIENCE, end).await.expect("it ends in time");
        (status, said)
    }
}
