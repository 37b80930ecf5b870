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
//! **Invariant:** a node serves as the member that its data directory is, or not at all: one that
//! was removed ends, one that lost its data comes back as a new learner.

pub mod store;

mod authn;
pub mod backup;
mod config;
mod coordinator;
mod identity;
mod leading;
mod line;
mod member;
mod metrics;
mod observe;
mod publish;
mod ready;
mod runs;
mod state_machine;
mod time;
mod upkeep;
mod watching;

mod checks;
mod command_line;
mod registry;

mod handlers;

use std::sync::Arc;

use chassis::{Context, Service, StartError};
use tokio::sync::{Notify, watch};

pub use command_line::run;
pub use config::Config;
pub use coordinator::{CommandError, Coordinator, Failure};
use identity::Identity;
use leading::Leading;
use member::Member;
use metrics::Metrics;
use time::Time;
use upkeep::Upkeep;

/// Opens the log, replays it, and serves.
pub async fn start(context: Context<Config>) -> Result<Service, StartError> {
    // First of all, since calls are refused from the start.
    let config = Arc::clone(&context.config);
    context.faces.set(handlers::faces(&config));
    context.bounds.set(handlers::BOUNDS);
    let time = Time::new(context.clock.clone());
    let member = Member::open(&context, &time).await?;
    let (groups, group) = (member.groups.clone(), member.group.clone());
    let newest = member.newest.clone();
    time.follow(newest.load().now_ms());
    let (publish, published) = watch::channel(newest.load());
    let metrics = Metrics::new(&context.metrics);
    let quota = config.quota_bytes;
    let subscribed = Arc::new(Notify::new());
    let watched = (published, Arc::clone(&subscribed));
    let (coordinator, used_tokens) =
        Coordinator::new((group.clone(), newest.clone()), watched, time, quota, metrics);
    Metrics::observe(&context.metrics, newest.clone(), group.leadership(), quota);
    let mut leading = Leading::new(coordinator.clone());
    if member.is_alone {
        // Whoever is alone leads: what it has to do first is done before it serves.
        leading.take_over_at_start().await?;
    }

    let stop = || context.stop.clone();
    context.tasks.spawn(authn::note_uses(coordinator.clone(), used_tokens, stop()));
    context.tasks.spawn(publish::run(group, newest, subscribed, publish, stop()));
    let upkeep = Upkeep {
        coordinator: coordinator.clone(),
        history: upkeep::History::of(&config),
        check: ready::watch(&context, &groups, &coordinator),
        leading,
    };
    context.tasks.spawn(upkeep.run(stop()));
    context.tasks.spawn(checks::run(coordinator.clone(), config.max_concurrent_checks, stop()));

    context.tasks.spawn(member.clone().leave(context.draining.clone()));

    let removed = member.keep(&context);
    let identity = Identity::new(&member);
    let (failed, ended) = (groups.failed(), member.group.ended());
    Ok(Service {
        public: handlers::router(handlers::App::new(coordinator, identity, groups, &context)),
        peer: None,
        openapi: handlers::openapi(),
        failed: Box::pin(async move {
            tokio::select! {
                failure = failed => {
                    format!("{failure}; what was acknowledged is safe, start again")
                }
                failure = ended => {
                    format!("{failure}; the others go on without it, rebuild it from them")
                }
                Ok(removed) = removed => removed.to_string(),
            }
        }),
    })
}
