//! One server process: started, looked at, killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// A server that takes longer to end is killed: its data is thrown away anyhow.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const LOG_LINES: usize = 12;

/// What to start, and again after a crash.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) binary: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// Besides what we have ourselves.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Everything it keeps.
    pub(crate) directory: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) pid_file: PathBuf,
}

/// Killed when dropped.
pub(crate) struct Process {
    spec: Spec,
    child: Child,
    pid: u32,
}

impl Process {
    pub(crate) fn start(spec: Spec) -> anyhow::Result<Self> {
        let log = fs::File::options().create(true).append(true).open(&spec.log);
        let log = log.with_context(|| format!("cannot open {}", spec.log.display()))?;
        let child = Command::new(&spec.binary)
            .args(&spec.arguments)
            .envs(spec.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share the log file")?)
            .stderr(log)
            // Ctrl-C reaches us alone; we end the servers.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", spec.binary.display()))?;
        let pid = child.id().context("a child that was just started has a pid")?;
        // For whoever cleans up should we be killed.
        fs::write(&spec.pid_file, format!("{pid}\n"))
            .with_context(|| format!("cannot write {}", spec.pid_file.display()))?;
        Ok(Self { spec, child, pid })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// SIGKILL, as a crash. Returns when it is gone.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.with_context(|| format!("{} survives SIGKILL", self.spec.name))
    }

    /// SIGKILL, and back at once.
    pub(crate) fn start_kill(&mut self) -> anyhow::Result<()> {
        self.child.start_kill().with_context(|| format!("cannot kill {}", self.spec.name))
    }

    /// Starts it again with its data.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        self.kill().await?;
        *self = Self::start(self.spec.clone())?;
        Ok(())
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.spec.directory
    }

    /// Fails if it has ended, with the end of its log.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let text = fs::read(&self.spec.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        bail!("{} ended ({status}); the end of its log:\n{tail}", self.spec.name)
    }

    /// SIGTERM, then SIGKILL. Returns when it is gone.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            let _ = kill_process(pid, Signal::TERM);
            if timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
                self.child.kill().await.context("it survives SIGKILL")?;
            }
        }
        let _ = fs::remove_file(&self.spec.pid_file);
        Ok(())
    }
}
