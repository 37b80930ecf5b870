//! The command line of `quartet bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Three coordinators against three etcd servers, with the same load.
    Coordinator(CoordinatorArgs),
    /// Brokers against RabbitMQ, NATS JetStream and Redis Streams, each through its usual client.
    Broker(super::broker::args::BrokerArgs),
}

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Part {
    /// Linearizable puts.
    Puts,
    /// Linearizable gets, and serializable ones.
    Gets,
    /// The leader is killed while somebody writes.
    Failover,
    /// Many watchers of one prefix that changes often.
    Watchers,
    /// Memory and disk space of many keys.
    Capacity,
}

/// What Quartet is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Against {
    Etcd,
    /// Measure Quartet alone.
    None,
}

#[derive(Debug, Args)]
pub(crate) struct CoordinatorArgs {
    /// Only these parts; all if not given.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART,…")]
    pub(crate) only: Vec<Part>,
    /// Fewer and shorter runs: to see whether it works, and roughly how fast.
    #[arg(long)]
    pub(crate) short: bool,
    /// How long each measurement takes [default: 3, short: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
    /// How often everything is measured, each time with new clusters; the table shows medians
    /// [default: 3, short: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=99))]
    runs: Option<u8>,
    /// Numbers of connections for puts and linearizable gets.
    #[arg(long, value_delimiter = ',', default_value = "1,64,256", value_name = "N,…")]
    pub(crate) connections: Vec<u16>,
    /// What to compare with.
    #[arg(long, value_enum, default_value = "etcd", value_name = "SYSTEM")]
    pub(crate) against: Against,
    /// The etcd server to start.
    #[arg(long, env = "ETCD", default_value = "etcd", value_name = "FILE")]
    pub(crate) etcd: PathBuf,
    /// The nginx to start, as a yardstick for reads from one node; none if it is not there.
    #[arg(long, env = "NGINX", default_value = "nginx", value_name = "FILE")]
    pub(crate) nginx: PathBuf,
    /// Measure a cluster that runs already, by its nodes' URLs. It gets keys below `bench/`.
    #[arg(long, value_delimiter = ',', value_name = "URL,…")]
    pub(crate) endpoints: Vec<String>,
    /// Where the clusters keep their data and logs. On a disk: a memory file system does not sync.
    #[arg(long, default_value = "data/bench", value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Threads of the generator, which shares the machine with the servers.
    #[arg(long, default_value = "1", value_name = "N",
          value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) threads: u8,
}

impl CoordinatorArgs {
    pub(crate) fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    pub(crate) fn window(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(if self.short { 1 } else { 3 }))
    }

    /// How often the leader is killed.
    pub(crate) fn kills(&self) -> u8 {
        if self.short { 5 } else { 20 }
    }

    /// How many watch.
    pub(crate) fn watchers(&self) -> u64 {
        if self.short { 200 } else { 1_000 }
    }

    /// How long there is something to watch.
    pub(crate) fn watch_seconds(&self) -> u64 {
        if self.short { 3 } else { 10 }
    }

    /// How many keys memory and disk space are measured with.
    pub(crate) fn keys(&self) -> usize {
        if self.short { 50_000 } else { 1_000_000 }
    }

    pub(crate) fn runs(&self) -> u8 {
        self.runs.unwrap_or(if self.short { 1 } else { 3 })
    }
}
