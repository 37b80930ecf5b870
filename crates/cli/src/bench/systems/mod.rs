//! What is measured: started by us in directories of their own, or running already.
//!
//! **Invariant:** whatever was started here is gone when its [`Cluster`] is dropped.

mod etcd;
mod nats;
pub(crate) mod nginx;
mod process;
mod quartet;
mod rabbitmq;
mod ready;
mod redis;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use super::host;
use super::load::Target;
use super::v3;
use crate::cluster::Service;
pub(crate) use process::Process;
use ready::Greeting;

/// A start elects a leader, on a machine that may be busy.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
const CLEAN_UP_TIMEOUT: Duration = Duration::from_secs(5);
const NODES: u16 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum System {
    Quartet,
    Etcd,
    /// A yardstick for reads, not a store.
    Nginx,
    RabbitMq,
    Nats,
    Redis,
}

impl System {
    const ALL: [Self; 6] =
        [Self::Quartet, Self::Etcd, Self::Nginx, Self::RabbitMq, Self::Nats, Self::Redis];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Quartet => "quartet",
            Self::Etcd => "etcd",
            Self::Nginx => "nginx",
            Self::RabbitMq => "rabbitmq",
            Self::Nats => "nats",
            Self::Redis => "redis",
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
            Self::RabbitMq => {
                "quorum queue: a majority has it on disk (fdatasync) before the confirm"
            }
            Self::Nats => {
                "JetStream with sync_interval: always: a majority has it on disk (fsync) before it is acknowledged"
            }
            Self::Redis => {
                "stream, appendfsync always: the primary has it on disk (fdatasync) before it answers; replicas follow later"
            }
        }
    }
}

/// The nodes of one system.
pub(crate) struct Cluster {
    pub(crate) system: System,
    pub(crate) version: String,
    pub(crate) members: Vec<Member>,
    greeting: Greeting,
    /// What the members need, and nobody measures.
    helpers: Vec<Process>,
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
    /// Not those of Quartet, which lie beside this one.
    pub(crate) programs: BTreeMap<System, PathBuf>,
}

impl Launcher {
    /// A new cluster of three coordinators or etcd servers without data, ready to serve.
    pub(crate) async fn start(&self, system: System) -> anyhow::Result<Cluster> {
        let directory = self.prepare(system)?;
        let members = match system {
            System::Quartet => quartet::start(self, &directory, Service::Coordinator, NODES)?,
            System::Etcd => etcd::start(self, &directory)?,
            _ => bail!("{} is no store of this kind", system.name()),
        };
        Cluster::attach(system, members).await
    }

    /// One or three brokers without data, ready to serve.
    pub(crate) async fn start_brokers(
        &self,
        system: System,
        nodes: u16,
    ) -> anyhow::Result<Cluster> {
        let directory = self.prepare(system)?;
        let mut helpers = Vec::new();
        let (greeting, members) = match system {
            System::Quartet => {
                (Greeting::Broker, quartet::start(self, &directory, Service::Broker, nodes)?)
            }
            System::RabbitMq => {
                let started = rabbitmq::start(self, &directory, nodes)?;
                helpers.push(started.epmd);
                (Greeting::Amqp, started.members)
            }
            System::Nats => (Greeting::Nats, nats::start(self, &directory, nodes)?),
            System::Redis => (Greeting::Redis, redis::start(self, &directory, nodes)?),
            System::Etcd | System::Nginx => bail!("{} is no broker", system.name()),
        };
        let version = String::new();
        let mut cluster = Cluster { system, version, members, greeting, helpers };
        cluster.version = cluster.wait_ready().await?;
        Ok(cluster)
    }

    fn program(&self, system: System) -> anyhow::Result<PathBuf> {
        let known = self.programs.get(&system).cloned();
        known.with_context(|| format!("nobody says where {} is", system.name()))
    }

    pub(crate) fn has_nginx(&self) -> bool {
        let Ok(nginx) = self.program(System::Nginx) else { return false };
        let asked = std::process::Command::new(nginx).arg("-v").output();
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
        for system in System::ALL {
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
        let greeting = Greeting::Etcd;
        let mut cluster =
            Self { system, version: String::new(), members, greeting, helpers: Vec::new() };
        cluster.version = cluster.wait_ready().await?;
        if system == System::Quartet {
            let own = v3::own_version(&cluster.members[0].target).await?;
            cluster.version = format!("{own}, with the API of etcd {}", cluster.version);
        }
        Ok(cluster)
    }

    /// Waits until every member serves, and says which version they are of.
    pub(crate) async fn wait_ready(&mut self) -> anyhow::Result<String> {
        let deadline = Instant::now() + READY_TIMEOUT;
        let mut version = String::new();
        for member in &mut self.members {
            loop {
                let problem = match self.greeting.version(&member.target).await {
                    Ok(its_version) => break version = its_version,
                    Err(problem) => problem,
                };
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
        for helper in self.helpers {
            helper.stop().await?;
        }
        Ok(())
    }
}

impl Member {
    async fn status(&self) -> anyhow::Result<v3::Status> {
        timeout(ready::TIMEOUT, v3::status(&self.target)).await.context("no answer")?
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
