//! The broker: topics, subscriptions and queues over HTTP.
//!
//! The rules are in `messaging`, as state machines; `raft-node` drives them over one log. Here
//! they meet: a request becomes a command or a look at a machine, and waits for what it needs.
//!
//! ```text
//! handlers ─▶ publish, send ─▶ group.propose ─▶ log ─▶ apply ─▶ offsets, ids
//!          ─▶ receive, pull ─▶ wait ─▶ group.local (who holds what) ─▶ bodies read from the log
//!          ─▶ settle ─────────▶ group.local, then for acks group.propose
//! keeper (one per group): reports deliveries, gives up, redelivers, trims
//! ```
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

mod log;
mod publish;
mod read;
mod send;

mod handed;
mod pull;
mod receive;
mod settle;
mod wait;

mod dead_letter;
mod keeper;
mod redrive;
mod trace;

mod handlers;

use chassis::{Context, Service, StartError};
use messaging::catalog::CATALOG;
use raft_node::Groups;

pub use config::{Config, Limits};

use crate::broker::Broker;
use crate::state_machine::CatalogMachine;

/// Opens the log, serves what the catalog says, and hands over the router.
pub async fn start(context: Context<Config>) -> Result<Service, StartError> {
    let data_dir = context.config.base.data_dir.clone();
    let groups =
        Groups::open(raft_node::Config::new(data_dir), &context.tasks, context.stop.clone())
            .map_err(StartError::from_error)?;
    chassis::log::observe(groups.wal(), &context.metrics, &context.health);
    let failed = groups.failed();
    let catalog = groups.start(CATALOG, CatalogMachine::default()).await;
    let catalog = catalog.map_err(StartError::from_error)?;
    let broker = Broker::new(&context, groups, catalog);
    let unserved = |error| StartError::with_source("the catalog cannot be served", error);
    broker.refresh().await.map_err(unserved)?;
    watch_damage(&context, &broker);
    Ok(Service {
        public: handlers::router(broker),
        peer: None,
        openapi: handlers::openapi(),
        failed: Box::pin(async move { failed.await.to_string() }),
    })
}

/// `/readyz` names the partitions and queues whose logs were found damaged.
fn watch_damage(context: &Context<Config>, broker: &Broker) {
    let broker = broker.clone();
    context.health.probe("logs", move || {
        let directory = broker.directory();
        let partitions = directory.topics.values().flat_map(|topic| &topic.partitions);
        let partitions = partitions.filter_map(|partition| partition.served.damage());
        let queues = directory.queues.values().filter_map(|queue| queue.served.damage());
        match partitions.chain(queues).next() {
            None => Ok(()),
            Some(damage) => Err(damage.to_owned()),
        }
    });
}
