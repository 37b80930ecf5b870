//! The handle that handlers and keepers work with.

use std::sync::Arc;

use bytes::Bytes;
use chassis::clock::Clock;
use consensus::NodeId;
use messaging::catalog::{self, Announced};
use messaging::frame::{self, Records};
use raft_node::{Group, Groups, MemberInfo};
use serde::Serialize;
use telemetry::trace::TraceContext;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cluster::Member;
use crate::config::{Cluster, Config, Limits};
use crate::directory::Directory;
use crate::error::NotFound;
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::push::Pushing;
use crate::recent::Recent;
use crate::route::Peers;
use crate::state_machine::CatalogMachine;

/// The broker of this process. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Broker {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) groups: Groups,
    pub(crate) catalog: Group<CatalogMachine>,
    pub(crate) cluster: Cluster,
    /// What this broker says of itself.
    pub(crate) announced: Announced,
    pub(crate) directory: watch::Sender<Arc<Directory>>,
    /// This node's name.
    pub(crate) name: Arc<str>,
    /// The other brokers.
    pub(crate) peers: Peers,
    /// What is read live.
    pub(crate) hub: Hub,
    /// What was read of the logs of queues.
    pub(crate) recent: Recent,
    /// Changes of the catalog that may wait.
    pub(crate) admin_places: Semaphore,
    /// Why the directory is behind the catalog, if it is: tried again until it is not.
    pub(crate) behind: watch::Sender<Option<String>>,
    pub(crate) limits: Limits,
    pub(crate) clock: Clock,
    pub(crate) tasks: TaskTracker,
    pub(crate) draining: CancellationToken,
    pub(crate) stop: CancellationToken,
    pub(crate) metrics: Metrics,
    /// What webhooks share.
    pub(crate) pushing: Pushing,
    pub(crate) correlation: Correlation,
}

/// How a delivery is tied to the trace of its publisher.
pub(crate) type Correlation = chassis::config::Correlation;

/// Changes of the catalog that may wait.
const MAX_ADMIN_WAITING: usize = 256;

impl Broker {
    pub(crate) fn new(context: &chassis::Context<Config>, member: &Member) -> Self {
        let shared = Shared {
            groups: member.groups.clone(),
            catalog: member.catalog.clone(),
            announced: announced(context, member.entrance.own()),
            cluster: context.config.cluster.clone(),
            directory: watch::Sender::new(Arc::default()),
            name: context.node.as_str().into(),
            peers: Peers::new(context.config.cluster.members.id()),
            hub: Hub::default(),
            recent: Recent::default(),
            admin_places: Semaphore::new(MAX_ADMIN_WAITING),
            behind: watch::Sender::new(None),
            limits: context.config.broker.clone(),
            clock: context.clock.clone(),
            tasks: context.tasks.clone(),
            draining: context.draining.clone(),
            stop: context.stop.clone(),
            metrics: Metrics::new(&context.metrics),
            pushing: Pushing::new(&context.config),
            correlation: context.config.base.telemetry.messaging.correlation,
        };
        Self { shared: Arc::new(shared) }
    }

    /// What exists now.
    pub(crate) fn directory(&self) -> Arc<Directory> {
        self.shared.directory.borrow().clone()
    }

    /// What exists now, for lists: refused while there may be more than is known here.
    pub(crate) fn listed(&self) -> Result<Arc<Directory>, NotFound> {
        let directory = self.directory();
        directory.check_whole()?;
        Ok(directory)
    }

    /// Who this is among the brokers.
    pub(crate) fn node(&self) -> NodeId {
        self.shared.groups.node()
    }

    /// The limits of messages and consumers.
    pub(crate) fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Cancelled when the drain begins.
    pub(crate) fn draining(&self) -> &CancellationToken {
        &self.shared.draining
    }

    /// Milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> u64 {
        self.shared.clock.unix_ms()
    }

    /// A command without records, as a log entry of now.
    pub(crate) fn payload(&self, command: &impl Serialize) -> Bytes {
        frame::encode(self.now_ms(), command, &Records::default())
    }
}

fn announced(context: &chassis::Context<Config>, info: &MemberInfo) -> Announced {
    Announced {
        name: info.name.clone(),
        client_url: info.client_urls.first().cloned().unwrap_or_default(),
        peer_url: info.peer_url.clone(),
        zone: context.config.cluster.zone.clone(),
        version: catalog::VERSION,
    }
}

/// What of a message's trace its consumer is told.
pub(crate) fn creation_context(attributes: &[(String, String)]) -> Option<TraceContext> {
    let find = |name: &str| attributes.iter().find(|(key, _)| key == name);
    let (_, text) =
        find(api::headers::TRACEPARENT).or_else(|| find(crate::message::CE_TRACEPARENT))?;
    TraceContext::parse(text.as_bytes()).ok()
}
