//! The command line as types. What a flag means stands here and in `--help`, nowhere else.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::bench::args::BenchCommand;
use crate::cluster::banner::JAEGER_UI;
use crate::cluster::{Cluster, Node, Service};
use crate::commands::broker::BrokerCommand;
use crate::commands::election::ElectionCommand;
use crate::commands::gateway::{MethodCommand, RouteCommand};
use crate::commands::kv::KvArgs;
use crate::commands::lock::LockCommand;
use crate::commands::queue::QueueCommand;
use crate::commands::service::ServiceCommand;
use crate::commands::sub::SubCommand;
use crate::commands::topic::TopicCommand;
use crate::output::Output;

/// Quartet: coordinator, broker, replica and gateway, from the command line.
#[derive(Debug, Parser)]
#[command(name = "quartet", version, propagate_version = true)]
pub(crate) struct Args {
    /// Tables for people, JSON for programs.
    #[arg(long, short, global = true, value_enum, default_value = "table", value_name = "FORMAT")]
    pub(crate) output: Output,

    /// The service to talk to, in place of the local one: http://host:7070, or through a gateway
    /// http://host:8080/broker.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) endpoint: Option<String>,

    /// Add this to every standard port, so that several local clusters fit on one machine.
    #[arg(long, global = true, default_value = "0", value_name = "N",
          value_parser = clap::value_parser!(u16).range(..=i64::from(Cluster::MAX_PORT_OFFSET)))]
    pub(crate) port_offset: u16,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a local cluster; Ctrl-C stops it.
    Up(UpArgs),
    /// Stop the local cluster.
    Down {
        #[command(flatten)]
        data: DataDir,
        /// Also remove its data, logs and configuration.
        #[arg(long)]
        wipe: bool,
    },
    /// Which processes run, and which of them are ready.
    Status(DataDir),
    /// Replay a real data set through all services, kill one on the way, and check every total.
    Demo(DemoArgs),
    /// Keys of the coordinator, or with --store replica of the replicated store.
    Kv(KvArgs),
    /// Topics: publish and read.
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Subscriptions of a topic: pull and acknowledge.
    #[command(subcommand)]
    Sub(SubCommand),
    /// Work queues: send, receive, acknowledge.
    #[command(subcommand)]
    Queue(QueueCommand),
    /// The brokers of a cluster: what each carries, where groups live.
    #[command(subcommand)]
    Broker(BrokerCommand),
    /// Locks of the coordinator: one holder at a time, with a fencing token.
    #[command(subcommand)]
    Lock(LockCommand),
    /// Elections of the coordinator: one leader at a time, with a fencing token.
    #[command(subcommand)]
    Election(ElectionCommand),
    /// What is registered in the coordinator.
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Call a method through the gateway: quartet rpc echo '{"hello":"world"}'.
    Rpc(RpcArgs),
    /// Methods that the gateway calls by name.
    #[command(subcommand)]
    Method(MethodCommand),
    /// The gateway's own routes.
    #[command(subcommand)]
    Route(RouteCommand),
    /// Every endpoint behind the gateway: breaker, latency, failures.
    Upstreams,
    /// Show where a trace can be seen, and the trace itself if Jaeger answers.
    Trace(TraceArgs),
    /// Measure: throughput, latency and CPU time, next to what others use for the same.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Print a completion script for a shell: quartet completion bash >> ~/.bashrc.
    Completion { shell: clap_complete::Shell },
}

#[derive(Debug, clap::Args)]
pub(crate) struct DataDir {
    /// Where the cluster keeps its data, logs, configuration and pid files.
    #[arg(long, default_value = "data", value_name = "DIR")]
    pub(crate) data: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct UpArgs {
    /// Nodes of each service that can be several: 1, or 3 coordinators and replicas.
    #[arg(long, default_value = "1", value_name = "N")]
    pub(crate) nodes: u16,
    /// Nodes of the replica service: one primary, the others follow it.
    #[arg(long, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=i64::from(Node::MAX_PER_SERVICE)))]
    pub(crate) replicas: Option<u16>,
    /// Only these services.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SERVICE,…")]
    pub(crate) only: Vec<Service>,
    #[command(flatten)]
    pub(crate) data: DataDir,
    /// Return when every process is ready, and leave them running.
    #[arg(long)]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) otlp: Otlp,
}

/// The services read the variable themselves; this is for what we print.
#[derive(Debug, clap::Args)]
pub(crate) struct Otlp {
    /// Where traces go, OTLP over HTTP; off when unset.
    #[arg(long = "otlp-endpoint", env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub(crate) endpoint: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Replay only the first N flights.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rows: Option<u64>,
    /// Replay this file; it needs the columns carrier, flight and dep_delay.
    #[arg(long, value_name = "CSV")]
    pub(crate) file: Option<PathBuf>,
    /// Where the demo's own cluster lives; a directory that is removed at the end if not given.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Leave the cluster and its data as they are at the end.
    #[arg(long)]
    pub(crate) keep: bool,
    #[command(flatten)]
    pub(crate) otlp: Otlp,
    /// Where Jaeger shows traces.
    #[arg(long, env = "JAEGER_URL", default_value = JAEGER_UI, value_name = "URL")]
    pub(crate) jaeger: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RpcArgs {
    /// Such as echo, kv.get, kv.put, queue.send, topic.publish, or a registered one.
    pub(crate) method: String,
    /// JSON; a dash reads it from stdin.
    pub(crate) data: Option<String>,
    /// Comes back in the answer.
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// A repeat with the same key answers with the first result.
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TraceArgs {
    /// 32 hex digits, as in the response header x-trace-id.
    pub(crate) id: String,
    /// Where Jaeger shows traces.
    #[arg(long, env = "JAEGER_URL", default_value = JAEGER_UI, value_name = "URL")]
    pub(crate) jaeger: String,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn only_takes_a_list() {
        let args = Args::parse_from(["quartet", "up", "--only", "broker,replica"]);
        let Command::Up(up) = args.command else { panic!("not up") };
        assert_eq!(up.only, [Service::Broker, Service::Replica]);
    }
}
