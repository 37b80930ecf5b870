//! The command line of `quartet bench broker`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::super::systems::System;

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Publishing one message at a time, and in batches.
    Publish,
    /// Sending, receiving and acknowledging through a queue.
    Cycle,
    /// Many topics at once.
    Topics,
    /// A queue with very many messages in it.
    Backlog,
    /// Many readers of one topic.
    Fanout,
    /// The leader is killed while somebody publishes and somebody consumes.
    Failover,
}

#[derive(Debug, Args)]
pub(crate) struct BrokerArgs {
    /// Only these parts; all if not given.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART,…")]
    only: Vec<Part>,
    /// Fewer and shorter runs: to see whether it works, and roughly how fast.
    #[arg(long, visible_alias = "quick")]
    pub(crate) short: bool,
    /// How long each measurement takes [default: 3, short: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
    /// How often everything is measured, each time with new servers; the table shows medians
    /// [default: 3, short: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=99))]
    runs: Option<u8>,
    /// Numbers of nodes to publish to.
    #[arg(long, value_delimiter = ',', default_value = "1,3", value_name = "N,…")]
    pub(crate) nodes: Vec<u16>,
    /// Connections that publish.
    #[arg(long, default_value = "64", value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) connections: u16,
    /// Measure Quartet alone.
    #[arg(long)]
    alone: bool,
    #[command(flatten)]
    peers: Peers,
    /// Where the servers keep their data and logs. On a disk: a memory file system does not sync.
    #[arg(long, default_value = "data/bench", value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Threads of our generator, which shares the machine with the servers.
    #[arg(long, default_value = "1", value_name = "N",
          value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) threads: u8,
}

/// The programs of others. Who is not named is not compared with.
#[derive(Debug, Args)]
struct Peers {
    /// The script that starts RabbitMQ; `erl` and `epmd` have to be on PATH.
    #[arg(long, env = "RABBITMQ_SERVER", requires = "perf_test", value_name = "FILE")]
    rabbitmq_server: Option<PathBuf>,
    /// Its usual client: the directory with the jars of com.rabbitmq:perf-test.
    #[arg(long, env = "PERF_TEST", value_name = "DIR")]
    perf_test: Option<PathBuf>,
    /// The NATS server, 2.10 or later.
    #[arg(long, env = "NATS_SERVER", requires = "nats", value_name = "FILE")]
    nats_server: Option<PathBuf>,
    /// Its usual client: the command `nats`.
    #[arg(long, env = "NATS", value_name = "FILE")]
    nats: Option<PathBuf>,
    /// The Redis server.
    #[arg(long, env = "REDIS_SERVER", requires = "redis_benchmark", value_name = "FILE")]
    redis_server: Option<PathBuf>,
    /// Its usual client.
    #[arg(long, env = "REDIS_BENCHMARK", value_name = "FILE")]
    redis_benchmark: Option<PathBuf>,
}

/// What Quartet is compared with.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) system: System,
    pub(super) server: PathBuf,
    pub(super) client: PathBuf,
}

impl BrokerArgs {
    pub(super) fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    pub(super) fn window(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(if self.short { 1 } else { 3 }))
    }

    pub(super) fn runs(&self) -> u8 {
        self.runs.unwrap_or(if self.short { 1 } else { 3 })
    }

    pub(super) fn peers(&self) -> Vec<Peer> {
        let peers = &self.peers;
        let all = [
            (System::RabbitMq, &peers.rabbitmq_server, &peers.perf_test),
            (System::Nats, &peers.nats_server, &peers.nats),
            (System::Redis, &peers.redis_server, &peers.redis_benchmark),
        ];
        all.into_iter()
            .filter(|_| !self.alone)
            .filter_map(|(system, server, client)| {
                Some(Peer { system, server: server.clone()?, client: client.clone()? })
            })
            .collect()
    }

    /// How many topics are written at once.
    pub(super) fn topics(&self) -> usize {
        if self.short { 100 } else { 1_000 }
    }

    /// How many messages wait in a queue.
    pub(super) fn backlog(&self) -> usize {
        if self.short { 200_000 } else { 1_000_000 }
    }

    /// How many read a topic.
    pub(super) fn subscribers(&self) -> usize {
        if self.short { 200 } else { 1_000 }
    }

    /// How long there is something to read.
    pub(super) fn fanout_seconds(&self) -> u64 {
        if self.short { 3 } else { 10 }
    }

    /// How often the leader is killed.
    pub(super) fn kills(&self) -> u8 {
        if self.short { 3 } else { 20 }
    }
}
