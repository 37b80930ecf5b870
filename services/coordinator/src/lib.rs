//! The coordinator service: linearizable keys, transactions, watches, leases, services.
//!
//! One revision orders everything. [`store`] is the deterministic state, changed only by commands
//! that `raft-node` has made durable; [`Coordinator`] is the handle that turns calls into
//! commands and hands out consistent snapshots; `handlers` speaks HTTP: the native face under
//! `/v1`, and etcd's JSON gateway under `/v3` for whoever expects an etcd.
//!
//! ```text
//! handlers ─▶ Coordinator ─▶ raft_node::Group ─▶ log ─▶ state_machine ─▶ store
//!     ▲                                                     │
//!     └── snapshots (linearizable: query; watches: publish) ┘
//! ```
//!
//! **Invariant:** nothing is answered before it is durable, and no reader sees what is not.
//! **Invariant:** a watcher holds a revision and nothing else, so a slow one costs nothing.
//! **Invariant:** a lease never ends before its TTL has passed since the last acknowledged
//! renewal, restarts included; it may live longer by the time nobody ran.
//! **Invariant:** a caller that waits for a lock or for leadership and goes away leaves no place
//! in line behind; if the process ends first, the place ends with its lease.
//! **Invariant:** with authentication on, what a request changes is judged where it is applied, and
//! what it reads by the snapshot it reads; what forgets to say who asks may do nothing. See
//! `docs/authentication.md`.
//! **Absent:** members other than this one.

pub mod store;

mod authn;
pub mod backup;
mod config;
mod coordinator;
mod identity;
mod line;
mod metrics;
mod observe;
mod publish;
mod ready;
mod state_machine;
mod time;
mod upkeep;
mod watching;

mod checks;
mod command_line;
mod registry;

mod handlers;

use std::sync::Arc;
use std::time::Duration;

use chassis::{Context, Service, ServiceConfig as _, StartError};
use consensus::GroupId;
use raft_node::Groups;
use tokio::sync::watch;

pub use command_line::run;
pub use config::Config;
pub use coordinator::{CommandError, Coordinator, Failure};
use identity::Identity;
use metrics::Metrics;
use state_machine::Machine;
use store::Command;
use time::Time;
use upkeep::Upkeep;

/// How often a start tries its first command while the log makes room.
const START_RETRY: Duration = Duration::from_millis(10);

/// The one group of this service.
const GROUP: GroupId = GroupId(1);

/// Opens the log, replays it, and serves.
pub async fn start(context: Context<Config>) -> Result<Service, StartError> {
    // First of all, since calls are refused from the start.
    context.faces.set(handlers::FACES);
    let config = Arc::clone(&context.config);
    if 1 < config.cluster.initial_peers.len() {
        // One of several that each believe to be alone would be several clusters.
        return Err(StartError::new(
            "cluster.initial_peers names several nodes, and this program runs one; start it with \
             its own name only",
        ));
    }
    let mut settings = raft_node::Config::new(config.base().data_dir.clone());
    settings.max_command_bytes = config.max_request_bytes + (64 << 10);
    let lent = raft_node::Host {
        tasks: context.tasks.clone(),
        stop: context.stop.clone(),
        metrics: context.metrics.clone(),
    };
    let groups = Groups::open(settings, lent).map_err(StartError::from_error)?;
    let group = groups.start(GROUP, Machine::default()).await.map_err(StartError::from_error)?;
    let store = group
        .query(|machine| machine.store.clone())
        .await
        .map_err(|error| StartError::with_source("the store did not start", error))?;

    let time = Time::resume(context.clock.clone(), store.now_ms());
    let founded = store.cluster_id() != 0;
    let (publish, published) = watch::channel(Arc::new(store));
    let metrics = Metrics::new(&context.metrics);
    let quota = config.quota_bytes;
    let (coordinator, used_tokens) =
        Coordinator::new(group.clone(), published.clone(), time, quota, metrics);
    Metrics::observe_store(&context.metrics, published, quota, coordinator.term());
    if !founded {
        let (cluster_id, _) = uuid::Uuid::new_v4().as_u64_pair();
        command(&coordinator, Command::Found { cluster_id }).await?;
    }
    command(&coordinator, Command::Resume).await?;

    let stop = || context.stop.clone();
    context.tasks.spawn(authn::note_uses(coordinator.clone(), used_tokens, stop()));
    context.tasks.spawn(publish::run(group, publish, stop()));
    let upkeep = Upkeep {
        coordinator: coordinator.clone(),
        history: upkeep::History::of(&config),
        check: ready::watch(&context, &groups, &coordinator),
    };
    context.tasks.spawn(upkeep.run(stop()));
    context.tasks.spawn(checks::run(coordinator.clone(), config.max_concurrent_checks, stop()));

    let cluster_id = coordinator
        .query(store::Store::cluster_id)
        .await
        .map_err(|failure| StartError::with_source("the store did not start", failure))?;
    let identity = Identity::new(&context, cluster_id);
    let failed = groups.failed();
    Ok(Service {
        public: handlers::router(handlers::App::new(coordinator, identity, groups, &context)),
        peer: None,
        openapi: handlers::openapi(),
        failed: Box::pin(async move {
            let error = failed.await;
            format!("the log failed: {error}; what was acknowledged is safe, start again")
        }),
    })
}

async fn command(coordinator: &Coordinator, command: Command) -> Result<(), StartError> {
    let refused = |failure| StartError::with_source("the log takes no writes", failure);
    loop {
        match coordinator.command(command.clone()).await {
            // On a full disk the log looks for room before it gives out its reserve.
            Err(Failure::Overloaded) => tokio::time::sleep(START_RETRY).await,
            outcome => return outcome.map_err(refused),
        }
    }
}
