//! `quartet queue`: work queues.

mod ask;
mod create;
mod redrives;

use api::broker::{Peeked, Purged, QueueList, QueueView, RedriveRequest, Redriven, Sent};
use clap::Subcommand;

use self::ask::{AskArgs, ReplyArgs};
use self::create::CreateArgs;
use self::redrives::RedrivesCommand;
use super::broker::places;
use super::deliveries::{self, NackArgs, TakeArgs};
use super::{Session, content_type, or_dash, payload};
use crate::cluster::Service;
use crate::http::{Request, encode, query};
use crate::output::{Table, say};

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// List queues.
    Ls,
    /// Create a queue, or change it.
    Create(CreateArgs),
    /// How full a queue is.
    Show { queue: String },
    /// Send one message; a dash reads it from stdin.
    Send(SendArgs),
    /// Take messages.
    Receive {
        queue: String,
        #[command(flatten)]
        take: TakeArgs,
    },
    /// Acknowledge messages.
    Ack {
        queue: String,
        #[arg(required = true)]
        ack_ids: Vec<String>,
    },
    /// Give messages back.
    Nack {
        queue: String,
        #[command(flatten)]
        nack: NackArgs,
    },
    /// Ask whoever receives, and wait for the answer.
    Ask(AskArgs),
    /// Answer a message that was received, and acknowledge it.
    Reply(ReplyArgs),
    /// Look at messages without taking them.
    Peek {
        queue: String,
        #[arg(long, default_value = "10")]
        limit: u32,
        /// Only the one that was sent with this correlation id.
        #[arg(long, value_name = "ID")]
        correlation_id: Option<String>,
    },
    /// Remove every message.
    Purge { queue: String },
    /// Bring dead-lettered messages back to where they came from.
    Redrive {
        queue: String,
        /// Another queue than the one they came from.
        #[arg(long, value_name = "QUEUE")]
        to: Option<String>,
        #[arg(long)]
        max: Option<u32>,
    },
    /// Bring dead letters back as a task that goes on by itself.
    #[command(subcommand)]
    Redrives(RedrivesCommand),
    /// Delete a queue with its messages.
    Rm { queue: String },
}

#[derive(Debug, clap::Args)]
pub(crate) struct SendArgs {
    queue: String,
    data: String,
    /// Higher is delivered first.
    #[arg(long)]
    priority: Option<u8>,
    #[arg(long)]
    delay_ms: Option<u64>,
    #[arg(long)]
    ttl_ms: Option<u64>,
    /// A repeat within the queue's window is dropped.
    #[arg(long, value_name = "ID")]
    dedup_id: Option<String>,
    #[arg(long)]
    group: Option<String>,
    /// What it answers; it is found by that.
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// The input is a batch: one {"data", "priority", …} a line.
    #[arg(long)]
    ndjson: bool,
}

pub(crate) async fn run(session: &Session, command: QueueCommand) -> anyhow::Result<()> {
    let of = |queue: &str| session.url(Service::Broker, &format!("/v1/queues/{}", encode(queue)));
    match command {
        QueueCommand::Ls => {
            list(session, Request::get(session.url(Service::Broker, "/v1/queues"))).await
        }
        QueueCommand::Create(args) => {
            let url = of(&args.queue);
            show(session, Request::put(url).json(&args.spec())).await
        }
        QueueCommand::Show { queue } => show(session, Request::get(of(&queue))).await,
        QueueCommand::Send(args) => send(session, &of(&args.queue), args).await,
        QueueCommand::Receive { queue, take } => {
            deliveries::take(session, &of(&queue), "receive", &take).await
        }
        QueueCommand::Ack { queue, ack_ids } => {
            deliveries::ack(session, &of(&queue), ack_ids).await
        }
        QueueCommand::Nack { queue, nack } => deliveries::nack(session, &of(&queue), nack).await,
        QueueCommand::Ask(args) => ask::ask(session, &of(&args.queue), args).await,
        QueueCommand::Reply(args) => ask::reply(session, &of(&args.queue), args).await,
        QueueCommand::Peek { queue, limit, correlation_id } => {
            let limit = Some(limit.to_string());
            let query = query(&[("limit", limit), ("correlation_id", correlation_id)]);
            peek(session, Request::get(of(&queue) + "/peek" + &query)).await
        }
        QueueCommand::Purge { queue } => {
            let purged = session.ask::<Purged>(Request::post(of(&queue) + "/purge")).await?;
            purged.inspect(|purged| say!("{} removed", purged.removed));
            Ok(())
        }
        QueueCommand::Redrive { queue, to, max } => {
            let request = Request::post(of(&queue) + "/redrive").json(&RedriveRequest { to, max });
            let redriven = session.ask::<Redriven>(request).await?;
            redriven.inspect(|done| say!("{} moved, {} left", done.moved, done.left));
            Ok(())
        }
        QueueCommand::Redrives(command) => redrives::run(session, of, command).await,
        QueueCommand::Rm { queue } => {
            session.tell(Request::delete(of(&queue)), &format!("queue {queue} is deleted")).await
        }
    }
}

async fn send(session: &Session, url: &str, args: SendArgs) -> anyhow::Result<()> {
    let body = payload(&args.data)?;
    let kind = if args.ndjson { api::headers::NDJSON } else { content_type(&body) };
    let request = Request::post(format!("{url}/messages"))
        .header_if("x-priority", args.priority.map(|value| value.to_string()))
        .header_if("x-delay-ms", args.delay_ms.map(|value| value.to_string()))
        .header_if("x-ttl-ms", args.ttl_ms.map(|value| value.to_string()))
        .header_if("x-dedup-id", args.dedup_id)
        .header_if("x-group", args.group)
        .header_if("x-correlation-id", args.correlation_id)
        .body(kind, body);
    if let Some(sent) = session.ask::<Sent>(request).await? {
        say!("{} sent, {} already there: {}", sent.count, sent.deduplicated, sent.ids.join(" "));
    }
    Ok(())
}

async fn list(session: &Session, request: Request) -> anyhow::Result<()> {
    let Some(list) = session.ask::<QueueList>(request).await? else { return Ok(()) };
    table(list.queues);
    Ok(())
}

async fn show(session: &Session, request: Request) -> anyhow::Result<()> {
    let Some(view) = session.ask::<QueueView>(request).await? else { return Ok(()) };
    let placement = view.placement.clone();
    table(vec![view]);
    places(placement.as_slice());
    Ok(())
}

fn table(views: Vec<QueueView>) {
    let mut table = Table::new([
        "QUEUE",
        "MESSAGES",
        "READY",
        "IN FLIGHT",
        "DELAYED",
        "OLDEST",
        "REDELIVERED",
        "DEAD LETTERED",
    ]);
    for QueueView { name, stats, .. } in views {
        table.row([
            name,
            stats.messages.to_string(),
            stats.ready.to_string(),
            stats.in_flight.to_string(),
            stats.delayed.to_string(),
            or_dash(stats.oldest_age_seconds.map(|age| format!("{age:.1} s"))),
            stats.redelivered.to_string(),
            stats.dead_lettered.to_string(),
        ]);
    }
    table.print();
}

async fn peek(session: &Session, request: Request) -> anyhow::Result<()> {
    let Some(peeked) = session.ask::<Peeked>(request).await? else { return Ok(()) };
    let mut table = Table::new(["ID", "PRIORITY", "DELIVERIES", "PUBLISHED", "DATA"]);
    for message in peeked.messages {
        table.row([
            message.id,
            message.priority.to_string(),
            message.deliveries.to_string(),
            message.published_at,
            deliveries::data(message.data.as_deref(), message.data_base64.as_deref()),
        ]);
    }
    table.print();
    Ok(())
}
