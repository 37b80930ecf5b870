//! Servers in child processes, each with its own directory and ports. Killed when dropped.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use client::Url;
use client::http::{Client, Config};
use http::Method;
use tempfile::TempDir;

/// What a server said before it failed, in its directory.
pub(crate) const LOG: &str = "stderr.log";

/// Starts a program; `None`, with the reason on stdout, if it is not there.
pub(crate) fn spawn(mut command: Command, dir: &Path) -> Option<Child> {
    let log = OpenOptions::new().create(true).append(true).open(dir.join(LOG)).unwrap();
    match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn() {
        Ok(child) => Some(child),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("skipped: there is no {}", command.get_program().display());
            None
        }
        Err(error) => panic!("{command:?}: {error}"),
    }
}

/// One of our services, as far as its command is concerned. `scripts/test` builds all of them
/// first; after `cargo build` they stand beside the directory of this test.
pub(crate) fn service(name: &str, dir: &Path, [public, peer]: [u16; 2]) -> Command {
    let mut command = Command::new(beside_this_test(&format!("quartet-{name}")));
    command
        .env("QUARTET_LISTEN", format!("127.0.0.1:{public}"))
        .env("QUARTET_PEER_LISTEN", format!("127.0.0.1:{peer}"))
        .env("QUARTET_DATA_DIR", dir.join("data"));
    command
}

fn beside_this_test(program: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its path");
    test.ancestors().nth(2).expect("target/debug/deps/test").join(program)
}

/// Free now. Another process may take one before the server does: then the test fails on start,
/// which is rare and loud.
pub(crate) fn free_ports() -> [u16; 2] {
    let listeners = [0, 1].map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// A running service of ours.
pub(crate) struct Service {
    child: Child,
    dir: TempDir,
    port: u16,
}

impl Service {
    /// Starts it and waits until it is ready; `None` if its program was not built.
    pub(crate) async fn start(name: &str, settings: &[(&str, String)]) -> Option<Self> {
        let (dir, ports) = (tempfile::tempdir().unwrap(), free_ports());
        let mut command = service(name, dir.path(), ports);
        command.envs(settings.iter().cloned());
        let child = spawn(command, dir.path())?;
        let service = Self { child, dir, port: ports[0] };
        service.ready(name).await;
        Some(service)
    }

    pub(crate) fn url(&self) -> Url {
        format!("http://127.0.0.1:{}", self.port).parse().unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(Config::default(), [self.url()]).unwrap()
    }

    async fn ready(&self, name: &str) {
        for _ in 0..200 {
            if self.client().call(Method::GET, "/readyz").send().await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let log = std::fs::read_to_string(self.dir.path().join(LOG)).unwrap();
        panic!("{name} is not ready; it said: {log}");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
