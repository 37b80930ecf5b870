//! `quartet sub`: subscriptions of a topic.

use api::broker::{
    Condition, PushSpec, PushTested, SeekRequest, Sought, SubscriptionList, SubscriptionSpec,
    SubscriptionView,
};
use clap::Subcommand;

use super::deliveries::{self, NackArgs, TakeArgs};
use super::retry::RetryArgs;
use super::{Session, or_dash, pair};
use crate::cluster::Service;
use crate::http::{Request, encode};
use crate::output::{Table, say};

#[derive(Debug, Subcommand)]
pub(crate) enum SubCommand {
    /// List the subscriptions of a topic.
    Ls { topic: String },
    /// Create a subscription, or change it.
    Create {
        topic: String,
        name: String,
        /// earliest, latest, or a time.
        #[arg(long)]
        start: Option<String>,
        /// How long a message may be held before it is delivered again.
        #[arg(long, value_name = "SECONDS")]
        ack_deadline_seconds: Option<f64>,
        /// Afterwards it goes to the dead-letter queue.
        #[arg(long, value_name = "N")]
        max_deliveries: Option<u32>,
        /// queue/NAME
        #[arg(long, value_name = "QUEUE")]
        dead_letter: Option<String>,
        #[command(flatten)]
        retry: RetryArgs,
        /// Only messages with this attribute, name=value; may be given several times.
        #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
        filter: Vec<(String, String)>,
        /// Messages of one key one at a time, in order.
        #[arg(long)]
        ordered_by_key: bool,
        /// Send the messages to this webhook: http://host[:port]/path.
        #[arg(long, value_name = "URL")]
        push_url: Option<String>,
        /// What calls are signed with: whsec_ and base64. Drawn and shown (with --output json) if
        /// absent.
        #[arg(long, value_name = "SECRET", requires = "push_url")]
        push_secret: Option<String>,
    },
    /// Push again after the endpoint was gone.
    Resume { topic: String, name: String },
    /// Call the webhook once, with a made-up message.
    Test { topic: String, name: String },
    /// How far a subscription is.
    Show { topic: String, name: String },
    /// Take messages.
    Pull {
        topic: String,
        name: String,
        #[command(flatten)]
        take: TakeArgs,
    },
    /// Acknowledge messages.
    Ack {
        topic: String,
        name: String,
        #[arg(required = true)]
        ack_ids: Vec<String>,
    },
    /// Give messages back.
    Nack {
        topic: String,
        name: String,
        #[command(flatten)]
        nack: NackArgs,
    },
    /// Move to another position: earliest, latest, an offset, or a time.
    Seek { topic: String, name: String, to: String },
    /// Delete a subscription.
    Rm { topic: String, name: String },
}

pub(crate) async fn run(session: &Session, command: SubCommand) -> anyhow::Result<()> {
    let all = |topic: &str| {
        session.url(Service::Broker, &format!("/v1/topics/{}/subscriptions", encode(topic)))
    };
    let of = |topic: &str, name: &str| format!("{}/{}", all(topic), encode(name));
    match command {
        SubCommand::Ls { topic } => list(session, Request::get(all(&topic))).await,
        SubCommand::Create {
            topic,
            name,
            start,
            ack_deadline_seconds,
            max_deliveries,
            dead_letter,
            retry,
            filter,
            ordered_by_key,
            push_url,
            push_secret,
        } => {
            let push =
                push_url.map(|url| PushSpec { url, secret: push_secret, ..PushSpec::default() });
            let spec = SubscriptionSpec {
                start,
                ack_deadline_seconds,
                max_deliveries,
                dead_letter,
                retry: retry.retry(),
                filter: filter.into_iter().map(|(k, v)| (k, Condition::Equals(v))).collect(),
                ordered_by_key,
                push,
            };
            show(session, Request::put(of(&topic, &name)).json(&spec)).await
        }
        SubCommand::Resume { topic, name } => {
            show(session, Request::post(of(&topic, &name) + "/resume")).await
        }
        SubCommand::Test { topic, name } => {
            test(session, Request::post(of(&topic, &name) + "/test")).await
        }
        SubCommand::Show { topic, name } => show(session, Request::get(of(&topic, &name))).await,
        SubCommand::Pull { topic, name, take } => {
            deliveries::take(session, &of(&topic, &name), "pull", &take).await
        }
        SubCommand::Ack { topic, name, ack_ids } => {
            deliveries::ack(session, &of(&topic, &name), ack_ids).await
        }
        SubCommand::Nack { topic, name, nack } => {
            deliveries::nack(session, &of(&topic, &name), nack).await
        }
        SubCommand::Seek { topic, name, to } => {
            let request = Request::post(of(&topic, &name) + "/seek").json(&SeekRequest { to });
            if let Some(sought) = session.ask::<Sought>(request).await? {
                say!("next offset of each partition: {:?}", sought.positions);
            }
            Ok(())
        }
        SubCommand::Rm { topic, name } => {
            let done = format!("subscription {name} of {topic} is deleted");
            session.tell(Request::delete(of(&topic, &name)), &done).await
        }
    }
}

async fn test(session: &Session, request: Request) -> anyhow::Result<()> {
    let Some(tested) = session.ask::<PushTested>(request).await? else { return Ok(()) };
    let PushTested { delivered, status, detail } = tested;
    let status = status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
    say!("delivered: {delivered} ({status}) {detail}");
    Ok(())
}

async fn list(session: &Session, request: Request) -> anyhow::Result<()> {
    let Some(list) = session.ask::<SubscriptionList>(request).await? else { return Ok(()) };
    table(list.subscriptions);
    Ok(())
}

async fn show(session: &Session, request: Request) -> anyhow::Result<()> {
    let Some(view) = session.ask::<SubscriptionView>(request).await? else { return Ok(()) };
    table(vec![view]);
    Ok(())
}

fn table(views: Vec<SubscriptionView>) {
    let mut table =
        Table::new(["TOPIC", "NAME", "LAG", "IN FLIGHT", "OLDEST UNACKED", "REDELIVERED", "ACKED"]);
    for view in views {
        table.row([
            view.topic,
            view.name,
            view.stats.lag.to_string(),
            view.stats.in_flight.to_string(),
            or_dash(view.stats.oldest_unacked_seconds.map(|age| format!("{age:.1} s"))),
            view.stats.redelivered.to_string(),
            view.stats.acked.to_string(),
        ]);
    }
    table.print();
}
