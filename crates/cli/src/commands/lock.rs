//! `quartet lock`: locks of the coordinator.

use std::time::Duration;

use api::coordinator::{LeaseId, Lock, LockPlace, LockRequest, LockState, Released};
use clap::Subcommand;

use super::Session;
use crate::cluster::Service;
use crate::http::{Request, encode, query};
use crate::output::{Table, say};

#[derive(Debug, Subcommand)]
pub(crate) enum LockCommand {
    /// Take a lock, or fail if it is not free in time.
    Acquire {
        name: String,
        /// It ends so long after its last keepalive.
        #[arg(long, value_name = "SECONDS", conflicts_with = "lease")]
        ttl: Option<u64>,
        /// Wait in line so long, at most 60.
        #[arg(long, default_value = "0", value_name = "SECONDS")]
        wait: u64,
        /// Shown to others.
        #[arg(long)]
        owner: Option<String>,
        /// A lease of your own; one is made for this lock if not given.
        #[arg(long)]
        lease: Option<LeaseId>,
        /// A repeat with the same key gets the same lock.
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
    },
    /// Give a lock up.
    Release {
        name: String,
        /// The one that `acquire` answered.
        lease: LeaseId,
    },
    /// Who holds a lock, and who waits for it.
    Show { name: String },
}

pub(crate) async fn run(session: &Session, command: LockCommand) -> anyhow::Result<()> {
    let of = |name: &str| session.url(Service::Coordinator, &format!("/v1/locks/{}", encode(name)));
    match command {
        LockCommand::Acquire { name, ttl, wait, owner, lease, idempotency_key } => {
            let ask = LockRequest { ttl_seconds: ttl, wait_seconds: Some(wait), owner, lease };
            let request = Request::post(of(&name))
                .json(&ask)
                .header_if("idempotency-key", idempotency_key)
                .timeout(patience(wait));
            let Some(lock) = session.ask::<Lock>(request).await? else { return Ok(()) };
            let Lock { name, lease, fencing_token, .. } = lock;
            say!("{name} is held on lease {lease}, fencing token {fencing_token}");
        }
        LockCommand::Release { name, lease } => {
            let url = of(&name) + &query(&[("lease", Some(lease.to_string()))]);
            if session.ask::<Released>(Request::delete(url)).await?.is_some() {
                say!("{name} is released");
            }
        }
        LockCommand::Show { name } => {
            let Some(state) = session.ask::<LockState>(Request::get(of(&name))).await? else {
                return Ok(());
            };
            show(state);
        }
    }
    Ok(())
}

fn show(state: LockState) {
    let mut table = Table::new(["", "OWNER", "LEASE", "FENCING TOKEN", "SECONDS LEFT"]);
    let mut row = |role: &str, place: LockPlace| {
        let LockPlace { owner, lease, fencing_token, remaining_seconds } = place;
        table.row([
            role.to_owned(),
            owner,
            lease.to_string(),
            fencing_token.to_string(),
            remaining_seconds.to_string(),
        ]);
    };
    match state.holder {
        Some(holder) => row("holds", holder),
        None => return say!("{} is free", state.name),
    }
    state.waiters.into_iter().for_each(|waiter| row("waits", waiter));
    table.print();
}

/// Longer than the service waits, so that the answer is its own.
pub(super) fn patience(wait_seconds: u64) -> Duration {
    Duration::from_secs(wait_seconds.saturating_add(30))
}
