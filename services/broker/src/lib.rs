//! The broker: topics, subscriptions and queues over HTTP.
//!
//! The rules are in `messaging`, as state machines; `raft-node` drives them over one log. Here
//! they meet: a request becomes a command or a look at a machine, and waits for what it needs.
//!
//! ```text
//! handlers ─▶ publish, send ─▶ group.propose ─▶ log ─▶ apply ─▶ offsets, ids
//!          ─▶ receive, pull ─▶ wait ─▶ group.local (who holds what) ─▶ bodies read from the log
//!          ─▶ settle ─────────▶ group.local, then for acks group.propose
//! push ──────────────▶ takes and settles as consumers do, where a partition is led
//! keeper (one per group, where it is led): reports deliveries, gives up, redelivers, trims
//! ```
//!
//! A group may live on other brokers: see [`route`] for who carries out an operation, [`host`] for
//! what a copy does here, [`cluster`] for which copies are here.
//!
//! **Invariant:** a publish, a send and an ack are answered after the log has them on disk.
//! **Invariant:** a message is removed from a queue only after its dead-letter queue has it.
//! **Invariant:** a delivery costs no write of its own; see the delivery rules in `messaging`.
//! **Invariant:** a consumer that leaves before its answer leaves its messages to the next.

mod config;
mod directory;
mod error;
mod message;
mod metrics;
mod state_machine;

mod admin;
mod broker;
mod stats;

mod dry_run;
mod hub;
mod log;
mod publish;
mod read;
mod recent;
mod send;
mod sqs;
mod streams;
mod subjects;

mod handed;
mod pull;
mod receive;
mod settle;
mod wait;

mod event;
mod push;

mod dead_letter;
mod keeper;
mod moves;
mod redrive;
mod replies;
mod trace;
mod transfer;

mod cluster;
mod host;
mod route;

mod handlers;

use chassis::{Context, Service, StartError};

pub use config::{Cluster, Config, Limits};
pub use raft_node::InitialState;

use crate::broker::Broker;
use crate::cluster::{Member, Mover, Planner, Reconcile};
use crate::route::Late;

/// Opens the log, serves what the catalog says, and hands over the router.
pub async fn start(context: Context<Config>) -> Result<Service, StartError> {
    // First of all, since calls are refused from the start.
    handlers::faces(&context.faces);
    let late = Late::default();
    let member = Member::open(&context, &late).await?;
    let groups = &member.groups;
    chassis::log::observe(groups.wal(), &context.metrics, &context.health);
    let failed = groups.failed();
    let broker = Broker::new(&context, &member);
    let mut reconcile = Reconcile::new(&broker);
    if member.is_alone {
        // Whoever is alone serves everything from the first request on.
        match reconcile.follow().await {
            Ok(()) => broker.directory().whole.set(),
            Err(error) => {
                tracing::error!(%error, "the catalog is not served completely");
                member.catch_up(&broker);
            }
        }
    } else {
        member.catch_up(&broker);
    }
    context.tasks.spawn(reconcile.run());
    context.tasks.spawn(Planner::new(&broker).run());
    context.tasks.spawn(Mover::new(&broker).run());
    late.set(&broker);
    let (ended, removed) = (member.catalog.ended(), member.keep(&context));
    context.tasks.spawn(member.leave(broker.clone()));
    watch_logs(&context, &broker);
    Ok(Service {
        peer: None,
        public: handlers::router(broker),
        openapi: handlers::openapi(),
        failed: Box::pin(async move {
            tokio::select! {
                failure = failed => failure.to_string(),
                failure = ended => {
                    format!("{failure}; if there are other brokers they go on, remove this one \
                             and add it again with an empty data directory")
                }
                Ok(removed) = removed => removed.to_string(),
            }
        }),
    })
}

/// `/readyz` names the partitions and queues that are not served, and why.
fn watch_logs(context: &Context<Config>, broker: &Broker) {
    let broker = broker.clone();
    context.health.probe("logs", move || {
        let unserved = broker.directory().unserved().next();
        match unserved.or_else(|| broker.shared.behind.borrow().clone()) {
            None => Ok(()),
            Some(reason) => Err(reason),
        }
    });
}
