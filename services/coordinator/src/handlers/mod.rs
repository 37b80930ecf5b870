//! HTTP: the native face under `/v1`, and the face of an etcd under `/v3`.

mod cluster;
mod condition;
mod etcd;
mod idempotency;
mod kv;
mod leases;
mod params;
mod refusal;
mod services;
mod txn;
mod version;
mod watch;
mod wire;

use std::sync::Arc;

use api::problem::Code;
use axum::Router;
use axum::routing::get;
use chassis::Context;
use chassis::problem::Problem;
use raft_node::Groups;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi as _;

use crate::config::Config;
use crate::coordinator::{Coordinator, Failure};
use crate::identity::Identity;
use crate::store::Snapshot;

/// The etcd whose behaviour `/v3` shows. Clients parse both and decide by them what they may use.
const ETCD_VERSION: &str = "3.5.21";
const ETCD_CLUSTER_VERSION: &str = "3.5.0";

/// What handlers work with.
#[derive(Clone)]
pub(crate) struct App(Arc<Inner>);

struct Inner {
    coordinator: Coordinator,
    identity: Identity,
    groups: Groups,
    draining: CancellationToken,
    max_request_bytes: usize,
}

impl App {
    pub(crate) fn new(
        coordinator: Coordinator,
        identity: Identity,
        groups: Groups,
        context: &Context<Config>,
    ) -> Self {
        Self(Arc::new(Inner {
            coordinator,
            identity,
            groups,
            draining: context.draining.clone(),
            max_request_bytes: context.config.max_request_bytes,
        }))
    }

    fn coordinator(&self) -> &Coordinator {
        &self.0.coordinator
    }

    fn identity(&self) -> &Identity {
        &self.0.identity
    }

    fn groups(&self) -> &Groups {
        &self.0.groups
    }

    fn draining(&self) -> &CancellationToken {
        &self.0.draining
    }

    fn max_request_bytes(&self) -> usize {
        self.0.max_request_bytes
    }

    /// Refuses what a command cannot carry.
    fn check_len(&self, len: usize) -> Result<(), Problem> {
        let max = self.max_request_bytes();
        if len <= max {
            return Ok(());
        }
        let detail = format!("the value is {len} bytes, the limit is {max}; store it elsewhere");
        Err(Problem::new(Code::TooLarge, detail).with("max_bytes", max))
    }

    /// The newest state. A serializable read is content with what this node has when the newest
    /// cannot be had.
    async fn read(&self, serializable: bool) -> Result<Snapshot, Failure> {
        match self.coordinator().snapshot().await {
            Err(_) if serializable => Ok(self.coordinator().recent()),
            newest => newest,
        }
    }
}

pub(crate) use etcd::FACES;

pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/version", get(version::version))
        .merge(kv::router())
        .merge(txn::router())
        .merge(watch::router())
        .merge(leases::router())
        .merge(services::router())
        .merge(cluster::router())
        .merge(etcd::router())
        .with_state(app)
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "quartet-coordinator",
        description = "Linearizable keys, watches, leases, services."
    ),
    paths(
        kv::read,
        kv::write,
        kv::remove,
        kv::list,
        txn::txn,
        txn::compact,
        watch::watch,
        leases::grant,
        leases::list,
        leases::show,
        leases::keep_alive,
        leases::revoke,
        services::list,
        services::show,
        services::one,
        services::register,
        services::heartbeat,
        services::deregister,
        services::watch,
        cluster::show,
        version::version,
    )
)]
struct Document;

pub(crate) fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}
