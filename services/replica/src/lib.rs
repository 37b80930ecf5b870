//! The replica service: a primary-replica key-value store over HTTP.
//!
//! A write's way: `handlers/kv` makes a [`write::Write`] of it, `replica` hands it to the owner
//! task ([`driver`]), the core (`replication::Primary`) gives it a position, the log makes it
//! durable while [`peer`] streams it to the replicas, and the writer is answered when its level
//! is reached. Committed entries then reach the [`engine`] on a thread of its own ([`apply`]).
//! A read's way is shorter: the published [`view`] has what it needs.
//!
//! **Invariant:** durable before visible. A reader sees nothing that a crash of this node could
//! take back, and a strong reader nothing that the loss of a minority could.
//! **Invariant:** the engine holds only committed entries; the rest is in the [`overlay`].
//! **Invariant:** readers and slow replicas never wait for, or hold up, the owner task.

mod config;
mod metrics;

mod handlers;

mod replica;

mod forward;
mod read;
mod status;
mod write;

mod driver;

mod apply;
mod engine;
mod log;
mod overlay;
mod recent;
mod view;

mod open;
mod peer;
mod ready;
mod room;

use std::sync::Arc;

use chassis::{Context, Service, StartError};
use tokio::sync::{oneshot, watch};

pub use config::{Config, Member, Replication, Role, Store};

use driver::Driver;
use forward::Forward;
use metrics::Metrics;
use peer::follow::Follower;
use peer::serve::Server;
use replica::{ReplicaHandle, Shared};
use view::{Side, View};

/// Opens what is on disk and starts serving it.
pub async fn start(context: Context<Config>) -> Result<Service, StartError> {
    let (config, node) = (Arc::clone(&context.config), context.node.clone());
    let clock = context.clock.clone();
    let opening = tokio::task::spawn_blocking(move || open::open(config, node, clock)).await;
    let parts = opening.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
    let others = context.config.replication.others(&context.node);
    let (log, digests) = (parts.log.clone(), parts.digests.clone());
    let room = parts.room.clone();
    let generations = parts.generations.clone();
    let recent = parts.recent.clone();
    let (driver, inbox, view) = Driver::new(parts);
    let forward = Forward::new(&context.node, &others)?;
    let metrics = Metrics::new(&context.metrics);
    let replica = ReplicaHandle {
        shared: Arc::new(Shared {
            config: Arc::clone(&context.config),
            node: context.node.clone(),
            clock: context.clock.clone(),
            inbox: inbox.clone(),
            view: view.clone(),
            log: log.clone(),
            digests,
            forward,
            metrics: metrics.clone(),
            room,
        }),
    };
    metrics.watch(replica.clone(), &context.metrics);
    ready::checks(&context.health, &replica);
    let mut failed = run_owner(driver, &context);
    begun(view.clone(), &mut failed).await?;
    if context.config.replication.role == Role::Replica {
        let follower = Follower {
            group: context.config.replication.group.clone(),
            others,
            log: log.clone(),
            generations,
            inbox: inbox.clone(),
            view: view.clone(),
            tasks: context.tasks.clone(),
        };
        context.tasks.spawn(follower.run(context.stop.clone()));
    }
    let server = Server {
        recent,
        log,
        inbox,
        view,
        clock: context.clock.clone(),
        heartbeat: context.config.replication.heartbeat(),
        draining: context.draining.clone(),
    };
    Ok(Service {
        public: handlers::public(replica, context.draining.clone()),
        peer: Some(handlers::peer(server, context.tasks.clone())),
        openapi: handlers::openapi(),
        failed: Box::pin(async move { failed.await.unwrap_or_else(|_| "stopped".to_owned()) }),
    })
}

/// Runs the owner task. What it returns resolves when the process must end.
fn run_owner(driver: Driver, context: &Context<Config>) -> oneshot::Receiver<String> {
    let (failed, failure) = oneshot::channel();
    let stop = context.stop.clone();
    context.tasks.spawn(async move {
        match driver.run(stop.clone()).await {
            // Its sender must outlive the process's orderly end.
            Ok(()) => stop.cancelled().await,
            Err(error) => {
                let _ = failed.send(chain(&error));
            }
        }
    });
    failure
}

/// Waits until a primary's epoch has begun: then it takes writes.
async fn begun(
    mut view: watch::Receiver<Arc<View>>,
    failed: &mut oneshot::Receiver<String>,
) -> Result<(), StartError> {
    tokio::select! {
        _ = view.wait_for(|view| !matches!(view.side, Side::Primary { open: false, .. })) => Ok(()),
        failure = failed => Err(StartError::new(failure.unwrap_or_else(|_| "stopped".to_owned()))),
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
