//! `quartet election`: elections of the coordinator.

use anyhow::Context as _;
use api::coordinator::{
    CampaignRequest, Candidate, Election, LeaseId, Released, ResignRequest, Text,
};
use clap::Subcommand;
use serde_json::{Value, json};

use super::lock::patience;
use super::{Session, kv};
use crate::cluster::Service;
use crate::http::{Request, encode};
use crate::output::{Output, Table, say};

#[derive(Debug, Subcommand)]
pub(crate) enum ElectionCommand {
    /// Become the leader, or fail if somebody else leads for all that time.
    Campaign {
        name: String,
        /// What the leader says of itself, such as its address.
        #[arg(default_value = "")]
        value: String,
        /// It ends so long after its last keepalive.
        #[arg(long, value_name = "SECONDS", conflicts_with = "lease")]
        ttl: Option<u64>,
        /// Wait in line so long, at most 60.
        #[arg(long, default_value = "0", value_name = "SECONDS")]
        wait: u64,
        /// A lease of your own; one is made for this candidacy if not given.
        #[arg(long)]
        lease: Option<LeaseId>,
        /// A repeat with the same key gets the same candidacy.
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
    },
    /// Give leadership up, or a candidacy.
    Resign {
        name: String,
        /// The one that `campaign` answered.
        lease: LeaseId,
    },
    /// Who leads, and who waits to.
    Show { name: String },
    /// Who leads now, and every change of that, until Ctrl-C.
    Observe { name: String },
}

pub(crate) async fn run(session: &Session, command: ElectionCommand) -> anyhow::Result<()> {
    let of = |name: &str, what: &str| {
        session.url(Service::Coordinator, &format!("/v1/elections/{}{what}", encode(name)))
    };
    match command {
        ElectionCommand::Campaign { name, value, ttl, wait, lease, idempotency_key } => {
            let value = Some(Text::Plain(value));
            let ask = CampaignRequest { value, ttl_seconds: ttl, wait_seconds: Some(wait), lease };
            let request = Request::post(of(&name, "/campaign"))
                .json(&ask)
                .header_if("idempotency-key", idempotency_key)
                .timeout(patience(wait));
            let Some(leader) = session.ask::<Candidate>(request).await? else { return Ok(()) };
            let Candidate { name, lease, fencing_token, .. } = leader;
            say!("{name} is led on lease {lease}, fencing token {fencing_token}");
        }
        ElectionCommand::Resign { name, lease } => {
            let request = Request::post(of(&name, "/resign")).json(&ResignRequest { lease });
            if session.ask::<Released>(request).await?.is_some() {
                say!("{name}: resigned");
            }
        }
        ElectionCommand::Show { name } => {
            let election = session.ask::<Election>(Request::get(of(&name, ""))).await?;
            let Some(election) = election else { return Ok(()) };
            show(election);
        }
        ElectionCommand::Observe { name } => observe(session, &of(&name, "/observe")).await?,
    }
    Ok(())
}

fn show(election: Election) {
    let mut table = Table::new(["", "VALUE", "LEASE", "FENCING TOKEN"]);
    let mut row = |role: &str, candidate: &Candidate| {
        let token = candidate.fencing_token.to_string();
        let lease = candidate.lease.to_string();
        table.row([role.to_owned(), kv::text(&candidate.value), lease, token]);
    };
    match &election.leader {
        Some(leader) => row("leads", leader),
        None => return say!("nobody leads {}", election.name),
    }
    election.candidates.iter().for_each(|candidate| row("waits", candidate));
    table.print();
}

async fn observe(session: &Session, url: &str) -> anyhow::Result<()> {
    let mut events = session.http.events(url).await?;
    loop {
        let event = events.next().await.context("the election cannot be followed any more")?;
        if session.output == Output::Json {
            let data: Value = serde_json::from_str(&event.data)?;
            say!("{}", json!({ "event": event.event, "data": data }));
        } else if event.event == "leader" {
            let leader: Candidate = serde_json::from_str(&event.data)?;
            let Candidate { value, lease, fencing_token, .. } = leader;
            say!("{} leads, lease {lease}, fencing token {fencing_token}", kv::text(&value));
        } else if event.event == "vacant" {
            say!("nobody leads");
        }
    }
}
