//! `quartet broker`: the brokers of a cluster, and where groups live.

use api::broker::{Cluster, GroupView, Groups, TransferRequest, Transferred};
use clap::Subcommand;

use super::{Session, or_dash};
use crate::cluster::Service;
use crate::http::{Request, encode, query};
use crate::output::{Table, say};

#[derive(Debug, Subcommand)]
pub(crate) enum BrokerCommand {
    /// The brokers, and what each carries.
    Ls,
    /// Where partitions and queues live: who has copies, who leads, what moves.
    Groups {
        /// Only those with a copy on this broker.
        #[arg(long, value_name = "BROKER")]
        node: Option<String>,
    },
    /// Let another broker lead: one partition or queue, or everything that a broker leads.
    #[command(group(clap::ArgGroup::new("what").required(true).args(["topic", "queue", "from"])))]
    Transfer {
        #[arg(long)]
        topic: Option<String>,
        /// Which partition; may be left out if the topic has only one.
        #[arg(long, value_name = "N", requires = "topic")]
        partition: Option<u32>,
        #[arg(long)]
        queue: Option<String>,
        /// Everything that this broker leads.
        #[arg(long, value_name = "BROKER")]
        from: Option<String>,
        /// Who is to lead; with --from it may be left out.
        #[arg(long, value_name = "BROKER", required_unless_present = "from")]
        to: Option<String>,
    },
    /// Move everything off a broker.
    Drain { broker: String },
    /// Let a broker have copies again.
    Undrain { broker: String },
}

pub(crate) async fn run(session: &Session, command: BrokerCommand) -> anyhow::Result<()> {
    let url = |path: &str| session.url(Service::Broker, &format!("{}{path}", api::broker::CLUSTER));
    match command {
        BrokerCommand::Ls => list(session, Request::get(url(""))).await,
        BrokerCommand::Groups { node } => {
            let request = Request::get(url("/groups") + &query(&[("node", node)]));
            let Some(groups) = session.ask::<Groups>(request).await? else { return Ok(()) };
            places(&groups.groups);
            Ok(())
        }
        BrokerCommand::Transfer { topic, partition, queue, from, to } => {
            let streams = None;
            let body = TransferRequest { topic, partition, queue, streams, from, to };
            transfer(session, Request::post(url("/transfer")).json(&body)).await
        }
        BrokerCommand::Drain { broker } => {
            let request = Request::post(url(&format!("/members/{}/drain", encode(&broker))));
            session.tell(request, &format!("broker {broker} is being emptied")).await
        }
        BrokerCommand::Undrain { broker } => {
            let request = Request::post(url(&format!("/members/{}/undrain", encode(&broker))));
            session.tell(request, &format!("broker {broker} gets copies again")).await
        }
    }
}

async fn list(session: &Session, request: Request) -> anyhow::Result<()> {
    let Some(cluster) = session.ask::<Cluster>(request).await? else { return Ok(()) };
    let mut table =
        Table::new(["BROKER", "ID", "STATE", "ZONE", "COPIES", "TO LEAD", "CLIENTS", "PEERS"]);
    for broker in cluster.brokers {
        let state = match (broker.awaited, broker.up, broker.draining) {
            (true, ..) => "awaited",
            (_, false, _) => "down",
            (_, _, true) => "draining",
            _ => "up",
        };
        table.row([
            broker.name,
            broker.id,
            state.to_owned(),
            broker.zone,
            broker.replicas.to_string(),
            broker.preferred.to_string(),
            broker.client_url,
            broker.peer_url,
        ]);
    }
    table.print();
    let (leader, groups, moving) = (or_dash(cluster.leader), cluster.groups, cluster.moving);
    say!("catalog led by {leader}; {groups} groups, {moving} of them moving");
    Ok(())
}

async fn transfer(session: &Session, request: Request) -> anyhow::Result<()> {
    let Some(done) = session.ask::<Transferred>(request).await? else { return Ok(()) };
    match done.leader {
        Some(leader) => say!("led by {leader} in term {}", or_dash(done.term)),
        None => say!("{} groups are led by others now", done.moved),
    }
    for stayed in done.stayed {
        say!("group {} stays: {}", stayed.group, stayed.reason);
    }
    Ok(())
}

/// A table of where groups live.
pub(super) fn places(groups: &[GroupView]) {
    let mut table = Table::new(["GROUP", "OF", "LEADER", "TERM", "COPIES", "MOVING"]);
    for group in groups {
        table.row([
            group.group.to_string(),
            what(group),
            or_dash(group.leader.as_ref()),
            or_dash(group.term),
            group.replicas.join(", "),
            moving(group),
        ]);
    }
    table.print();
}

fn what(group: &GroupView) -> String {
    match (&group.topic, &group.queue) {
        (Some(topic), _) => format!("{topic}/{}", group.partition.unwrap_or_default()),
        (_, Some(queue)) => queue.clone(),
        _ => format!("streams/{}", group.streams.unwrap_or_default()),
    }
}

fn moving(group: &GroupView) -> String {
    let Some(moving) = &group.moving else { return "-".to_owned() };
    let undone = if moving.cancelled { " (being undone)" } else { "" };
    match (&moving.from, &moving.to) {
        (Some(from), Some(to)) => format!("{from} to {to}{undone}"),
        (Some(from), None) => format!("off {from}{undone}"),
        (None, Some(to)) => format!("on to {to}{undone}"),
        (None, None) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use api::broker::GroupMove;

    use super::*;

    #[test]
    fn a_move_is_told_by_both_ends() {
        let text = |from: Option<&str>, to: Option<&str>, cancelled| {
            let (from, to) = (from.map(str::to_owned), to.map(str::to_owned));
            moving(&GroupView {
                group: 7,
                topic: Some("t".to_owned()),
                partition: Some(2),
                queue: None,
                streams: None,
                leader: None,
                term: None,
                preferred: "b1".to_owned(),
                wanted: 3,
                replicas: Vec::new(),
                moving: Some(GroupMove { to, from, cancelled }),
            })
        };
        assert_eq!(text(Some("b1"), Some("b4"), false), "b1 to b4");
        assert_eq!(text(Some("b1"), None, false), "off b1");
        assert_eq!(text(None, Some("b4"), true), "on to b4 (being undone)");
    }
}
