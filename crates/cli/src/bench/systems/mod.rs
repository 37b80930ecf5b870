//! What is measured: started by us in directories of their own, or running already.
//!
//! **Invariant:** whatever was started here is gone when its [`Cluster`] is dropped.

mod etcd;
pub(crate) mod nginx;
mod process;
mod quartet;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use super::host;
use super::load::Target;
use super::v3;
pub(crate) use process::Process;

/// A start elects a leader, on a machine that may be busy.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// One question during that.
const POLL_TIMEOUT: Duration = Duration::from_secs(2);
const CLEAN_UP_TIMEOUT: Duration = Duration::from_secs(5);
const NODES: u16 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum System {
    Quartet,
    Etcd,
    /// A yardstick for reads, not a store.
    Nginx,
}

impl System {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Quartet => "quartet",
            Self::Etcd => "etcd",
            Self::Nginx => "nginx",
        }
    }

    /// What an acknowledged write has survived.
    pub(crate) const fn durability(self) -> &'static str {
        match self {
            Self::Quartet => {
                "a majority has it on disk (fdatasync) before it is acknowledged; no setting changes that"
            }
            Self::Etcd => {
                "a majority has it on disk (fdatasync) before it is acknowledged; started without --unsafe-no-fsync"
            }
            Self::Nginx => "one worker serves a file of the same size",
        }
    }
}

/// Three nodes of one system.
pub(crate) struct Cluster {
    pub(crate) system: System,
    pub(crate) version: String,
    pub(crate) members: Vec<Member>,
}

pub(crate) struct Member {
    pub(crate) target: Target,
    /// `None`: it runs elsewhere, so nobody can look into it.
    pub(crate) process: Option<Process>,
}

/// How clusters are started.
#[derive(Clone, Debug)]
pub(crate) struct Launcher {
    /// Holds everything the processes write.
    pub(crate) directory: PathBuf,
    pub(crate) port_offset: u16,
    pub(crate) etcd: PathBuf,
    pub(crate) nginx: PathBuf,
}

impl Launcher {
    /// A new cluster without data, ready to serve.
    pub(crate) async fn start(&self, system: System) -> anyhow::Result<Cluster> {
        let directory = self.prepare(system)?;
        let members = match system {
            System::Quartet => quartet::start(self, &directory)?,
            System::Etcd => etcd::start(self, &directory)?,
            System::Nginx => bail!("nginx is no store"),
        };
        Cluster::attach(system, members).await
    }

    pub(crate) fn has_nginx(&self) -> bool {
        let asked = std::process::Command::new(&self.nginx).arg("-v").output();
        asked.is_ok_and(|output| output.status.success())
    }

    /// Serves `content` under [`nginx::PATH`].
    pub(crate) async fn start_nginx(&self, content: &str) -> anyhow::Result<Cluster> {
        let directory = self.prepare(System::Nginx)?;
        nginx::start(self, &directory, content).await
    }

    fn prepare(&self, system: System) -> anyhow::Result<PathBuf> {
        let directory = self.directory.join(system.name());
        remove(&directory)?;
        std::fs::create_dir_all(self.directory.join("run"))
            .with_context(|| format!("cannot create {}", self.directory.display()))?;
        Ok(directory)
    }

    /// Removes what the clusters left.
    pub(crate) async fn clean_up(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + CLEAN_UP_TIMEOUT;
        // A process that was just killed may still be writing.
        while let Err(error) = self.remove_all() {
            if deadline <= Instant::now() {
                return Err(error);
            }
            sleep(POLL).await;
        }
        // Stays if somebody else put something there.
        let _ = std::fs::remove_dir(&self.directory);
        Ok(())
    }

    fn remove_all(&self) -> anyhow::Result<()> {
        for system in [System::Quartet, System::Etcd, System::Nginx] {
            remove(&self.directory.join(system.name()))?;
        }
        remove(&self.directory.join("run"))
    }

    pub(crate) fn pid_file(&self, name: &str) -> PathBuf {
        self.directory.join("run").join(format!("{name}.pid"))
    }
}

impl Cluster {
    /// Waits until every member knows a leader.
    pub(crate) async fn attach(system: System, members: Vec<Member>) -> anyhow::Result<Self> {
        let mut cluster = Self { system, version: String::new(), members };
        cluster.version = cluster.wait_ready().await?;
        if system == System::Quartet {
            let own = v3::own_version(&cluster.members[0].target).await?;
            cluster.version = format!("{own}, with the API of etcd {}", cluster.version);
        }
        Ok(cluster)
    }

    /// Waits until every member knows a leader, and says which version they are of.
    pub(crate) async fn wait_ready(&mut self) -> anyhow::Result<String> {
        let deadline = Instant::now() + READY_TIMEOUT;
        let mut version = String::new();
        for member in &mut self.members {
            while let Err(problem) = member.ready(&mut version).await {
                if let Some(process) = &mut member.process {
                    process.check()?;
                }
                if deadline <= Instant::now() {
                    let seconds = READY_TIMEOUT.as_secs();
                    bail!("{} is not ready after {seconds} s: {problem:#}", member.target);
                }
                sleep(POLL).await;
            }
        }
        Ok(version)
    }

    /// Which member leads, once there is one: an election may be under way.
    pub(crate) async fn leader(&self) -> anyhow::Result<usize> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            for (at, member) in self.members.iter().enumerate() {
                if let Ok(status) = member.status().await
                    && status.leader.as_ref() == Some(&status.member)
                {
                    return Ok(at);
                }
            }
            if deadline <= Instant::now() {
                bail!("no member of {} says that it leads", self.system.name());
            }
            sleep(POLL).await;
        }
    }

    /// The term of the leader.
    pub(crate) async fn term(&self) -> anyhow::Result<u64> {
        let leader = &self.members[self.leader().await?];
        Ok(leader.status().await?.term)
    }

    /// The leader first, so that a single connection goes to it in every system alike.
    pub(crate) fn targets(&self, leader: usize) -> Vec<Target> {
        let mut targets: Vec<Target> =
            self.members.iter().map(|member| member.target.clone()).collect();
        targets.rotate_left(leader);
        targets
    }

    /// CPU time so far of each process, the leader's first; `None` where they run elsewhere.
    pub(crate) fn cpu_times(&self, leader: usize) -> Option<Vec<Duration>> {
        let time = |member: &Member| host::cpu_time(member.process.as_ref()?.pid());
        let mut times: Vec<Duration> = self.members.iter().map(time).collect::<Option<_>>()?;
        times.rotate_left(leader);
        Some(times)
    }

    /// Ends all processes and waits for that.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        for member in self.members {
            if let Some(process) = member.process {
                process.stop().await?;
            }
        }
        Ok(())
    }
}

impl Member {
    async fn status(&self) -> anyhow::Result<v3::Status> {
        timeout(POLL_TIMEOUT, v3::status(&self.target)).await.context("no answer")?
    }

    async fn ready(&self, version: &mut String) -> anyhow::Result<()> {
        let status = self.status().await?;
        *version = status.version;
        status.leader.context("it knows no leader")?;
        Ok(())
    }
}

fn remove(directory: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}
