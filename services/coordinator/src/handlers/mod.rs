//! HTTP: the native face under `/v1`, and the face of an etcd under `/v3`.

mod access;
mod caller;
mod cluster;
mod condition;
mod elections;
mod encoded;
mod etcd;
mod idempotency;
mod kv;
mod leases;
mod line;
mod locks;
mod member_start;
mod params;
pub(crate) mod peers;
mod refusal;
mod services;
mod snapshot;
mod txn;
mod version;
mod watch;
mod wire;

use std::sync::Arc;

use api::problem::Code;
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use chassis::Context;
use chassis::problem::Problem;
use chassis::sse;
use raft_node::{Groups, Members};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use utoipa::OpenApi as _;

use crate::authn::Authenticator;
use crate::backup::Backups;
use crate::config::Config;
use crate::coordinator::{Coordinator, Failure};
use crate::identity::Identity;
use crate::line::Line;
use crate::member::GROUP;
use crate::runs::Runs;
use crate::store::{Caller, KeyRange, Lease, Snapshot, Store};
use access::Access;
use caller::State;
use encoded::Encoded;
pub(crate) use etcd::{BOUNDS, faces};

/// The etcd whose behaviour `/v3` shows. Clients parse both and decide by them what they may use.
const ETCD_VERSION: &str = "3.5.21";
const ETCD_CLUSTER_VERSION: &str = "3.5.0";

/// What handlers work with.
#[derive(Clone)]
pub(crate) struct App {
    inner: Arc<Inner>,
    /// Acts for whoever sent the request.
    coordinator: Coordinator,
}

struct Inner {
    authenticator: Authenticator,
    identity: Identity,
    groups: Groups,
    /// Outlives the requests that put work there.
    tasks: TaskTracker,
    draining: CancellationToken,
    /// Room for those who wait in line.
    waiters: Arc<Semaphore>,
    max_request_bytes: usize,
    max_txn_ops: usize,
    access: Option<Arc<Access>>,
    /// What watchers are told.
    runs: Arc<Runs>,
    backups: Backups,
    /// For `/v1/watch`.
    encoded_sse: Arc<Encoded<sse::Encoded>>,
    /// For `/v3/watch`.
    encoded_etcd: Encoded<Arc<RawValue>>,
}

impl App {
    /// Headers of an answer with those that the layers add: a map that has to grow is built twice.
    const HEADERS: usize = 12;

    pub(crate) fn new(
        coordinator: Coordinator,
        identity: Identity,
        groups: Groups,
        context: &Context<Config>,
    ) -> Self {
        let inner = Inner {
            authenticator: Authenticator::new(context.config.auth.token_ttl_seconds * 1000),
            identity,
            groups,
            tasks: context.tasks.clone(),
            draining: context.draining.clone(),
            waiters: Arc::new(Semaphore::new(max_waiters(&context.config))),
            max_request_bytes: context.config.max_request_bytes,
            max_txn_ops: context.config.max_txn_ops,
            access: Access::of(&context.config.access).map(Arc::new),
            runs: Arc::default(),
            backups: Backups::default(),
            encoded_sse: Arc::default(),
            encoded_etcd: Encoded::default(),
        };
        let coordinator = coordinator.acting_for(Caller::Anonymous);
        Self { inner: Arc::new(inner), coordinator }
    }

    fn acting_for(&self, caller: Caller) -> Self {
        Self { coordinator: self.coordinator.acting_for(caller), inner: Arc::clone(&self.inner) }
    }

    fn authenticator(&self) -> &Authenticator {
        &self.inner.authenticator
    }

    fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    fn groups(&self) -> &Groups {
        &self.inner.groups
    }

    /// Who belongs to the cluster, and changes of that.
    fn members(&self) -> Members {
        self.inner.groups.members(GROUP)
    }

    /// Where callers wait for locks and for leadership.
    fn line(&self) -> Line {
        let Inner { tasks, draining, waiters, .. } = &*self.inner;
        Line::new(self.coordinator.clone(), tasks.clone(), draining.clone(), waiters.clone())
    }

    fn draining(&self) -> &CancellationToken {
        &self.inner.draining
    }

    fn runs(&self) -> &Arc<Runs> {
        &self.inner.runs
    }

    fn encoded_sse(&self) -> &Arc<Encoded<sse::Encoded>> {
        &self.inner.encoded_sse
    }

    fn encoded_etcd(&self) -> &Encoded<Arc<RawValue>> {
        &self.inner.encoded_etcd
    }

    fn max_request_bytes(&self) -> usize {
        self.inner.max_request_bytes
    }

    fn max_txn_ops(&self) -> usize {
        self.inner.max_txn_ops
    }

    fn backups(&self) -> &Backups {
        &self.inner.backups
    }

    /// Refuses what a command cannot carry.
    fn check_len(&self, len: usize) -> Result<(), Problem> {
        let max = self.max_request_bytes();
        if len <= max {
            return Ok(());
        }
        let detail = format!("this is {len} bytes, the limit is {max}; store it elsewhere");
        Err(Problem::new(Code::TooLarge, detail).with("max_bytes", max))
    }

    /// Fails unless the caller may read every key of a lease.
    fn may_see_keys(&self, store: &Store, lease: &Lease) -> Result<(), Failure> {
        let keys = lease.keys.iter().map(|key| KeyRange::One(key.clone()));
        keys.into_iter().try_for_each(|key| self.coordinator().may_read(store, &key))
    }

    /// The newest state, or for a serializable read what this node has.
    async fn read(&self, serializable: bool) -> Result<Snapshot, Failure> {
        match serializable {
            true => Ok(self.coordinator().recent().await),
            false => self.coordinator().snapshot().await,
        }
    }
}

/// Whoever waits is a request in progress, and those who end the wait must get in as well.
fn max_waiters(config: &Config) -> usize {
    config.max_waiters.min(config.base.limits.max_in_flight / 2).max(1)
}

pub(crate) fn router(app: App) -> Router {
    let native = Router::new()
        .route("/version", get(version::version).options(etcd::preflight))
        .merge(kv::router())
        .merge(txn::router())
        .merge(watch::router())
        .merge(leases::router())
        .merge(locks::router())
        .merge(elections::router())
        .merge(services::router())
        .merge(cluster::router())
        .merge(snapshot::router());
    let access = app.inner.access.clone();
    let router = native.merge(etcd::router()).with_state(app);
    match access {
        Some(access) => router.layer(from_fn_with_state(access, access::guard)),
        None => router,
    }
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "quartet-coordinator",
        description = "Linearizable keys, watches, leases, locks, elections, services."
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
        locks::acquire,
        locks::show,
        locks::release,
        elections::campaign,
        elections::show,
        elections::observe,
        elections::resign,
        services::list,
        services::show,
        services::one,
        services::register,
        services::heartbeat,
        services::deregister,
        services::watch,
        cluster::show,
        cluster::add,
        cluster::promote,
        cluster::relocate,
        cluster::remove,
        cluster::transfer,
        snapshot::snapshot,
        version::version,
    )
)]
struct Document;

pub(crate) fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}
