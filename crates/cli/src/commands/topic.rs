//! `quartet topic`: publish and read.

use api::broker::{Appended, Messages, Retention, TopicList, TopicSpec, TopicView};
use clap::Subcommand;

use super::broker::places;
use super::{Session, content_type, deliveries, pair, payload};
use crate::cluster::Service;
use crate::http::{Request, encode, query};
use crate::output::{Table, say};

#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// List topics.
    Ls,
    /// Create a topic, or change it.
    Create {
        topic: String,
        #[arg(long)]
        partitions: Option<u32>,
        /// Copies of every message.
        #[arg(long, value_name = "N")]
        replicas: Option<u32>,
        /// Messages older than this may go.
        #[arg(long, value_name = "SECONDS")]
        retention_seconds: Option<u64>,
        /// The oldest messages of a partition may go beyond this size.
        #[arg(long, value_name = "BYTES")]
        retention_bytes: Option<u64>,
    },
    /// One topic and its partitions.
    Show { topic: String },
    /// Publish one message; a dash reads it from stdin.
    #[command(visible_alias = "pub")]
    Publish {
        topic: String,
        data: String,
        /// Messages with the same key stay in order.
        #[arg(long)]
        key: Option<String>,
        /// An attribute, name=value; may be given several times.
        #[arg(long = "attr", value_name = "NAME=VALUE", value_parser = pair)]
        attributes: Vec<(String, String)>,
        /// The input is a batch: one {"data", "key", "attributes"} a line.
        #[arg(long)]
        ndjson: bool,
        /// A repeat with the same key answers with the first result.
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
    },
    /// Read messages.
    Read {
        topic: String,
        #[arg(long, default_value = "0")]
        partition: u32,
        /// earliest, latest, an offset, or a time such as 2026-01-31T12:00:00Z.
        #[arg(long, default_value = "earliest")]
        from: String,
        #[arg(long, default_value = "100")]
        limit: u32,
        /// Wait so long for the first message.
        #[arg(long, default_value = "0", value_name = "SECONDS")]
        wait: u32,
    },
    /// Delete a topic with its messages and subscriptions.
    Rm { topic: String },
}

pub(crate) async fn run(session: &Session, command: TopicCommand) -> anyhow::Result<()> {
    let url = |path: &str| session.url(Service::Broker, &format!("/v1/topics{path}"));
    let of = |topic: &str| url(&format!("/{}", encode(topic)));
    match command {
        TopicCommand::Ls => list(session, Request::get(url(""))).await,
        TopicCommand::Create {
            topic,
            partitions,
            replicas,
            retention_seconds,
            retention_bytes,
        } => {
            let retention = Retention { seconds: retention_seconds, bytes: retention_bytes };
            let spec = TopicSpec { partitions, replicas, retention };
            show(session, Request::put(of(&topic)).json(&spec)).await
        }
        TopicCommand::Show { topic } => show(session, Request::get(of(&topic))).await,
        TopicCommand::Publish { topic, data, key, attributes, ndjson, idempotency_key } => {
            let body = payload(&data)?;
            let kind = if ndjson { api::headers::NDJSON } else { content_type(&body) };
            let mut request = Request::post(of(&topic) + "/messages")
                .header_if("x-key", key)
                .header_if("idempotency-key", idempotency_key)
                .body(kind, body);
            for (name, value) in attributes {
                request = request.header(format!("x-attr-{name}"), value);
            }
            publish(session, request).await
        }
        TopicCommand::Read { topic, partition, from, limit, wait } => {
            let pairs = [
                ("partition", Some(partition.to_string())),
                ("from", Some(from)),
                ("limit", Some(limit.to_string())),
                ("wait_seconds", Some(wait.to_string())),
            ];
            let url = of(&topic) + "/messages" + &query(&pairs);
            let patience = std::time::Duration::from_secs(u64::from(wait) + 30);
            read(session, Request::get(url).timeout(patience)).await
        }
        TopicCommand::Rm { topic } => {
            session.tell(Request::delete(of(&topic)), &format!("topic {topic} is deleted")).await
        }
    }
}

async fn list(session: &Session, request: Request) -> anyhow::Result<()> {
    let Some(list) = session.ask::<TopicList>(request).await? else { return Ok(()) };
    let mut table = Table::new(["TOPIC", "PARTITIONS", "MESSAGES", "BYTES", "SUBSCRIPTIONS"]);
    for topic in list.topics {
        table.row([
            topic.name,
            topic.partitions.to_string(),
            topic.messages.to_string(),
            topic.bytes.to_string(),
            topic.subscriptions.join(", "),
        ]);
    }
    table.print();
    Ok(())
}

async fn show(session: &Session, request: Request) -> anyhow::Result<()> {
    let Some(topic) = session.ask::<TopicView>(request).await? else { return Ok(()) };
    say!("topic {}, {} messages, {} bytes", topic.name, topic.messages, topic.bytes);
    let mut table = Table::new(["PARTITION", "EARLIEST", "NEXT", "MESSAGES", "BYTES"]);
    for of in topic.partition_stats {
        table.row([
            of.partition.to_string(),
            of.earliest.to_string(),
            of.next.to_string(),
            of.messages.to_string(),
            of.bytes.to_string(),
        ]);
    }
    table.print();
    places(&topic.placement);
    Ok(())
}

async fn publish(session: &Session, request: Request) -> anyhow::Result<()> {
    let Some(appended) = session.ask::<Vec<Appended>>(request).await? else { return Ok(()) };
    for of in appended {
        say!("partition {}: {} at offset {} to {}", of.partition, of.count, of.first, of.last);
    }
    Ok(())
}

async fn read(session: &Session, request: Request) -> anyhow::Result<()> {
    let Some(read) = session.ask::<Messages>(request).await? else { return Ok(()) };
    let mut table = Table::new(["OFFSET", "PUBLISHED", "KEY", "DATA"]);
    for message in read.messages {
        table.row([
            message.offset.to_string(),
            message.published_at,
            super::or_dash(message.key),
            deliveries::data(message.data.as_deref(), message.data_base64.as_deref()),
        ]);
    }
    table.print();
    crate::output::note!("read on with --from {}", read.next);
    Ok(())
}
